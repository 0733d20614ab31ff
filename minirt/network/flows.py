"""Datagrams that are led on: who sends one is given a socket of his own towards the container, so that answers find back to him.

A wildcard socket would answer from any of the host's addresses; so it answers from the one that was asked (IPV6_PKTINFO, man 7
ipv6).
"""

from __future__ import annotations

import socket
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Flows"]

IDLE = 60.0  # s without a datagram, after which one is forgotten
MOST = 256  # at once; beyond that the oldest goes
LARGEST = 65535  # bytes of a datagram


class Flow:
    """One who sends, and his socket."""

    __slots__ = ("asked", "last", "sender", "server")

    def __init__(self, server: socket.socket, sender: tuple[str, int], asked: bytes) -> None:
        self.server = server  # where he sends to
        self.sender = sender
        self.asked = asked  # struct in6_pktinfo: the address that he sends to
        self.last = time.monotonic()


class Flows:
    """All of them; iterated over, their sockets."""

    def __init__(self) -> None:
        self.flows: dict[socket.socket, Flow] = {}
        self.sockets: dict[tuple[socket.socket, tuple[str, int]], socket.socket] = {}

    def __iter__(self) -> Iterator[socket.socket]:
        return iter(self.flows)

    def forth(self, server: socket.socket, target: tuple[str, int]) -> None:
        """Lead a datagram on. Args: server, where it is waiting; target, of the container."""
        try:
            data, notes, _, sender = server.recvmsg(LARGEST, socket.CMSG_SPACE(20), socket.MSG_DONTWAIT)
            asked = next((note for level, kind, note in notes if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO)), b"")
            self.socket_of(server, sender, asked, target).send(data)
        except OSError:  # it was somebody's who has gone, or the container does not listen
            pass

    def socket_of(
        self, server: socket.socket, sender: tuple[str, int], asked: bytes, target: tuple[str, int]
    ) -> socket.socket:
        """Return a sender's own socket, connected to the container. Raises: OSError."""
        found = self.sockets.get((server, sender))
        if found is None:
            if len(self.flows) >= MOST:
                self.end(min(self.flows, key=lambda sock: self.flows[sock].last))
            found = socket.socket(socket.AF_INET6 if ":" in target[0] else socket.AF_INET, socket.SOCK_DGRAM)
            self.flows[found] = Flow(server, sender, asked)
            self.sockets[server, sender] = found
            found.connect(target)
        self.flows[found].last = time.monotonic()
        return found

    def back(self, sock: socket.socket) -> None:
        """Lead an answer back."""
        flow = self.flows.get(sock)
        if flow is None:
            return
        flow.last = time.monotonic()
        notes = [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, flow.asked)] if flow.asked else []
        try:
            flow.server.sendmsg([sock.recv(LARGEST, socket.MSG_DONTWAIT)], notes, 0, flow.sender)
        except OSError:
            pass

    def end(self, sock: socket.socket) -> None:
        """Forget a sender."""
        flow = self.flows.pop(sock)
        del self.sockets[flow.server, flow.sender]
        sock.close()

    def end_of(self, server: socket.socket) -> None:
        """Forget all who send to a socket that is about to be closed."""
        for sock in [sock for sock, flow in self.flows.items() if flow.server is server]:
            self.end(sock)

    def end_idle(self) -> None:
        """Forget those who have not sent anything for a while."""
        until = time.monotonic() - IDLE
        for sock in [sock for sock, flow in self.flows.items() if flow.last < until]:
            self.end(sock)
