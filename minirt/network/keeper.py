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
import signal
import socket
import sys

from minirt.paths import state_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.network.store import Endpoint, Network, Store

    Place = tuple[str, str, int]  # protocol, address and port of the host

__all__ = ["end", "ensure", "is_alive", "is_there", "listen6", "relayed", "wake"]

LOCK = 3  # the lock's descriptor in the process; its sockets' follow
WAITING = 64  # connections that nobody has taken yet
ENDING = 30.0  # s that it has to begin in, and the kernel to end it


def lock_path(network: Network) -> str:
    """Return the path of the file that a network's keeper has locked, with its process id in it."""
    return os.path.join(state_root(), "network", network.id)


def try_lock(network: Network) -> int:
    """Return a descriptor that holds a network's lock, -1 where its keeper has it."""
    import fcntl

    path = lock_path(network)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return -1
    return fd


def is_there(network: Network) -> bool:
    """Say whether a network has, or had, a keeper that nobody has ended."""
    return os.path.exists(lock_path(network))


def is_alive(network: Network) -> bool:
    """Say whether a network has a keeper."""
    fd = try_lock(network) if os.path.exists(lock_path(network)) else -2
    if fd >= 0:
        os.close(fd)
    return fd == -1


def ensure(store: Store, network: Network, answers: bool) -> None:
    """Start a network's keeper, if it has none.

    Args:
        store: in a transaction: what is found out about the port is written down.
        network: whose.
        answers: whether it answers names.

    Raises: NetworkError, KernelError.
    """
    lock = try_lock(network)
    if lock < 0:
        return
    sockets: dict[str, socket.socket] = {}
    try:
        os.ftruncate(lock, 0)  # the number of one before, which may be another process's by now
        if answers:
            sockets = bind(store, network)
        for place in relayed(store, network.name):
            if (sock := listen6(*place)) is not None:
                sockets[":".join(map(str, place))] = sock
        spawn(network, lock, {name: sock.fileno() for name, sock in sockets.items()})
    finally:
        os.close(lock)
        for sock in sockets.values():
            sock.close()


def relayed(store: Store, network: str) -> dict[Place, tuple[str, int]]:
    """Return which addresses and ports of the host, by IPv6, lead to containers of a network, and where there.

    A container's ports lead into its first network; into IPv6, if it has that there.
    """
    places: dict[str, Endpoint] = {}
    for end in store.endpoints():
        places.setdefault(end.container, end)
    return {
        (port.protocol, port.address or "::", port.host): (str(places[id].addresses[-1]), port.inside)
        for id, port in store.ports()
        if id in places and places[id].network == network and port.protocol in ("tcp", "udp") and port.is_for(6)
    }  # fmt: skip


def listen6(protocol: str, address: str, port: int) -> socket.socket | None:
    """Return a socket at an address of IPv6; None where the port is taken there, or this host has no IPv6."""
    sock = socket.socket(socket.AF_INET6, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM)
    try:
        if protocol == "tcp":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)  # which address was asked (flows.py)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))
        if protocol == "tcp":
            sock.listen(WAITING)
    except OSError:
        sock.close()
        return None
    return sock


def bind(store: Store, network: Network) -> dict[str, socket.socket]:
    """Return a datagram and a stream socket at port 53 of the gateway's address, or at another port where that is taken.

    Packets for port 53 are then led there (firewall.names).
    """
    gateway = str(network.ipam.gateway)
    for wanted in (53, 0):
        udp, tcp = (socket.socket(socket.AF_INET, kind) for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM))
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


def spawn(network: Network, lock: int, sockets: dict[str, int]) -> None:
    """Start the process, as nobody's child: sh ends at once, so who waits for children need not know of it."""
    import fcntl

    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, LOCK + 8) for fd in (lock, *sockets.values())]  # so that no dup2 hits another
    numbers = [LOCK + i for i in range(len(high))]
    given = [f"{name}={number}" for name, number in zip(sockets, numbers[1:], strict=True)]
    words = [sys.executable, "-m", "minirt.network.keeping", network.name, *given]
    script = 'cd /; "$@" </dev/null >/dev/null 2>&1 &'
    try:
        actions = [(os.POSIX_SPAWN_DUP2, fd, number) for fd, number in zip(high, numbers, strict=True)]
        pid = os.posix_spawn("/bin/sh", ["sh", "-c", script, "sh", *words], environment(), file_actions=actions, setsid=True)
        os.waitpid(pid, 0)
    finally:
        for fd in high:
            os.close(fd)


def environment() -> dict[str, str]:
    """Return its environment: ours, with whole paths, as it works in another directory."""
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    whole = {"PYTHONPATH": ":".join(filter(None, [package, os.environ.get("PYTHONPATH")]))}
    if root := os.environ.get("MINIRT_ROOT"):
        whole["MINIRT_ROOT"] = os.path.abspath(root)
    return {**os.environ, **whole}


def pid_of(network: Network) -> int:
    """Return the process id that stands in the file, 0 where none does."""
    try:
        with open(lock_path(network), encoding="ascii") as file:
            return int(file.read() or 0)
    except (OSError, ValueError):
        return 0


def end(network: Network) -> None:
    """End a network's keeper, if it has one, and wait until it has ended."""
    import select

    if is_alive(network):
        try:
            pidfd = os.pidfd_open(wait_for_pid(network))
        except OSError:
            pidfd = -1
        if pidfd >= 0:
            if is_alive(network):  # still: so the number is its own
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                select.select([pidfd], [], [], ENDING)
            os.close(pidfd)
    try:
        os.unlink(lock_path(network))
    except FileNotFoundError:
        pass


def wait_for_pid(network: Network) -> int:
    """Return the process id of a keeper that may only just have begun."""
    import time

    until = time.monotonic() + ENDING
    while not (pid := pid_of(network)) and is_alive(network) and time.monotonic() < until:
        time.sleep(0.005)
    return pid


def wake(network: Network) -> None:
    """Tell a network's keeper that ports may have changed; one that is only just beginning looks by itself."""
    pid = pid_of(network)
    if pid and is_alive(network):
        try:
            os.kill(pid, signal.SIGHUP)
        except ProcessLookupError:
            pass
