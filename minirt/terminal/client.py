"""Between the user's terminal (or pipes) and a container's monitor, until the container ends or the user detaches.

    stdin ──frames──▶ monitor ──▶ the container        (csrc/monitor/monitor.h)
    stdout, stderr ◀──frames── monitor ◀── the container

The monitor is not waited for: a program that writes more than it reads would stand still for ever, and so would we.
"""

from __future__ import annotations

import os
import select

from minirt.terminal.detach_keys import DetachKeys
from minirt.terminal.tty import RawTerminal, window_size
from minirt.terminal.wait import Signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    import socket as _socket
    from collections.abc import Collection
else:
    import _signal
    import _socket  # the C half of `socket`, whose other half costs ten milliseconds

__all__ = ["Client"]

CHUNK = 4096
ROOM = 64 << 10  # bytes that wait for the monitor, before no more is read
TYPED, SHOWN, ERROR, STATUS, SIZE = range(5)  # enum frame_type


class Client:
    """One who is attached.

    Args:
        socket: connected to the monitor; the caller's.
        pidfd: of the container's first process, for signals; -1: none are passed on.
        tty: whether the container has a terminal.
        keys: that detach; empty: none.
        interactive: whether our standard input is the container's.
        shown: which of its outputs are ours.
    """

    def __init__(
        self, socket: _socket.socket, pidfd: int, tty: bool, keys: bytes, interactive: bool, shown: Collection[int] = (1, 2)
    ) -> None:
        self.shown = shown
        self.socket = socket
        self.pidfd = pidfd
        self.tty = tty
        self.keys = DetachKeys(keys)
        self.stdin = 0 if interactive else -1
        self.coming = bytearray()
        self.typed = bytearray()  # frames for the monitor
        self.status: int | None = None  # as wait(2) gives it, once it has come

    def stay(self, signals: Signals) -> int | None:
        """Copy both ways. Returns the container's status as wait(2) gives it; None if the user detached, or the monitor died."""
        raw = self.stdin if self.tty and self.stdin >= 0 and os.isatty(self.stdin) else -1
        with RawTerminal(raw) as terminal:
            if self.tty:
                self.send_size()
            while self.status is None and not self.keys.detached:
                if not self.turn(signals, terminal):
                    break
        return self.status

    def turn(self, signals: Signals, terminal: RawTerminal) -> bool:
        """Wait until there is something to copy, and do it. Returns whether the monitor is still there."""
        poll = select.poll()
        monitor = self.socket.fileno()
        poll.register(monitor, select.POLLIN | (select.POLLOUT if self.typed else 0))
        for fd in (signals.reader, *((self.stdin,) if self.stdin >= 0 and len(self.typed) < ROOM else ())):
            poll.register(fd, select.POLLIN)
        ready = dict(poll.poll())
        if signals.reader in ready:
            came = signals.take(self.pidfd)
            if _signal.SIGCONT in came:
                terminal.apply()
            if self.tty and (_signal.SIGCONT in came or _signal.SIGWINCH in came):
                self.send_size()
        if self.stdin in ready:
            self.listen()
        if self.typed:
            self.give()
        return not ready.get(monitor, 0) & ~select.POLLOUT or self.look()

    def listen(self) -> None:
        """Put what was typed on its way; the end of it as an empty frame."""
        try:
            data = os.read(self.stdin, CHUNK)
        except OSError:  # EIO: the user's terminal has hung up
            data = b""
        if not data:
            self.stdin = -1
            self.send(TYPED, b"")
        elif passed := self.keys.feed(data):
            self.send(TYPED, passed)

    def send(self, type: int, data: bytes) -> None:
        """Put a frame on its way."""
        self.typed += bytes((type, 0, 0, 0)) + len(data).to_bytes(4, "big") + data

    def give(self) -> None:
        """Give the monitor what it takes now; where nobody takes it any more, the next read tells."""
        try:
            del self.typed[: self.socket.send(self.typed, _socket.MSG_DONTWAIT)]
        except BlockingIOError:
            pass
        except OSError:
            self.typed.clear()

    def send_size(self) -> None:
        """Tell the size of our terminal, if there is one."""
        size = window_size(1) or window_size(0)
        if size is not None:
            self.send(SIZE, size[0].to_bytes(2, "big") + size[1].to_bytes(2, "big"))

    def look(self) -> bool:
        """Take what has come, and show it. Returns False at the end."""
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:  # it was killed, with something of ours unread
            data = b""
        self.coming += data
        while len(self.coming) >= 8 and len(self.coming) >= 8 + (size := int.from_bytes(self.coming[4:8], "big")):
            type, content = self.coming[0], bytes(self.coming[8 : 8 + size])
            del self.coming[: 8 + size]
            if type == STATUS:
                self.status = int.from_bytes(content, "big")
            elif (fd := 2 if type == ERROR else 1) in self.shown:
                self.show(fd, content)
        return bool(data)

    def show(self, fd: int, data: bytes) -> None:
        """Write all of it, however slow the reader. Raises: BrokenPipeError."""
        while data:
            data = data[os.write(fd, data) :]
