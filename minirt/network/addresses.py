"""Which subnet a network gets, and which address a container: arithmetic, nothing else.

Subnets are the /24s of POOL, the lowest that overlaps neither another network nor a route of the host. In each the first
address is the bridge's, and the last is broadcast; containers get the lowest that is free, but not the one that was
given back last while there is another, as a program may still hold on to it.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, ip_address, ip_network

from minirt.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

__all__ = ["POOL", "free_address", "free_subnet", "gateway_of", "hardware_address", "parse_address", "parse_subnet"]

POOL = IPv4Network("10.89.0.0/16")
SIZE = 24  # bits


def parse_subnet(text: str) -> IPv4Network:
    """Return a subnet. Raises: UsageError."""
    try:
        network = ip_network(text)
    except ValueError as error:
        raise UsageError(f"--subnet {text}: {error}: write it as 10.1.2.0/24") from None
    if not isinstance(network, IPv4Network) or network.prefixlen > 30:
        raise UsageError(f"--subnet {text}: an IPv4 subnet of /30 or more addresses is wanted (IPv6: not implemented)")
    return network


def parse_address(text: str, subnet: IPv4Network) -> IPv4Address:
    """Return an address of a subnet for a container. Raises: UsageError."""
    try:
        address = ip_address(text)
    except ValueError as error:
        raise UsageError(f"--ip {text}: {error}") from None
    if not isinstance(address, IPv4Address) or address not in subnet:
        raise UsageError(f"--ip {text}: the network has the subnet {subnet}")
    if address in (subnet.network_address, subnet.broadcast_address, gateway_of(subnet)):
        raise UsageError(f"--ip {text}: the network itself, its gateway ({gateway_of(subnet)}) or its broadcast address")
    return address


def gateway_of(subnet: IPv4Network) -> IPv4Address:
    """Return the bridge's own address."""
    return subnet.network_address + 1


def free_subnet(taken: Iterable[IPv4Network]) -> IPv4Network:
    """Return the lowest subnet of the pool that overlaps none of these. Raises: UsageError where there is none."""
    taken = list(taken)
    for subnet in POOL.subnets(new_prefix=SIZE):
        if not any(subnet.overlaps(other) for other in taken):
            return subnet
    raise UsageError(f"all subnets of {POOL} are taken: give --subnet, or minirt network rm those that nobody needs")


def free_address(subnet: IPv4Network, taken: Collection[IPv4Address], last: IPv4Address | None = None) -> IPv4Address:
    """Return an address of a subnet that nobody has.

    Args:
        subnet: of the network.
        taken: by others.
        last: given out before: the search begins behind it, and goes round.

    Raises: UsageError where all are taken.
    """
    first, end = int(gateway_of(subnet)) + 1, int(subnet.broadcast_address)
    begin = int(last) + 1 if last is not None and first <= int(last) < end - 1 else first
    for number in (*range(begin, end), *range(first, begin)):
        if IPv4Address(number) not in taken:
            return IPv4Address(number)
    raise UsageError(f"all addresses of {subnet} are taken")


def hardware_address(address: IPv4Address) -> str:
    """Return a container's MAC address: locally administered (02), and its IP address, so that no two are the same."""
    return "02:42:" + ":".join(f"{byte:02x}" for byte in address.packed)
