"""A container joins networks, or leaves them: the database first, then the kernel follows.

Both within one transaction, so that they agree when it ends. After a kill -9 the database is as it was, and the kernel may have
more: an interface, which goes with the container's network namespace, or rules, which the next change writes anew. So leaving
removes what is there, whoever wrote it down, and who comes first looks who has gone without a word: whose interface is not there
any more has no address either.
"""

from __future__ import annotations

import socket
from contextlib import contextmanager

from minirt.linux import rtnetlink
from minirt.network import bridge, firewall, keeper, names, publish, rootless
from minirt.network.addresses import free_address, hardware_address, parse_address, parse_hardware
from minirt.network.bridge import Wire
from minirt.network.manage import DEFAULT, make_default
from minirt.network.ports import Port
from minirt.network.store import NetworkConflict, NetworkError, Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from minirt.network.store import Endpoint, Network
    from minirt.trace import Sink

__all__ = ["Attachment", "connect", "disconnect", "leave", "sweep"]


class Attachment:
    """A network that a container is to be connected to, and how; texts are as typed."""

    __slots__ = ("address", "address6", "aliases", "hardware", "network")

    def __init__(
        self, network: str, aliases: Sequence[str] = (), address: str = "", address6: str = "", hardware: str = ""
    ) -> None:
        self.network = network  # its name, or the beginning of its id
        self.aliases = list(aliases)  # other names in it
        self.address = address  # IPv4; empty: any
        self.address6 = address6
        self.hardware = hardware  # MAC address; empty: one made of its IPv4 address

    def as_dict(self) -> dict[str, str | list[str]]:
        """Return it as a JSON object, of which Attachment(**it) is the same again."""
        return {name: getattr(self, name) for name in self.__slots__}


def connect(
    wanted: Sequence[Attachment], container: str, name: str, namespace: int, fd: int, *, ports: Sequence[Port] = (),
    resolver: dict[str, list[str]] | None = None, sink: Sink | None = None,
) -> list[Endpoint]:  # fmt: skip
    """Lead networks into a container that is being made, or runs.

    Args:
        wanted: which, and how; the default one is made if it is missing.
        container: the container's id.
        name: what others of the networks know it by.
        namespace: int fd of its network namespace.
        fd: rtnetlink socket made in there.
        ports: of the host, that are to lead to it.
        resolver: what --dns (servers), --dns-search (search), --dns-option (options) say.
        sink: told each message.

    Returns: its places. Raises: NetworkError, UsageError, KernelError; it is in none of them then.
    """
    if any(one.network == DEFAULT for one in wanted):
        make_default()
    inner = Wire(fd, sink, "container")
    with Store() as store, bridges(store, sink) as wire:
        repair(store, wire)
        before = store.endpoints(container=container)
        places = [write_down(store, one, container, name, resolver or {}) for one in wanted]
        for port in ports:
            store.add_port(container, reserve(store, port))
        try:
            for network, end in places:
                bridge.lead_to(wire, network, end, namespace)
                bridge.set_inside(inner, network, end)
                if ports and network.driver == "bridge":
                    bridge.let_back(wire, end)
            if way_out(store, before) is None:
                lead_out(store, inner, [end for _, end in places])
            settle(store, sink)
            if ports and rootless.is_user():
                publish.settle(store, container)
        except BaseException:
            bridge.remove_links(wire, [end for _, end in places])
            raise
        names.tell(store, container)
        published = bool(list(store.ports(container)))
    for network, end in places:
        if published:
            keeper.wake(network)
        note("connect", network, end.container)
    return [end for _, end in places]


@contextmanager
def bridges(store: Store, sink: Sink | None) -> Iterator[Wire]:
    """Give what leads to where the bridges are; for a user without root that is made, and goes again if the block fails.

    Raises: MinirtError.
    """
    first = rootless.is_user() and not store.endpoints()
    try:
        if rootless.is_user():
            rootless.begin(store.networks())
        with Wire(sink=sink) as wire:
            yield wire
    except BaseException:
        if first:
            rootless.end()
        raise


def write_down(
    store: Store, one: Attachment, container: str, name: str, resolver: dict[str, list[str]]
) -> tuple[Network, Endpoint]:
    """Give a container an address in a network. Raises: NetworkError, UsageError."""
    network = store.network(one.network)
    others = store.endpoints(network=network.name)
    address = (
        parse_address(one.address, network.ipam) if one.address
        else free_address(network.ipam, {end.address for end in others}, network.last)
    )  # fmt: skip
    address6 = None
    if network.ipam6 is not None:
        taken = {end.address6 for end in others if end.address6 is not None}
        address6 = parse_address(one.address6, network.ipam6) if one.address6 else free_address(network.ipam6, taken, network.last6)
    elif one.address6:
        raise NetworkError(f"--ip6 {one.address6}: network {network.name} has no IPv6 (minirt network create --ipv6)")
    hardware = parse_hardware(one.hardware) if one.hardware else hardware_address(address)
    return network, store.add_endpoint(
        network, container, name, address, address6, hardware=hardware, aliases=one.aliases, resolver=resolver
    )


def way_out(store: Store, ends: Iterable[Endpoint]) -> Endpoint | None:
    """Return the first of a container's places whose network leads to the world, None where none does."""
    shut = {network.name for network in store.networks() if network.internal}
    return next((end for end in ends if end.network not in shut), None)


def lead_out(store: Store, inner: Wire, ends: list[Endpoint]) -> None:
    """Lead what is for elsewhere out by the first network that leads there."""
    end = way_out(store, ends)
    if end is not None:
        bridge.lead_out(inner, store.network(end.network), end)


