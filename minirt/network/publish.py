"""Published ports of a container whose networks are a user's (rootless.py): a process that leads connections to it.

    client ─▶ socket of the host, bound before the container begins ─▶ this process, which is in the user's namespace ─▶ container

pasta cannot: which ports it leads is said when it starts, and it is all containers'. There is one such process a container, as
podman has its rootlessport; it ends with the namespace, or by who takes the container out of its networks.

    python -m minirt.network.publish HOLDER tcp,10.89.1.2,80=4 ...       with a lock as descriptor 3, and bound sockets
"""

from __future__ import annotations

import os
import socket
import sys

from minirt.network.held import LOCK, Held
from minirt.network.relay import listening

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.network.ports import Port
    from minirt.network.store import Store

__all__ = ["settle", "stop"]


def held(container: str) -> Held:
    """Return the file that the process of a container has locked."""
    return Held(f"{container}.ports")


def settle(store: Store, container: str) -> None:
    """Let the ports that are written down lead to where the container is written down to be. Raises: NetworkError."""
    from minirt.errors import UsageError
    from minirt.network.rootless import holder
    from minirt.network.store import NetworkConflict

    stop(container)
    ports, places = [port for _, port in store.ports(container)], store.endpoints(container=container)
    if not ports or not places:
        return
    file, made = held(container), {}
    lock = file.try_lock()
    try:
        for port in ports:
            if port.protocol not in ("tcp", "udp"):
                raise UsageError(f"-p {port}: without root there are tcp and udp")
            listeners = listen(port)
            if not listeners:
                raise NetworkConflict(f"-p {port}: port {port.host} of this host: {os.strerror(98)}")
            for sock in listeners:
                made[f"{port.protocol},{places[0].address},{port.inside},{sock.fileno()}"] = sock
        file.spawn("publish", lock, [str(holder())], {name: sock.fileno() for name, sock in made.items()})
    finally:
        os.close(lock)
        for sock in made.values():
            sock.close()


def listen(port: Port) -> list[socket.socket]:
    """Return sockets at a port of the host: one of IPv4, one of IPv6, as it is for; none where all are taken."""
    wanted = [port.address] if port.address else ["0.0.0.0", "::"]
    return [sock for address in wanted if (sock := listening(port.protocol, address, port.host)) is not None]


def stop(container: str) -> None:
    """Let no port lead to a container any more."""
    if (file := held(container)).is_there:
        file.end()


def main(holder: str, *words: str) -> int:
    """Lead what comes to the container, until the namespace goes."""
    from minirt.network.relay import Relay
    from minirt.network.rootless import join

    os.set_inheritable(LOCK, False)
    os.pwrite(LOCK, str(os.getpid()).encode(), 0)
    relay = Relay()
    for word in words:
        name, _, number = word.partition("=")
        _, address, port, _ = name.split(",")
        relay.targets[socket.socket(fileno=int(number))] = (address, int(port))
    end = os.pidfd_open(int(holder))
    join(int(holder))
    while end not in (ready := relay.wait([end])):
        relay.serve(ready)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
