"""A network's keeper: a process that answers names, and leads [::1] to published ports, while somebody is in the network.

    python -m minirt.network.keeper NAME udp=4 tcp=5 8080=6        with a lock as descriptor 3, and bound sockets

Who connects the first container makes the sockets and the lock and leaves them to it, so a question can be asked at once: it
waits in the socket until the keeper has begun. Who has the lock is alive, and whoever changes a network next starts another
where nobody has it. So nothing needs to watch over it, and SIGKILL costs the questions of the time until then. Who takes the last
container out ends it; if he was killed before that, it sees itself, after a while, that nobody is left.

[::1] is here because the kernel lets no packet with that address come in by any interface but lo: what nftables does for
127.0.0.1 (firewall.py) cannot be done for it.
"""

from __future__ import annotations

import os
import signal
import socket
import sys

from minirt.paths import state_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minirt.network.store import Endpoint, Network, Store

__all__ = ["end", "ensure", "is_alive", "is_there", "main", "wake"]

LOCK = 3
PATIENCE = 2.0  # s that a resolver has for its answer
LOOK = 30.0  # s between two looks whether somebody is left
MOST = 64  # questions that are passed on at once
CONNECTIONS = 512  # that are served at once
CHUNK = 1 << 18  # bytes
ENDING = 30.0  # s that it has to begin in, and the kernel to end it


# -- for who changes networks, in a transaction --------------------------------------------------------------------------


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
        sockets |= {str(port): sock for port in relayed(store, network.name) if (sock := listen6(port)) is not None}
        spawn(network, lock, {name: sock.fileno() for name, sock in sockets.items()})
    finally:
        os.close(lock)
        for sock in sockets.values():
            sock.close()


def relayed(store: Store, network: str) -> dict[int, tuple[str, int]]:
    """Return the ports of [::1] that lead to containers of a network: address and port there.

    A container's ports lead into its first network; into IPv6, if it has that there.
    """
    places: dict[str, Endpoint] = {}
    for end in store.endpoints():
        places.setdefault(end.container, end)
    return {
        port.host: (str(places[id].addresses[-1]), port.inside) for id, port in store.ports()
        if id in places and places[id].network == network and port.protocol == "tcp" and port.address in ("", "::", "::1")
    }  # fmt: skip


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
            tcp.listen(MOST)
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
    words = [sys.executable, "-m", "minirt.network.keeper", network.name, *given]
    script = 'cd /; "$@" </dev/null >/dev/null 2>&1 &'
    try:
        actions = [(os.POSIX_SPAWN_DUP2, fd, number) for fd, number in zip(high, numbers, strict=True)]
        pid = os.posix_spawn("/bin/sh", ["sh", "-c", script, "sh", *words], os.environ, file_actions=actions, setsid=True)
        os.waitpid(pid, 0)
    finally:
        for fd in high:
            os.close(fd)


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


# -- the process ---------------------------------------------------------------------------------------------------------


