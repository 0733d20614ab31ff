"""Links: a network's bridge, and the pair of interfaces that leads from it into a container (man 4 veth).

The host's side is pyroute2's. The container's side is told through a socket that its own process made in its network
namespace (the barrier `network`), as a netlink socket acts where it was made.
"""

from __future__ import annotations

import os

from minirt.errors import KernelError, MinirtError
from minirt.linux import constants as k
from minirt.linux import rtnetlink
from minirt.network.addresses import gateway_of, hardware_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipaddress import IPv4Network
    from typing import Any

    from minirt.network.store import Endpoint, Network

__all__ = ["add_bridge", "add_pair", "host_subnets", "remove_link", "set_inside"]


def add_bridge(network: Network) -> None:
    """Make a network's bridge, up and with the gateway's address, if it is not there. Raises: KernelError."""
    with route() as ip:
        found = ip.link_lookup(ifname=network.bridge)
        if not found:
            ip.link("add", ifname=network.bridge, kind="bridge")
            found = ip.link_lookup(ifname=network.bridge)
            ip.addr("add", index=found[0], address=str(gateway_of(network.subnet)), prefixlen=network.subnet.prefixlen)
        ip.link("set", index=found[0], state="up")
    # Programs of the host reach published ports by 127.0.0.1 too: its packets may then leave by the bridge.
    write_setting(f"conf/{network.bridge}/route_localnet", "1")
    if not network.internal:
        write_setting("ip_forward", "1")


def write_setting(name: str, value: str) -> None:
    """Change a setting of this network namespace (Documentation/networking/ip-sysctl.rst), if it has another value."""
    path = f"/proc/sys/net/ipv4/{name}"
    try:
        with open(path, "r+", encoding="ascii") as file:
            if file.read().strip() != value:
                file.seek(0)
                file.write(value)
    except OSError as error:
        raise KernelError(error.errno or 0, f"{path}: {error.strerror}") from None


def add_pair(network: Network, end: Endpoint, namespace: int, name: str) -> None:
    """Make the pair, one end at the bridge, the other in a network namespace. Raises: KernelError.

    Args:
        network: whose bridge it leads to; made if it is missing.
        end: the container's place.
        namespace: int fd of the container's network namespace.
        name: of the interface there.
    """
    add_bridge(network)
    with route() as ip:
        peer = {"ifname": name, "net_ns_fd": namespace, "address": hardware_address(end.address)}
        ip.link("add", ifname=end.interface, kind="veth", peer=peer)
        (bridge,), (outer,) = ip.link_lookup(ifname=network.bridge), ip.link_lookup(ifname=end.interface)
        ip.link("set", index=outer, master=bridge, state="up")


def set_inside(fd: int, network: Network, end: Endpoint, name: str, first: bool) -> None:
    """Give the container's end its address, set it up, and lead all else to the gateway.

    Args:
        fd: rtnetlink socket of the container's network namespace.
        network: which it is.
        end: the container's place.
        name: of the interface.
        first: whether this is the network that leads out.

    Raises: KernelError.
    """
    index, address = rtnetlink.find(fd, name), end.address.packed
    parts = {k.IFA_LOCAL: address, k.IFA_ADDRESS: address}
    rtnetlink.add_address(fd, index, rtnetlink.Address(k.AF_INET, network.subnet.prefixlen, 0, k.RT_SCOPE_UNIVERSE, parts))
    rtnetlink.set_up(fd, index)
    if first and not network.internal:
        rtnetlink.add_default_route(fd, index, gateway_of(network.subnet).packed)


def remove_link(name: str) -> None:
    """Remove an interface, and with it the other end of a pair; none of that name is no error."""
    with route() as ip:
        for index in ip.link_lookup(ifname=name):
            ip.link("del", index=index)


def host_subnets() -> list[IPv4Network]:
    """Return the subnets that this host has routes to, but for the default."""
    from ipaddress import IPv4Network

    with route() as ip:
        found = [(route.get_attr("RTA_DST"), route["dst_len"]) for route in ip.get_routes(family=k.AF_INET)]
    return [IPv4Network(f"{target}/{size}") for target, size in found if target and size]


class route:
    """pyroute2's IPRoute, with its errors as ours."""

    def __enter__(self) -> Any:
        try:
            from pyroute2 import IPRoute
        except ImportError:
            raise MinirtError("networks need pyroute2: pip install 'minirt[network]'") from None
        self.ip = IPRoute()
        return self.ip

    def __exit__(self, kind: Any, error: Any, _: object) -> None:
        self.ip.close()
        from pyroute2.netlink.exceptions import NetlinkError

        if isinstance(error, NetlinkError):
            raise KernelError(error.code, f"rtnetlink: {os.strerror(error.code)}{cause(error.code)}") from None


def cause(errno: int) -> str:
    """Return, after a colon, what an errno usually means here."""
    from errno import EOPNOTSUPP, EPERM

    causes = {EPERM: ": making network interfaces needs root", EOPNOTSUPP: ": this kernel has no bridge or veth driver"}
    return causes.get(errno, "")

