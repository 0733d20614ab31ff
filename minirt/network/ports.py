"""What -p says: ports of the host that lead to ports of a container, in docker's notation."""

from __future__ import annotations

from minirt.errors import UsageError

__all__ = ["Port", "parse_ports"]

PROTOCOLS = ("tcp", "udp", "sctp")


class Port:
    """One published port."""

    __slots__ = ("address", "host", "inside", "protocol")

    def __init__(self, address: str, host: int, inside: int, protocol: str) -> None:
        self.address = address  # of the host; empty: any
        self.host = host  # 0: any that is free
        self.inside = inside
        self.protocol = protocol

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Port) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __str__(self) -> str:
        return f"{self.address or '0.0.0.0'}:{self.host}->{self.inside}/{self.protocol}"


def parse_ports(text: str) -> list[Port]:
    """Return the ports of one -p: [[ADDRESS:]HOST:]CONTAINER[/PROTOCOL], each port a number or a range. Raises: UsageError."""
    rest, slash, protocol = text.partition("/")
    protocol = protocol if slash else "tcp"
    if protocol not in PROTOCOLS:
        raise UsageError(f"-p {text}: protocol {protocol!r}: there are {', '.join(PROTOCOLS)}")
    before, _, inside = rest.rpartition(":")
    address, _, host = before.rpartition(":")
    if address:
        check_address(address, text)
    insides = port_range(inside, text)
    hosts = port_range(host, text) if host else [0] * len(insides)
    if len(hosts) != len(insides):
        raise UsageError(f"-p {text}: {len(hosts)} ports of the host for {len(insides)} of the container")
    return [Port(address, outer, inner, protocol) for outer, inner in zip(hosts, insides, strict=True)]


def check_address(address: str, text: str) -> None:
    """Refuse what is no IPv4 address. Raises: UsageError."""
    from ipaddress import IPv4Address

    try:
        IPv4Address(address)
    except ValueError:
        raise UsageError(f"-p {text}: {address!r} is no IPv4 address") from None


def port_range(word: str, text: str) -> list[int]:
    """Return the ports of `80` or `8000-8010`. Raises: UsageError."""
    first, dash, last = word.partition("-")
    if not first.isdecimal() or not first.isascii() or (dash and not (last.isdecimal() and last.isascii())):
        raise UsageError(f"-p {text}: {word!r} is no port: write -p 8080:80")
    numbers = range(int(first[:6]), int((last or first)[:6]) + 1)
    if not numbers or numbers[0] < 1 or numbers[-1] > 65535:
        raise UsageError(f"-p {text}: {word!r}: ports are from 1 to 65535")
    return list(numbers)
