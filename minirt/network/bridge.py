"""Links: a network's bridge, and the pair of interfaces that leads from it into a container (man 4 veth).

Each netlink socket acts where it was made. So the container's side is told through one that its own process made in its
network namespace (the barrier `network`), and ours through one of ours. A container that comes is four or five messages, one
that goes is one: these are minirt.linux.rtnetlink's. pyroute2, which takes as long to import as a container to live, makes
what is made once a network and looks around at what else is there.
"""

from __future__ import annotations

import os
from time import monotonic_ns

from minirt.errors import KernelError, MinirtError, UsageError
from minirt.linux import constants as k
from minirt.linux import rtnetlink
from minirt.network.addresses import Subnet, hardware_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self

    from minirt.network.store import Endpoint, Network
    from minirt.trace import Sink

__all__ = ["Wire", "add_bridge", "host_subnets", "lead_out", "lead_to", "let_back", "remove_links", "set_inside"]

MACVLAN = {"bridge": "BRIDGE", "private": "PRIVATE", "vepa": "VEPA", "passthru": "PASSTHRU"}
IPVLAN = {"l2": "L2", "l3": "L3"}


class Wire:
    """A rtnetlink socket, and who is told of its messages. As a context manager it is closed in the end.

    Where the bridges of a user without root are gone, with the namespace that they were in, it leads nowhere: there is no link.

    Args:
        fd: the socket; by default a new one of the network namespace that bridges are in.
        sink: told each message (--explain, --trace).
        side: whose network namespace it is of: minirt, container.
    """

    def __init__(self, fd: int = -1, sink: Sink | None = None, side: str = "minirt") -> None:
        self.fd = open_socket() if fd < 0 else fd
        self.sink = sink
        self.side = side

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.fd >= 0:
            os.close(self.fd)

    def links(self) -> dict[str, rtnetlink.Link]:
        """Return all interfaces there, by name. Raises: KernelError."""
        return rtnetlink.links(self.fd) if self.fd >= 0 else {}

    def say(self, message: str, args: tuple[str, ...], why: str, function: Callable[..., Any], *values: Any) -> Any:
        """Send a message by a function of minirt.linux.rtnetlink, and tell of it. Raises: KernelError."""
        if self.fd < 0:
            return 0
        begin, errno = monotonic_ns(), 0
        try:
            return function(self.fd, *values)
        except KernelError as error:
            errno = error.errno or 0
            raise KernelError(errno, f"{error}{cause(errno)}") from None
        finally:
            if self.sink is not None:
                from minirt.trace import Event

                self.sink(Event(message, args, side=self.side, step="network", why=why, result=-1 if errno else 0, errno=errno,
                                time=begin, duration=monotonic_ns() - begin))  # fmt: skip


def open_socket() -> int:
    """Return a rtnetlink socket of the network namespace that bridges are in: the host's, or a user's; -1: it is gone."""
    from minirt.network import rootless

    if not rootless.is_user():
        return rtnetlink.open_socket()
    return rootless.sockets((k.AF_NETLINK, k.SOCK_RAW, k.NETLINK_ROUTE))[0] if rootless.holder() else -1


def add_bridge(wire: Wire, network: Network) -> int:
    """Return the index of a network's bridge, which is made if it is missing. Raises: KernelError."""
    name = network.bridge
    why = f"where the bridge of network {network.name} is"
    index: int = wire.say("RTM_GETLINK", (f'"{name}"',), why, rtnetlink.find, name)
    from minirt.network import rootless

    return index or (rootless.make_bridge if rootless.is_user() else make_bridge)(network)


def make_bridge(network: Network) -> int:
    """Make a network's bridge, in this process's network namespace. Returns its index. Raises: KernelError."""
    name = network.bridge
    with route() as ip:
        size = {"mtu": int(mtu)} if (mtu := mtu_of(network)) else {}
        ip.link("add", ifname=name, kind="bridge", address=hardware_address(network.ipam.gateway), **size)
        index = int(ip.link_lookup(ifname=name)[0])
        # Whatever a container says of IPv6's routers is not for this host: it must not become its way out.
        write_setting(f"ipv6/conf/{name}/accept_ra", "0", optional=True)
        write_setting(f"ipv6/conf/{name}/disable_ipv6", str(int(network.ipam6 is None)), optional=network.ipam6 is None)
        for ipam in network.ipams:
            flags = {"flags": k.IFA_F_NODAD} if ipam.version == 6 else {}  # no second of waiting whether another has it
            ip.addr("add", index=index, address=str(ipam.gateway), prefixlen=ipam.subnet.prefixlen, **flags)
        ip.link("set", index=index, state="up")
    # Programs of the host reach published ports by 127.0.0.1 too: its packets may then leave by the bridge (firewall.py, guard).
    write_setting(f"ipv4/conf/{name}/route_localnet", "1")
    if not network.internal:
        forward(network)
    return index


