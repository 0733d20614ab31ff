"""What a network's keeper does: it answers names, and leads IPv6 to published ports, until nobody is in the network (keeper.py).

    python -m minirt.network.keeping NAME udp=4 tcp=5 tcp::::8080=6        with a lock as descriptor 3, and bound sockets

One thread waits for all sockets, and looks whether the database was written to before it answers: so it need not be told. What
is passed on to other resolvers, and connections, have threads of their own.
"""

from __future__ import annotations

import os
import signal
import socket
import sys

from minirt.network.held import LOCK
from minirt.network.keeper import relayed
from minirt.network.relay import Relay, listening

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.network.keeper import Place

__all__ = ["Keeper", "main"]

PATIENCE = 2.0  # s that a resolver has for its answer
MOST = 64  # questions that are passed on at once


class Keeper:
    """What it does.

    Args:
        network: name of its network.
        sockets: bound ones, for questions (udp, tcp) where names are answered, and by address and port of IPv6.
    """

    def __init__(self, network: str, sockets: dict[str, socket.socket]) -> None:
        from concurrent.futures import ThreadPoolExecutor

        from minirt.network.store import Store

        self.network = network
        self.udp, self.tcp = sockets.pop("udp", None), sockets.pop("tcp", None)
        self.pool = ThreadPoolExecutor(MOST)
        self.store = Store(look=True)
        self.version = -1
        self.places = {place_of(name): sock for name, sock in sockets.items()}
        self.relay = Relay()

    def run(self) -> None:
        """Serve until nobody is in the network."""
        from minirt.network.store import Store

        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(writer)
        signal.signal(signal.SIGHUP, lambda *_: None)
        if self.udp is not None:
            self.udp.setblocking(False)
        with Store():  # as soon as who started us has written down why
            pass
        self.refresh()
        while True:
            ready = self.relay.wait([reader, *(sock for sock in (self.udp, self.tcp) if sock is not None)])
            self.refresh()
            if not ready:
                self.end_unless_wanted()
            for source in ready:
                if source == reader:
                    os.read(reader, 512)
                elif source is self.udp:
                    self.datagrams()
                elif source is self.tcp:
                    self.relay.accept(self.tcp, self.questions)
                else:
                    self.relay.serve([source])

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
        self.lead(relayed(self.store, self.network))

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

    # -- IPv6 --------------------------------------------------------------------------------------------------------

    def lead(self, wanted: dict[Place, tuple[str, int]]) -> None:
        """Listen at the ports that are published, and no others."""
        for place in set(self.places) - set(wanted):
            self.relay.forget(self.places.pop(place))
        for place in set(wanted) - set(self.places):
            if (sock := listening(*place)) is not None:
                self.places[place] = sock
        self.relay.targets = {sock: wanted[place] for place, sock in self.places.items()}


def place_of(name: str) -> Place:
    """Return protocol, address and port of the host, as a socket's name says them."""
    protocol, _, rest = name.partition(":")
    address, _, port = rest.rpartition(":")
    return protocol, address, int(port)


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
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # who reads the number may send it at once, and it would end us
    os.pwrite(LOCK, str(os.getpid()).encode(), 0)
    made = {name: socket.socket(fileno=int(number)) for name, _, number in (word.partition("=") for word in sockets)}
    Keeper(network, made).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