class Keeper:
    """What it does.

    Args:
        network: name of its network.
        sockets: bound ones, for questions (udp, tcp) where names are answered, and by the number of a port at [::1].
    """

    def __init__(self, network: str, sockets: dict[str, socket.socket]) -> None:
        from concurrent.futures import ThreadPoolExecutor
        from threading import BoundedSemaphore

        from minirt.network.store import Store

        self.network = network
        self.udp, self.tcp = sockets.pop("udp", None), sockets.pop("tcp", None)
        self.pool = ThreadPoolExecutor(MOST)
        self.store = Store(look=True)
        self.version = -1
        self.relays = {int(port): sock for port, sock in sockets.items()}  # port at [::1]
        self.targets: dict[socket.socket, tuple[str, int]] = {}  # where its connections are led
        self.room = BoundedSemaphore(CONNECTIONS)

    def run(self) -> None:
        """Serve until nobody is in the network."""
        import select

        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(writer)
        signal.signal(signal.SIGHUP, lambda *_: None)
        if self.udp is not None:
            self.udp.setblocking(False)
        self.refresh()
        while True:
            watched: list[Any] = [reader, *(sock for sock in (self.udp, self.tcp, *self.targets) if sock is not None)]
            ready = select.select(watched, [], [], LOOK)[0]
            self.refresh()
            if not ready:
                self.end_unless_wanted()
            for source in ready:
                if source == reader:
                    os.read(reader, 512)
                elif source is self.udp:
                    self.datagrams()
                else:
                    self.connection(source)

    def connection(self, server: socket.socket) -> None:
        """Take a connection: of questions, or to a port that is (still) led on."""
        if server is self.tcp:
            self.accept(server, self.questions)
        elif server in self.targets:
            self.accept(server, self.lead_on, self.targets[server])

    def end_unless_wanted(self) -> None:
        """End this process if nobody is in the network, before anyone can come."""
        from minirt.network.store import Store

        with Store() as store:
            if not store.endpoints(network=self.network):
                os._exit(0)  # still with the database's lock: who comes next finds ours given back

    def refresh(self) -> None:
        """Read the database again, if it was written to."""
        from minirt.network.dns import Names

        (version,) = self.store.base.execute("PRAGMA data_version").fetchone()
        if version == self.version:
            return
        self.version = version
        self.names = Names(self.network, self.store.networks(), self.store.endpoints())
        self.relay(relayed(self.store, self.network))

    # -- names -------------------------------------------------------------------------------------------------------

    def datagrams(self) -> None:
        """Answer all questions that have come; those that are passed on wait elsewhere."""
        from minirt.network.dns import answer

        assert self.udp is not None
        while True:
            try:
                data, asker = self.udp.recvfrom(65535)
            except BlockingIOError:
                return
            except OSError:  # an answer of ours that did not arrive (ICMP)
                continue
            try:
                said = answer(data, self.names, asker[0])
            except ValueError:
                continue
            if said is None:
                self.pool.submit(self.pass_on, data, asker, self.names)
            else:
                self.send(said, asker)

    def send(self, data: bytes, asker: tuple[str, int]) -> None:
        """Send an answer; who asked may have gone."""
        assert self.udp is not None
        try:
            self.udp.sendto(data, asker)
        except OSError:
            pass

    def pass_on(self, data: bytes, asker: tuple[str, int], names: object) -> None:
        """Ask another, and send what he says."""
        self.send(self.ask_others(data, asker[0], over_tcp=False), asker)

    def ask_others(self, data: bytes, asker: str, over_tcp: bool) -> bytes:
        """Return what the first of the resolvers says that says something, or that none does."""
        from minirt.network.dns import failure, host_servers

        servers = self.names.servers(asker)
        if servers is not None:
            for server in servers or host_servers():
                try:
                    return ask_over_tcp(server, data) if over_tcp else ask(server, data)
                except OSError:
                    continue
        return failure(data)

    def questions(self, connection: socket.socket) -> None:
        """Answer the questions of a connection."""
        from minirt.network.dns import answer

        asker = connection.getpeername()[0]
        while data := receive_framed(connection):
            said = answer(data, self.names, asker, 65535)
            connection.sendall(framed(said if said is not None else self.ask_others(data, asker, over_tcp=True)))

    # -- [::1] -------------------------------------------------------------------------------------------------------

    def relay(self, wanted: dict[int, tuple[str, int]]) -> None:
        """Listen at the ports that are published, and no others."""
        for port in set(self.relays) - set(wanted):
            self.relays.pop(port).close()
        for port in set(wanted) - set(self.relays):
            if (sock := listen6(port)) is not None:
                self.relays[port] = sock
        self.targets = {sock: wanted[port] for port, sock in self.relays.items()}

    def lead_on(self, connection: socket.socket, target: tuple[str, int]) -> None:
        """Lead a connection's bytes to a container, and back."""
        from threading import Thread

        with socket.create_connection(target, timeout=LOOK) as other:
            other.settimeout(None)
            back = Thread(target=copy, args=(other, connection), daemon=True)
            back.start()
            copy(connection, other)
            back.join()

    def accept(self, server: socket.socket, serve: Callable[..., None], *more: object) -> None:
        """Take a connection, and serve it beside the others."""
        from threading import Thread

        def run() -> None:
            with connection:
                try:
                    serve(connection, *more)
                except (OSError, ValueError):
                    pass
                finally:
                    self.room.release()

        try:
            connection = server.accept()[0]
        except OSError:
            return
        if not self.room.acquire(blocking=False):
            connection.close()
            return
        connection.settimeout(None if more else LOOK)
        Thread(target=run, daemon=True).start()


def listen6(port: int) -> socket.socket | None:
    """Return a stream socket at [::1]; None where the port is taken there, or this host has no IPv6: 127.0.0.1 is there."""
    sock = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("::1", port))
        sock.listen(MOST)
    except OSError:
        sock.close()
        return None
    return sock


def copy(source: socket.socket, target: socket.socket) -> None:
    """Copy until the end, and pass that on."""
    try:
        while data := source.recv(CHUNK):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        for sock in (source, target):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def family_of(server: str) -> int:
    """Return the address family of a resolver's address."""
    return socket.AF_INET6 if ":" in server else socket.AF_INET


def ask(server: str, data: bytes) -> bytes:
    """Ask a resolver by a datagram, from a port that nobody can guess. Raises: OSError."""
    with socket.socket(family_of(server), socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE)
        sock.connect((server, 53))
        sock.send(data)
        while True:
            said = sock.recv(65535)
            if said[:2] == data[:2]:
                return said


def ask_over_tcp(server: str, data: bytes) -> bytes:
    """Ask a resolver by a connection. Raises: OSError."""
    with socket.create_connection((server, 53), timeout=PATIENCE) as sock:
        sock.sendall(framed(data))
        said = receive_framed(sock)
        if not said:
            raise OSError("closed without an answer")
        return said


def framed(data: bytes) -> bytes:
    """Return a message with its length before it (RFC 1035 4.2.2)."""
    return len(data).to_bytes(2, "big") + data


def receive_framed(sock: socket.socket) -> bytes:
    """Return the next message of a connection, nothing at its end. Raises: OSError."""
    size = receive(sock, 2)
    return receive(sock, int.from_bytes(size, "big")) if size else b""


def receive(sock: socket.socket, size: int) -> bytes:
    """Return so many bytes, or nothing where the end comes before."""
    data = b""
    while len(data) < size:
        part = sock.recv(size - len(data))
        if not part:
            return b""
        data += part
    return data


def main(network: str, *sockets: str) -> int:
    """Keep a network."""
    os.set_inheritable(LOCK, False)
    os.pwrite(LOCK, str(os.getpid()).encode(), 0)
    made = {name: socket.socket(fileno=int(number)) for name, _, number in (word.partition("=") for word in sockets)}
    Keeper(network, made).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
