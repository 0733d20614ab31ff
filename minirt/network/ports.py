"""What -p says: ports of the host that lead to ports of a container, in docker's notation."""

from __future__ import annotations

from minirt.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Port", "exposed_ports", "parse_ports"]

PROTOCOLS = ("tcp", "udp", "sctp")


class Port:
    """One published port."""

    __slots__ = ("address", "host", "inside", "last", "protocol")

    def __init__(self, address: str, host: int, inside: int, protocol: str, last: int = 0) -> None:
        self.address = address  # of the host; empty: any
        self.host = host  # 0: any that is free
        self.inside = inside
        self.protocol = protocol
        self.last = last  # any from `host` to this one will do; 0: only `host`

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Port) and (str(self), self.last) == (str(other), other.last)

    def __hash__(self) -> int:
        return hash(str(self))

    def __str__(self) -> str:
        return f"{self.where}:{self.host}->{self.inside}/{self.protocol}"

    @property
    def where(self) -> str:
        """The host's address as it stands before a colon."""
        return f"[{self.address}]" if ":" in self.address else self.address or "0.0.0.0"

    def is_for(self, version: int) -> bool:
        """Say whether packets of IPv4 (4) or IPv6 (6) may come by it; one without an address takes both."""
        return not self.address or (6 if ":" in self.address else 4) == version


def parse_ports(text: str) -> list[Port]:
    """Return the ports of one -p: [[ADDRESS:]HOST:]CONTAINER[/PROTOCOL], each port a number or a range.

    An IPv6 address stands in brackets. A range of the host's for one port of the container: any of it that is free.
    Raises: UsageError.
    """
    rest, slash, protocol = text.partition("/")
    protocol = protocol if slash else "tcp"
    if protocol not in PROTOCOLS:
        raise UsageError(f"-p {text}: protocol {protocol!r}: there are {', '.join(PROTOCOLS)}")
    before, _, inside = rest.rpartition(":")
    address, _, host = before.rpartition(":")
    if before.startswith("[") and before.endswith("]"):  # [ADDRESS]::PORT has lost its second colon
        address, host = before, ""
    if address:
        address = parse_host_address(address, text)
    insides = port_range(inside, text)
    hosts = port_range(host, text) if host else [0] * len(insides)
    if len(insides) == 1 and len(hosts) > 1:
        return [Port(address, hosts[0], insides[0], protocol, hosts[-1])]
    if len(hosts) != len(insides):
        raise UsageError(f"-p {text}: {len(hosts)} ports of the host for {len(insides)} of the container")
    return [Port(address, outer, inner, protocol) for outer, inner in zip(hosts, insides, strict=True)]


def parse_host_address(address: str, text: str) -> str:
    """Return an address of the host, without the brackets of IPv6. Raises: UsageError."""
    from ipaddress import ip_address

    bare = address.removeprefix("[").removesuffix("]")
    try:
        found = ip_address(bare)
    except ValueError:
        raise UsageError(f"-p {text}: {address!r} is no IP address") from None
    if (found.version == 6) != address.startswith("["):
        raise UsageError(f"-p {text}: an IPv6 address stands in brackets, as -p [::1]:8080:80")
    return str(found)


def port_range(word: str, text: str, flag: str = "-p") -> list[int]:
    """Return the ports of `80` or `8000-8010`. Raises: UsageError."""
    first, dash, last = word.partition("-")
    if not first.isdecimal() or not first.isascii() or (dash and not (last.isdecimal() and last.isascii())):
        raise UsageError(f"{flag} {text}: {word!r} is no port: write {'-p 8080:80' if flag == '-p' else '80 or 80/udp'}")
    numbers = range(int(first[:6]), int((last or first)[:6]) + 1)
    if not numbers or numbers[0] < 1 or numbers[-1] > 65535:
        raise UsageError(f"{flag} {text}: {word!r}: ports are from 1 to 65535")
    return list(numbers)


def exposed_ports(texts: Iterable[str]) -> list[Port]:
    """Return the ports of EXPOSE and --expose (`80`, `53/udp`, `8000-8010`), each for any of the host's. Raises: UsageError."""
    found = {}
    for text in texts:
        word, slash, protocol = text.partition("/")
        protocol = protocol if slash else "tcp"
        if protocol not in PROTOCOLS:
            raise UsageError(f"--expose {text}: protocol {protocol!r}: there are {', '.join(PROTOCOLS)}")
        for number in port_range(word, text, "--expose"):
            found[number, protocol] = Port("", 0, number, protocol)
    return list(found.values())
