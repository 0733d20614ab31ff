"""A container joins a network, or leaves all: the database first, then the kernel follows.

What is written down and what the kernel has may differ after a kill -9. So leaving removes what is there, whoever
wrote it down, and each change writes the whole table of rules.
"""

from __future__ import annotations

import socket

from minirt.network import bridge, firewall, names
from minirt.network.addresses import free_address, free_subnet, parse_address, parse_subnet
from minirt.network.ports import Port
from minirt.network.store import Network, NetworkError, Store
from minirt.state.events import tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["DEFAULT", "connect", "create", "disconnect", "leave", "remove", "sweep"]

DEFAULT = "bridge"  # made when somebody first wants it
RESERVED = ("host", "none", "default", "container")


def create(name: str, subnet: str = "", internal: bool = False, labels: dict[str, str] | None = None) -> Network:
    """Make a network. Raises: NetworkError, UsageError."""
    check_name(name)
    with Store() as store:
        return make(store, name, subnet, internal, labels or {})


def check_name(name: str) -> None:
    """Refuse what is no name of a network. Raises: NetworkError."""
    plain = name.replace("-", "a").replace("_", "a").replace(".", "a")
    if not (plain.isascii() and plain.isalnum() and name[0].isalnum()) or name in RESERVED:
        raise NetworkError(f"network {name!r}: a name is made of letters, digits, _ . - and is none of {', '.join(RESERVED)}")


def make(store: Store, name: str, subnet: str, internal: bool, labels: dict[str, str]) -> Network:
    """Write a network down, with a subnet that nobody has. Its bridge is made with its first container."""
    others = [network.subnet for network in store.networks()]
    if subnet:
        wanted = parse_subnet(subnet)
        if clash := next((other for other in others if other.overlaps(wanted)), None):
            raise NetworkError(f"--subnet {subnet}: another network has {clash}")
    else:
        wanted = free_subnet([*others, *bridge.host_subnets()])
    taken = {network.bridge for network in store.networks()}
    link = next(f"minirt{number}" for number in range(len(taken) + 1) if f"minirt{number}" not in taken)
    made = store.add_network(name, link, wanted, internal, labels)
    tell("network", "create", name, {"name": name, "type": "bridge"})
    return made


def remove(name: str) -> None:
    """Remove a network that nobody is in. Raises: NetworkError."""
    with Store() as store:
        network = store.network(name)
        store.remove_network(name)
        bridge.remove_link(network.bridge)
        write_rules(store)
        tell("network", "destroy", name, {"name": name, "type": "bridge"})


def connect(
    network: str, container: str, name: str, namespace: int, fd: int, *,
    ports: Sequence[Port] = (), aliases: Iterable[str] = (), address: str = "",
) -> str:  # fmt: skip
    """Lead a network into a container that is being made, or runs.

    Args:
        network: its name; the default one is made if it is missing.
        container: the container's id.
        name: what others of the network know it by.
        namespace: int fd of its network namespace.
        fd: rtnetlink socket made in there.
        ports: of the host, that are to lead to it.
        aliases: other names.
        address: the one it wants; by default any.

    Returns: its address. Raises: NetworkError, KernelError; it is in no network then.
    """
    if network == DEFAULT:
        make_default()
    with Store() as store:
        place = store.network(network)
        before = store.endpoints(container=container)
        taken = {end.address for end in store.endpoints(network=network)}
        wanted = parse_address(address, place.subnet) if address else free_address(place.subnet, taken, place.last)
        end = store.add_endpoint(place, container, name, wanted, list(aliases))
        interface = f"eth{len(before)}"
        for port in ports:
            store.add_port(container, reserve(port))
        bridge.remove_link(end.interface)  # of one that was killed, under the same name
        try:
            bridge.add_pair(place, end, namespace, interface)
            bridge.set_inside(fd, place, end, interface, not before)
            write_rules(store)
        except BaseException:
            bridge.remove_link(end.interface)
            raise
        names.tell(store, network)
        tell("network", "connect", network, {"container": container, "name": network, "type": "bridge"})
    return str(wanted)


def make_default() -> None:
    """Make the default network, if it is missing: written down before its bridge is made, so that no kill leaves one unknown."""
    with Store() as store:
        if not any(other.name == DEFAULT for other in store.networks()):
            make(store, DEFAULT, "", False, {})


def reserve(port: Port) -> Port:
    """Return a port whose number on the host is known, and which no program of the host listens at. Raises: NetworkError."""
    kind = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM, "sctp": socket.SOCK_STREAM}[port.protocol]
    with socket.socket(socket.AF_INET, kind) as probe:
        try:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((port.address or "0.0.0.0", port.host))
        except OSError as error:
            raise NetworkError(f"-p {port.host}:{port.inside}: port {port.host} of this host: {error.strerror}") from None
        return Port(port.address, probe.getsockname()[1], port.inside, port.protocol)


def disconnect(network: str, container: str) -> None:
    """Take a container out of a network. Raises: NetworkError where it is not in it."""
    with Store() as store:
        ends = store.endpoints(network, container)
        if not ends:
            raise NetworkError(f"container {container[:12]} is not in network {network}")
        forget(store, container, network)


def leave(container: str) -> None:
    """Take a container out of all networks, if it is in one."""
    with Store() as store:
        if store.endpoints(container=container):
            forget(store, container, "")


def forget(store: Store, container: str, network: str) -> None:
    """Remove a container's interfaces, addresses, ports and names."""
    ends = store.endpoints(network, container)
    for end in ends:
        bridge.remove_link(end.interface)
    store.remove_container(container, network)
    write_rules(store)
    for end in ends:
        names.tell(store, end.network)
        tell("network", "disconnect", end.network, {"container": container, "name": end.network, "type": "bridge"})


def sweep(alive: Iterable[str]) -> list[str]:
    """Take all containers out of their networks that are none of these; return their ids."""
    with Store() as store:
        gone = sorted({end.container for end in store.endpoints()} - set(alive))
        for container in gone:
            forget(store, container, "")
    return gone


def write_rules(store: Store) -> None:
    """Let the kernel have the rules that follow from the database."""
    firewall.apply(firewall.render(firewall.table_name(), store.networks(), store.endpoints(), store.ports()))
