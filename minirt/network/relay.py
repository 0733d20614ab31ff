"""What comes to sockets of the host is led on to containers: connections by a thread each way, datagrams by flows.py."""

from __future__ import annotations

import socket
from typing import Any

from minirt.network.flows import Flows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Relay", "listening"]

WAITING = 64  # connections that nobody has taken yet
LOOK = 30.0  # s that a connection to a container may take, and between two looks at what is idle
CONNECTIONS = 512  # that are served at once
CHUNK = 1 << 18  # bytes


def listening(protocol: str, address: str, port: int) -> socket.socket | None:
    """Return a socket at an address of the host; None where the port is taken there, or the host has no such address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        sock = socket.socket(family, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM)
    except OSError:  # a kernel without IPv6
        return None
    try:
        if protocol == "tcp":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        elif family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)  # which address was asked (flows.py)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))
        if protocol == "tcp":
            sock.listen(WAITING)
    except OSError:
        sock.close()
        return None
    return sock


class Relay:
    """Sockets of the host, and where each leads to."""

    def __init__(self) -> None:
        from threading import BoundedSemaphore

        self.targets: dict[socket.socket, tuple[str, int]] = {}
        self.flows = Flows()
        self.room = BoundedSemaphore(CONNECTIONS)

    def wait(self, more: Sequence[Any] = ()) -> list[Any]:
        """Return what has something to read; nothing for a while is nothing. Args: more, that is waited for."""
        import select

        ready = select.select([*more, *self.targets, *self.flows], [], [], LOOK)[0]
        self.flows.end_idle()
        return ready

    def serve(self, ready: Sequence[Any]) -> None:
        """Lead on what has come. Args: ready, sockets; those that are not (or no longer) of this are left alone."""
        for source in ready:
            if source in self.targets and source.type == socket.SOCK_STREAM:
                self.accept(source, lead_on, self.targets[source])
            elif source in self.targets:
                self.flows.forth(source, self.targets[source])
            else:
                self.flows.back(source)

    def forget(self, server: socket.socket) -> None:
        """Lead nothing on from a socket any more; it is closed."""
        self.flows.end_of(server)
        self.targets.pop(server, None)
        server.close()

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


def lead_on(connection: socket.socket, target: tuple[str, int]) -> None:
    """Lead a connection's bytes to a container, and back. Raises: OSError."""
    from threading import Thread

    with socket.create_connection(target, timeout=LOOK) as other:
        other.settimeout(None)
        back = Thread(target=copy, args=(other, connection), daemon=True)
        back.start()
        copy(connection, other)
        back.join()


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
