"""A network's keeper: a process that answers names, and takes what IPv6 brings to published ports, while somebody is in it.

Here is how it is started, found and ended, by who changes networks and is in a transaction; what it does is in keeping.py.

Who connects the first container makes the sockets and the lock and leaves them to it, so a question can be asked at once: it
waits in the socket until the keeper has begun. Who has the lock is alive, and whoever changes a network next starts another
where nobody has it. So nothing needs to watch over it, and SIGKILL costs the questions of the time until then. Who takes the last
container out ends it; if he was killed before that, it sees itself, after a while, that nobody is left.

Published ports are nftables' (firewall.py), but for two: what comes by IPv6 for a container that has none, and what comes from
[::1]: the kernel lets no packet with that address come in by any interface but lo, so what is done for 127.0.0.1 cannot be done.
"""

from __future__ import annotations

import os
import socket

from minirt.network.held import Held
from minirt.network.relay import WAITING, listening

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.network.store import Endpoint, Network, Store

    Place = tuple[str, str, int]  # protocol, address and port of the host

__all__ = ["end", "ensure", "held", "relayed", "wake"]


def held(network: Network) -> Held:
    """Return the file that a network's keeper has locked."""
    return Held(network.id)


def ensure(store: Store, network: Network, answers: bool) -> None:
    """Start a network's keeper, if it has none.

    Args:
        store: in a transaction: what is found out about the port is written down.
        network: whose.
        answers: whether it answers names.

    Raises: NetworkError, KernelError.
    """
    lock = held(network).try_lock()
    if lock < 0:
        return
    sockets: dict[str, socket.socket] = {}
    try:
        if answers:
            sockets = bind(store, network)
        for place in relayed(store, network.name):
            if (sock := listening(*place)) is not None:
                sockets[":".join(map(str, place))] = sock
        held(network).spawn("keeping", lock, [network.name], {name: sock.fileno() for name, sock in sockets.items()})
    finally:
        os.close(lock)
        for sock in sockets.values():
            sock.close()


def relayed(store: Store, network: str) -> dict[Place, tuple[str, int]]:
    """Return which addresses and ports of the host, by IPv6, lead to containers of a network, and where there.

    A container's ports lead into its first network; into IPv6, if it has that there. Those of a user's are publish.py's.
    """
    from minirt.network.rootless import is_user

    if is_user():
        return {}
    places: dict[str, Endpoint] = {}
    for end in store.endpoints():
        places.setdefault(end.container, end)
    return {
        (port.protocol, port.address or "::", port.host): (str(places[id].addresses[-1]), port.inside)
        for id, port in store.ports()
        if id in places and places[id].network == network and port.protocol in ("tcp", "udp") and port.is_for(6)
    }  # fmt: skip


def bind(store: Store, network: Network) -> dict[str, socket.socket]:
    """Return a datagram and a stream socket at port 53 of the gateway's address, or at another port where that is taken.

    Packets for port 53 are then led there (firewall.names).
    """
    gateway = str(network.ipam.gateway)
    for wanted in (53, 0):
        udp, tcp = where_bridges_are(socket.SOCK_DGRAM, socket.SOCK_STREAM)
        try:
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of a killed one may still linger
            udp.bind((gateway, wanted))
            port = udp.getsockname()[1]
            tcp.bind((gateway, port))
            tcp.listen(WAITING)
        except OSError as error:
            udp.close()
            tcp.close()
            failed = error
            continue
        if port != network.dns_port:
            store.set_dns_port(network.name, port)
        return {"udp": udp, "tcp": tcp}
    from minirt.network.store import NetworkError

    raise NetworkError(f"names of network {network.name}: {gateway}: {failed.strerror}")


def where_bridges_are(*kinds: int) -> list[socket.socket]:
    """Return sockets of IPv4 that act where the bridges are. Args: kinds, the type of each."""
    from minirt.network import rootless

    if not rootless.is_user():
        return [socket.socket(socket.AF_INET, kind) for kind in kinds]
    return [socket.socket(fileno=fd) for fd in rootless.sockets(*((socket.AF_INET, kind, 0) for kind in kinds))]


def end(network: Network) -> None:
    """End a network's keeper, if it has one, and wait until it has ended."""
    held(network).end()


def wake(network: Network) -> None:
    """Tell a network's keeper that ports may have changed."""
    held(network).wake()
