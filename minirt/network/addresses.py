"""Which subnet a network gets, and which address a container: arithmetic, nothing else.

IPv4 subnets are the /24s of POOL, the lowest that overlaps neither another network nor a route of the host; an IPv6 subnet is
a random /64 of the addresses that anyone may use for himself (RFC 4193), as a counted one would be the same on each machine.
The first address of a subnet is the gateway's, unless another is asked for. Containers get the lowest that is free, but not
the one that was given back last while there is another, as a program may still hold on to it.
"""

from __future__ import annotations

import os
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from minirt.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

__all__ = [
    "POOL", "Address", "Ipam", "Subnet", "free_address", "free_subnet", "free_subnet6", "hardware_address", "parse_address",
    "parse_hardware", "parse_ipam", "parse_subnet",
]  # fmt: skip

Address = IPv4Address | IPv6Address
Subnet = IPv4Network | IPv6Network

POOL = IPv4Network("10.89.0.0/16")
SIZE = 24  # bits
SMALLEST = {4: 30, 6: 126}  # bits of a subnet with room for a gateway and one container


class Ipam:
    """A subnet, who leads out of it, and which of its addresses are given out."""

    __slots__ = ("gateway", "range", "subnet")

    def __init__(self, subnet: Subnet, gateway: Address | None = None, range: Subnet | None = None) -> None:
        self.subnet = subnet
        self.gateway = gateway or subnet.network_address + 1
        self.range = range or subnet

    @property
    def version(self) -> int:
        """4 or 6."""
        return self.subnet.version

    def with_bits(self, address: Address) -> str:
        """Return an address of it as `10.89.0.2/24`."""
        return f"{address}/{self.subnet.prefixlen}"


def parse_subnet(text: str) -> Subnet:
    """Return a subnet. Raises: UsageError."""
    try:
        network = ip_network(text)
    except ValueError as error:
        raise UsageError(f"--subnet {text}: {error}: write it as 10.1.2.0/24 or fd00:1::/64") from None
    if network.prefixlen > SMALLEST[network.version]:
        raise UsageError(f"--subnet {text}: at most /{SMALLEST[network.version]}, else there is no room for a container")
    return network


def parse_ipam(subnet: str, gateway: str = "", range: str = "") -> Ipam:
    """Return the subnet of words like --subnet, --gateway, --ip-range. Raises: UsageError."""
    network = parse_subnet(subnet)
    wanted = inside("--gateway", gateway, network) if gateway else None
    part: Subnet | None = None
    if range:
        try:
            part = ip_network(range)
        except ValueError as error:
            raise UsageError(f"--ip-range {range}: {error}") from None
        if part.version != network.version or not part.subnet_of(network):  # type: ignore[arg-type]
            raise UsageError(f"--ip-range {range}: it is no part of {network}")
    return Ipam(network, wanted, part)


def inside(flag: str, text: str, subnet: Subnet) -> Address:
    """Return an address that somebody of a subnet can have. Raises: UsageError."""
    try:
        address = ip_address(text)
    except ValueError as error:
        raise UsageError(f"{flag} {text}: {error}") from None
    if address not in subnet:
        raise UsageError(f"{flag} {text}: the network has the subnet {subnet}")
    if address == subnet.network_address or (address.version == 4 and address == subnet.broadcast_address):
        raise UsageError(f"{flag} {text}: the network itself, or its broadcast address")
    return address


def parse_address(text: str, ipam: Ipam) -> Address:
    """Return an address of a network for a container. Raises: UsageError."""
    address = inside("--ip6" if ipam.version == 6 else "--ip", text, ipam.subnet)
    if address == ipam.gateway:
        raise UsageError(f"--ip {text}: the network's gateway")
    return address


def free_subnet(taken: Iterable[Subnet]) -> IPv4Network:
    """Return the lowest subnet of the pool that overlaps none of these. Raises: UsageError where there is none."""
    taken = [other for other in taken if other.version == 4]
    for subnet in POOL.subnets(new_prefix=SIZE):
        if not any(subnet.overlaps(other) for other in taken):
            return subnet
    raise UsageError(f"all subnets of {POOL} are taken: give --subnet, or minirt network rm those that nobody needs")


def free_subnet6() -> IPv6Network:
    """Return a /64 that nobody has: 56 of its bits are random, so another of the kind is not met (RFC 4193)."""
    return IPv6Network((b"\xfd" + os.urandom(7) + bytes(8), 64))


def free_address(ipam: Ipam, taken: Collection[Address], last: Address | None = None) -> Address:
    """Return an address of a network that nobody has.

    Args:
        ipam: of the network.
        taken: by others.
        last: given out before: the search begins behind it, and goes round.

    Raises: UsageError where all are taken.
    """
    for number in numbers(ipam, int(last) if last is not None else 0):
        address = ip_address(number) if ipam.version == 4 else IPv6Address(number)
        if address not in taken and address != ipam.gateway:
            return address
    raise UsageError(f"all addresses of {ipam.range} are taken")


def numbers(ipam: Ipam, last: int) -> Iterator[int]:
    """Yield the addresses that may be given out as numbers: those behind `last`, then the others."""
    first, end = int(ipam.range.network_address), int(ipam.range.broadcast_address)
    first += first == int(ipam.subnet.network_address)  # the network itself (in IPv6: any router of it, RFC 4291 2.6.1)
    end -= end == int(ipam.subnet.broadcast_address) and ipam.version == 4
    begin = last + 1 if first <= last < end else first
    yield from range(begin, end + 1)
    yield from range(first, begin)


def hardware_address(address: Address) -> str:
    """Return a container's MAC address: locally administered (02), and its IP address, so that no two are the same."""
    return "02:42:" + ":".join(f"{byte:02x}" for byte in address.packed[-4:])


def parse_hardware(text: str) -> str:
    """Return a MAC address as six pairs of digits. Raises: UsageError."""
    try:
        data = bytes(int(part, 16) for part in text.replace("-", ":").split(":"))
    except ValueError:
        data = b""
    if len(data) != 6 or data[0] & 1:
        raise UsageError(f"--mac-address {text}: six pairs of digits, the first of them even, as 02:42:0a:59:00:02")
    return ":".join(f"{byte:02x}" for byte in data)
