"""Between a client whose connection was taken over, and a container's monitor: bytes both ways, framed or not.

    client ──bytes──▶ frames of input ──▶ monitor        (csrc/monitor/monitor.h; docker attach, "Stream format")
    client ◀──frames, or with a terminal bytes── monitor

A frame of output is on both sides the same 8 bytes and what follows them: that is what the monitor's frames were made after.
Neither side is waited for while the other could go on: a program that answers what it reads would stand still for ever.
"""

from __future__ import annotations

import select
import socket
import ssl

from minirt.engine.monitor import ERROR, STATUS, TYPED, frame
from minirt.terminal.detach_keys import DetachKeys

__all__ = ["Pump", "farewell"]

PIECE = 32768  # bytes; the most that a frame for the monitor may hold
ROOM = 256 << 10  # bytes that wait for a side, before the other is not read any more
LINGER = 2.0  # s that a client has to take the last of it, and close
AGAIN = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)  # not now


class Pump:
    """The two copies.

    Args:
        client: the connection that was taken over, and what has come on it already.
        monitor: a connection to the container's monitor.
        tty: whether the container has a terminal: then there is one stream, and no frames.
        stdin: whether what the client sends is the container's input.
        streams: which of stdout (1) and stderr (2) the client wants.
        keys: that detach; empty: none.
    """

    def __init__(
        self, client: tuple[socket.socket, bytes], monitor: socket.socket, *,
        tty: bool, stdin: bool, streams: set[int], keys: bytes = b"",
    ) -> None:  # fmt: skip
        self.client, already = client
        self.monitor = monitor
        self.tty = tty
        self.stdin = stdin
        self.streams = streams
        self.keys = DetachKeys(keys)
        self.coming = bytearray()  # from the monitor, not yet a whole frame
        self.shown = bytearray()  # for the client
        self.typed = bytearray()  # for the monitor
        self.status: int | None = None  # as wait(2) gives it, when it has come
        self.ended = False  # the monitor says no more
        self.left = False  # the client has gone, or detached
        if already:
            self.type(already)

    def run(self) -> int | None:
        """Copy until the container ends, the client goes or detaches. Returns the status as wait(2) gives it, if it has come."""
        self.client.setblocking(False)
        self.monitor.setblocking(False)
        while not self.left and (self.shown or not self.ended):
            self.turn()
        return self.status

    def turn(self) -> None:
        """Wait until something can be done, and do it."""
        poll = select.poll()
        room = len(self.shown) < ROOM
        listening = self.stdin and len(self.typed) < ROOM
        poll.register(self.client, (select.POLLIN if listening else 0) | (select.POLLOUT if self.shown else 0))
        if not self.ended and (room or self.typed):
            poll.register(self.monitor, (select.POLLIN if room else 0) | (select.POLLOUT if self.typed else 0))
        pending = listening and isinstance(self.client, ssl.SSLSocket) and self.client.pending()
        ready = dict(poll.poll(0 if pending else None))
        client, monitor = ready.get(self.client.fileno(), 0), ready.get(self.monitor.fileno(), 0)
        if pending or client & (select.POLLIN | (select.POLLHUP if listening else 0)):
            self.listen()
        elif client & (select.POLLHUP | select.POLLERR):
            self.left = True
        if monitor & ~select.POLLOUT:
            self.look()
        if self.typed:
            self.give()
        if self.shown:
            self.show()

    def listen(self) -> None:
        """Take what the client sends; its end is that of the container's input."""
        try:
            data = self.client.recv(PIECE)
        except AGAIN:
            return
        except OSError:
            data = b""
        self.type(data)

    def type(self, data: bytes) -> None:
        """Put input on its way."""
        if not data:
            self.stdin = False
            self.typed += frame(TYPED, b"")
        elif passed := self.keys.feed(data):
            for start in range(0, len(passed), PIECE):
                self.typed += frame(TYPED, passed[start : start + PIECE])
        self.left = self.left or self.keys.detached

    def give(self) -> None:
        """Give the monitor what it takes now."""
        try:
            del self.typed[: self.monitor.send(self.typed)]
        except BlockingIOError:
            pass
        except OSError:
            self.typed.clear()  # it has gone; what it said last may still be read

    def look(self) -> None:
        """Take what the monitor says."""
        try:
            data = self.monitor.recv(2 * PIECE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self.ended = not data
        self.coming += data
        while len(self.coming) >= 8 and len(self.coming) >= 8 + (size := int.from_bytes(self.coming[4:8], "big")):
            whole = bytes(self.coming[: 8 + size])
            del self.coming[: 8 + size]
            self.take(whole)

    def take(self, whole: bytes) -> None:
        """Put a frame on its way to the client."""
        if whole[0] == STATUS:
            self.status = int.from_bytes(whole[8:], "big")
        elif (2 if whole[0] == ERROR else 1) in self.streams:
            self.shown += whole[8:] if self.tty else whole

    def show(self) -> None:
        """Give the client what it takes now."""
        try:
            del self.shown[: self.client.send(self.shown)]
        except AGAIN:
            pass
        except OSError:
            self.left = True


def farewell(client: socket.socket) -> None:
    """Say that nothing more comes, and let the client close first: what it has not read yet would be lost to it (man 7 unix)."""
    client.settimeout(LINGER)
    try:
        if isinstance(client, ssl.SSLSocket):
            client.unwrap()
            return
        client.shutdown(socket.SHUT_WR)
        while client.recv(PIECE):
            pass
    except OSError:  # a TimeoutError too: it takes its time, and what it was sent is its own by now
        pass