def forward(network: Network) -> None:
    """Let this host pass packets on."""
    write_setting("ipv4/ip_forward", "1")
    if network.ipam6 is None or read_setting("ipv6/conf/all/forwarding") == "1":
        return
    for name in os.listdir("/proc/sys/net/ipv6/conf"):  # 1: a host that forwards hears no router any more; 2: it does
        if read_setting(f"ipv6/conf/{name}/accept_ra") == "1":
            write_setting(f"ipv6/conf/{name}/accept_ra", "2")
    write_setting("ipv6/conf/all/forwarding", "1")


def read_setting(name: str) -> str:
    """Return a setting of this network namespace, nothing where it has none."""
    try:
        with open(f"/proc/sys/net/{name}", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def write_setting(name: str, value: str, optional: bool = False) -> None:
    """Change a setting of this network namespace (Documentation/networking/ip-sysctl.rst), if it has another value.

    Raises: KernelError; not where it is optional and this kernel does not have it.
    """
    path = f"/proc/sys/net/{name}"
    try:
        with open(path, "r+", encoding="ascii") as file:
            if file.read().strip() != value:
                file.seek(0)
                file.write(value)
    except FileNotFoundError as error:
        if not optional:
            raise KernelError(error.errno or 0, f"{path}: {error.strerror}: this kernel does not have it") from None
    except OSError as error:
        raise KernelError(error.errno or 0, f"{path}: {error.strerror}") from None


def mtu_of(network: Network) -> str:
    """Return the network's --opt mtu, empty for the kernel's choice."""
    return network.options.get("com.docker.network.driver.mtu", "")


def lead_to(wire: Wire, network: Network, end: Endpoint, namespace: int) -> None:
    """Make the interface that leads from a network into a container. Raises: KernelError, UsageError.

    Args:
        wire: of our network namespace.
        network: whose bridge it leads to; made if it is missing.
        end: the container's place.
        namespace: int fd of the container's network namespace.
    """
    hardware, mtu = bytes.fromhex(end.hardware.replace(":", "")), int(mtu_of(network) or 0)
    if network.driver != "bridge":
        add_child(wire, network, end, namespace, hardware, mtu)
        return
    master = add_bridge(wire, network)
    args = (f'"{end.interface}"', "veth", f"master {network.bridge}", f'peer "{end.inside}"', end.hardware)
    why = "a pair of interfaces: what goes in at one end comes out at the other; ours is at the bridge, its own is in there"
    make = (rtnetlink.add_pair, end.interface, master, end.inside, namespace, hardware, mtu)
    try:
        wire.say("RTM_NEWLINK", args, why, *make)
    except KernelError as error:
        from errno import EEXIST

        if error.errno != EEXIST:
            raise
        remove_links(wire, [end])  # of one that was killed, under the same name
        wire.say("RTM_NEWLINK", args, why, *make)


def let_back(wire: Wire, end: Endpoint) -> None:
    """Let a container reach its own published ports by the host's address. Raises: KernelError.

    Where the kernel shows bridged frames to nftables (br_netfilter), such a packet never leaves the bridge: it has to go back to
    the port that it came from.
    """
    why = "a port of its own that is published: what it sends there comes back to it"
    wire.say("RTM_NEWLINK", (f'"{end.interface}"', "hairpin on"), why, rtnetlink.let_back, end.interface)


def add_child(wire: Wire, network: Network, end: Endpoint, namespace: int, hardware: bytes, mtu: int) -> None:
    """Make an interface on the wire of one of the host's: macvlan, or ipvlan."""
    parent = network.options.get("parent", "")
    index: int = wire.say("RTM_GETLINK", (f'"{parent}"',), "whose wire is shared", rtnetlink.find, parent)
    if not index:
        raise UsageError(f"network {network.name}: this host has no interface {parent!r} (minirt network create -o parent=NAME)")
    if network.driver == "macvlan":
        mode = MACVLAN[network.options.get("macvlan_mode", "bridge")]
        data = rtnetlink.attribute(k.IFLA_MACVLAN_MODE, int(getattr(k, f"MACVLAN_MODE_{mode}")).to_bytes(4, "little"))
    else:
        mode, hardware = IPVLAN[network.options.get("ipvlan_mode", "l2")], b""
        data = rtnetlink.attribute(k.IFLA_IPVLAN_MODE, int(getattr(k, f"IPVLAN_MODE_{mode}")).to_bytes(2, "little"))
    args = (f'"{end.inside}"', network.driver, f"link {parent}", f"mode {mode.lower()}", end.hardware if hardware else "")
    why = "an interface with an address of its own on the host's wire: no bridge, no translation"
    make = (rtnetlink.add_child, network.driver, data, index, end.inside, namespace, hardware, mtu)
    wire.say("RTM_NEWLINK", tuple(filter(None, args)), why, *make)


def set_inside(wire: Wire, network: Network, end: Endpoint) -> None:
    """Give the container's end its addresses, and set it up.

    Args:
        wire: of the container's network namespace.
        network: which it is.
        end: the container's place.

    Raises: KernelError.
    """
    index: int = wire.say("RTM_GETLINK", (f'"{end.inside}"',), "its number in there", rtnetlink.find, end.inside)
    for ipam, address in zip(network.ipams, end.addresses, strict=False):
        family, flags = (k.AF_INET, 0) if ipam.version == 4 else (k.AF_INET6, k.IFA_F_NODAD)
        parts = {k.IFA_LOCAL: address.packed, k.IFA_ADDRESS: address.packed}
        given = rtnetlink.Address(family, ipam.subnet.prefixlen, flags, k.RT_SCOPE_UNIVERSE, parts)
        args = (end.inside, ipam.with_bits(address), *(["IFA_F_NODAD"] if flags else []))
        why = "its address; the network that belongs to it is then reached without a gateway"
        wire.say("RTM_NEWADDR", args, why, rtnetlink.add_address, index, given)
    wire.say("RTM_NEWLINK", (end.inside, "IFF_UP"), "let packets pass", rtnetlink.set_up, index)


def lead_out(wire: Wire, network: Network, end: Endpoint) -> None:
    """Lead what is for no network of the container's to a network's gateways. Raises: KernelError."""
    index: int = wire.say("RTM_GETLINK", (f'"{end.inside}"',), "its number in there", rtnetlink.find, end.inside)
    for ipam, _ in zip(network.ipams, end.addresses, strict=False):
        why = "all else goes to the bridge's own address, and from there on as the host knows"
        args = ("default", f"via {ipam.gateway}", f"dev {end.inside}")
        wire.say("RTM_NEWROUTE", args, why, rtnetlink.add_default_route, index, ipam.gateway.packed)


def remove_links(wire: Wire, ends: list[Endpoint], inside: bool = False) -> None:
    """Remove interfaces, and with each the other end of the pair; one that is not there is no error.

    Args:
        wire: of our network namespace, or of the container's.
        ends: whose they are.
        inside: whether it is the container's.
    """
    for end in ends:
        name = end.inside if inside else end.interface
        wire.say("RTM_DELLINK", (f'"{name}"',), "both ends of the pair go", rtnetlink.remove, name)


def host_subnets() -> list[Subnet]:
    """Return the subnets that this host has routes to, but for the default."""
    from ipaddress import ip_network

    with route() as ip:
        found = [(route.get_attr("RTA_DST"), route["dst_len"]) for route in ip.get_routes(family=k.AF_INET)]
    return [ip_network(f"{target}/{size}") for target, size in found if target and size]


def remove_bridge(name: str) -> None:
    """Remove a bridge, if it is there. Raises: KernelError."""
    with Wire() as wire:
        wire.say("RTM_DELLINK", (f'"{name}"',), "the network is removed", rtnetlink.remove, name)


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

    causes = {EPERM: ": making network interfaces needs root", EOPNOTSUPP: ": this kernel lacks the driver (bridge, veth, macvlan)"}
    return causes.get(errno, "")