def reserve(store: Store, port: Port) -> Port:
    """Return a port whose number on the host is known, and which no program of the host listens at. Raises: NetworkError."""
    failed: NetworkError | None = None
    for number in range(port.host, max(port.last, port.host) + 1):
        one = Port(port.address, number, port.inside, port.protocol)
        if port.last and store.publisher(one):
            continue
        try:
            return probe(one)
        except NetworkError as error:
            failed = error
    raise failed or NetworkConflict(f"-p {port.host}-{port.last}:{port.inside}: none of these ports of this host is free")


def probe(port: Port) -> Port:
    """Return a port with its number, if the host has it free: by taking it for a moment. Raises: NetworkError."""
    kind = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM, "sctp": socket.SOCK_STREAM}[port.protocol]
    with socket.socket(socket.AF_INET6 if ":" in port.address else socket.AF_INET, kind) as sock:
        try:
            if port.protocol != "udp":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((port.address or "0.0.0.0", port.host))
        except OSError as error:
            raise NetworkConflict(f"-p {port.host}:{port.inside}: port {port.host} of this host: {error.strerror}") from None
        return Port(port.address, sock.getsockname()[1], port.inside, port.protocol)


def disconnect(network: str, container: str, fd: int = -1) -> None:
    """Take a container out of a network.

    Args:
        network: its name, or the beginning of its id.
        container: the container's id.
        fd: rtnetlink socket of its network namespace, where it runs on: it may need another way out.

    Raises: NetworkError where it is not in it.
    """
    with Store() as store:
        place = store.network(network)
        ends = store.endpoints(place.name, container)
        if not ends:
            raise NetworkError(f"container {container[:12]} is not in network {place.name}")
        was_out = way_out(store, store.endpoints(container=container))
        if fd >= 0 and place.driver != "bridge":  # has no other end here
            bridge.remove_links(Wire(fd), ends, inside=True)
        forget(store, ends)
        if fd >= 0 and was_out is not None and was_out.network == place.name:
            lead_out(store, Wire(fd), store.endpoints(container=container))
        if rootless.is_user():
            publish.settle(store, container)  # in another network of its, if it has one
        names.tell(store, container)
    keeper.wake(place)
    note("disconnect", place, container)


def leave(container: str, sink: Sink | None = None) -> None:
    """Take a container that has ended out of all networks, if it is in one. Args: sink, told each message."""
    with Store() as store:
        ends = store.endpoints(container=container)
        if not ends:
            return
        published = bool(list(store.ports(container)))
        places = [store.network(end.network) for end in ends]
        cross_out(store, ends, sink)
    with Wire(sink=sink) as wire:  # not before: it takes as long as a container to live, and others would wait for the database
        bridge.remove_links(wire, ends)
    for place in places:
        if published:
            keeper.wake(place)
        note("disconnect", place, container)


def forget(store: Store, ends: list[Endpoint]) -> None:
    """Remove containers' interfaces, addresses and ports."""
    if not ends:
        return
    with Wire() as wire:
        bridge.remove_links(wire, ends)
    cross_out(store, ends)


def cross_out(store: Store, ends: list[Endpoint], sink: Sink | None = None) -> None:
    """Remove containers' addresses, and ports with the rules that follow from them."""
    for end in ends:
        store.remove_container(end.container, end.network)
    for container in {end.container for end in ends}:
        if not store.endpoints(container=container):
            publish.stop(container)
    settle(store, sink)


def repair(store: Store, wire: Wire) -> None:
    """Let the database and the kernel agree where somebody was killed.

    A container that has gone with nobody to see it has no interface any more: so it has no address either. An interface at a
    bridge of ours that is not written down was made in a transaction that did not end.
    """
    ours = {network.name: network.bridge for network in store.networks() if network.driver == "bridge"}
    links = wire.links() if ours else {}
    masters = {links[bridge].index for bridge in ours.values() if bridge in links}
    ends = [end for end in store.endpoints() if end.network in ours]
    known = {end.interface for end in ends}
    for link in links.values():
        if link.master in masters and link.name.startswith("mv") and link.name not in known:
            rtnetlink.remove(wire.fd, link.name)
    forget(store, [end for end in ends if end.interface not in links])


def sweep(alive: Iterable[str]) -> list[str]:
    """Take all containers out of their networks that are none of these; return their ids."""
    with Store() as store, Wire() as wire:
        repair(store, wire)
        kept = set(alive)
        gone = [end for end in store.endpoints() if end.container not in kept]
        forget(store, gone)
        settle(store)
    return sorted({end.container for end in gone})


def settle(store: Store, sink: Sink | None = None) -> None:
    """Let the kernel have the rules that follow from the database, and each network its keeper, if it needs one.

    Names are answered in all networks but the default one, as docker and podman have it; in that too where the host's only
    resolver is one of its own at 127.0.0.1, which nobody but the host can ask.
    """
    publishing = {id for id, port in store.ports() if port.is_for(6) and port.protocol in ("tcp", "udp")}
    for network in store.networks():
        ends = store.endpoints(network=network.name)
        answers = network.driver == "bridge" and (network.name != DEFAULT or not names.servers_for({}))
        if network.dns_port and not answers:
            store.set_dns_port(network.name, 0)
        if ends and (answers or any(end.container in publishing for end in ends)):
            keeper.ensure(store, network, answers)
        elif keeper.held(network).is_there:
            keeper.end(network)
    if rootless.is_user() and not store.endpoints():
        rootless.end()
    elif not rootless.is_user() or rootless.holder():
        firewall.apply(firewall.render(store.networks(), store.endpoints(), store.ports()), sink)


def note(action: str, network: Network, container: str) -> None:
    """Write down that it happened, for `minirt events`."""
    from minirt.state.events import tell

    tell("network", action, network.id, {"container": container, "name": network.name, "type": network.driver})
