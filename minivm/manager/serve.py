"""What a machine's process does beside running it: keep the console's log, and serve the control socket.

One thread, one poll(2). A client that does not read loses what is too much to keep for it, never stops the machine. One that
asks for what the console has said before gets that out of the log, as fast as it reads.
"""

from __future__ import annotations

import os
import select
import socket
from functools import partial
from time import monotonic, sleep

from minivm.machine.foreground import drain
from minivm.manager.client import short_path
from minivm.manager.control import LONGEST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from minivm.machine.machine import Machine
    from minivm.manager.control import Control
    from minivm.manager.log import ConsoleLog

__all__ = ["Server"]

CHUNK = 1 << 16
KEPT = 1 << 20  # bytes that wait for a client to read them
MOST = 64  # clients at a time; who comes then waits
LAST = 1.0  # seconds for the clients to take what the machine said last
MOMENT = 0.001  # seconds to wait after output: a UART's guest writes byte for byte, and each would wake us


class Client:
    """One connection: first lines of requests, then perhaps the console."""

    def __init__(self, stream: socket.socket) -> None:
        self.stream = stream
        self.received = b""  # the beginning of a request
        self.waiting = bytearray()  # to be sent
        self.replay: Iterator[bytes] | None = None  # to be sent then: what is in the log, and what comes into it meanwhile
        self.console = False
        self.listens_only = False  # it follows the console, but what it sends is no input

    def put(self, data: bytes) -> None:
        """Send, or keep what cannot be sent now; what is too much is lost."""
        if len(self.waiting) + len(data) <= KEPT:
            self.waiting += data
        self.flush()

    def say(self, data: bytes) -> None:
        """Pass on what the console says; to who still reads the log, that does."""
        if self.replay is None:
            self.put(data)

    @property
    def wants(self) -> bool:
        """Whether there is something to send."""
        return bool(self.waiting) or self.replay is not None

    def flush(self) -> None:
        """Send what waits. Raises OSError where the client is gone."""
        try:
            while self.wants:
                if not self.waiting and self.replay is not None:
                    self.waiting += (piece := next(self.replay, b""))
                    self.replay = self.replay if piece else None
                while self.waiting:
                    del self.waiting[: self.stream.send(self.waiting)]
        except BlockingIOError:
            pass


class Server:
    """The loop.

    Args:
        machine: what is served.
        control: answers requests.
        log: takes the console's output.
        console: descriptor that the output is read from.
    """

    def __init__(self, machine: Machine, control: Control, log: ConsoleLog, console: int) -> None:
        self._machine, self._control, self._log, self._console = machine, control, log, console
        os.set_blocking(console, False)
        self._clients: dict[int, Client] = {}
        self._listener = socket.socket(socket.AF_UNIX)
        self._room = True  # for input of the guest's console

    def listen(self, path: str) -> None:
        """Make the socket in the machine's directory, in place of one that a killed process left."""
        directory = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if os.path.lexists(short_path(directory)):
                os.unlink(short_path(directory))
            before = os.umask(0o177)  # for its owner alone
            self._listener.bind(short_path(directory))
            os.umask(before)
        finally:
            os.close(directory)
        self._listener.listen(16)
        self._listener.setblocking(False)
        self._socket = os.path.join(path, os.path.basename(short_path(0)))

    def serve(self, look: int) -> None:
        """Serve until the machine has an outcome.

        Args:
            look: readable when there is something new (foreground.Running).
        """
        while self._machine.outcome is None:
            ready = self._wait(look)
            if look in ready:
                drain(look)
                self._room = True
            if self._console in ready:
                sleep(MOMENT)
                self.take_output()
            if self._listener.fileno() in ready:
                self._accept()
            for fd, events in ready.items():
                if fd in self._clients:
                    self._attend(self._clients[fd], events)

    def _wait(self, look: int) -> dict[int, int]:
        poll = select.poll()
        for fd in (look, self._console, *[self._listener.fileno()] * (len(self._clients) < MOST)):
            poll.register(fd, select.POLLIN)
        for fd, client in self._clients.items():
            wants = 0 if client.console and not self._room else select.POLLIN
            poll.register(fd, wants | (select.POLLOUT if client.wants else 0))
        return dict(poll.poll())

    def take_output(self) -> None:
        """Take what the console said: into the log, and to who listens."""
        data = self._read()
        self._log.write(data)
        for client in [client for client in self._clients.values() if client.console]:
            self._guarded(client, partial(client.say, data))

    def _read(self) -> bytes:
        """Return what the console said; b"" where there is no more now. (A virtio-console has a descriptor of its own, so that the
        end of the pipe may be still to come.)"""
        try:
            return os.read(self._console, CHUNK)
        except BlockingIOError:
            return b""

    def _accept(self) -> None:
        try:
            stream, _ = self._listener.accept()
        except OSError:
            return
        stream.setblocking(False)
        self._clients[stream.fileno()] = Client(stream)

    def _attend(self, client: Client, events: int) -> None:
        """Go on with a client that poll names."""
        if events & select.POLLOUT:
            self._guarded(client, client.flush)
        if events & ~select.POLLOUT:
            self._guarded(client, partial(self._receive, client))

    def _guarded(self, client: Client, action: Callable[[], None]) -> None:
        """Do something with a client that may have gone, or say something silly: then it goes."""
        try:
            action()
        except BlockingIOError:
            pass
        except (OSError, ValueError):
            self._clients.pop(client.stream.fileno(), None)
            client.stream.close()

    def _receive(self, client: Client) -> None:
        data = client.stream.recv(4096)
        if not data:
            raise OSError("it has hung up")
        client.received += data
        while not client.console:
            line, newline, rest = client.received.partition(b"\n")
            if not newline:
                break
            client.received = rest
            self._request(client, line)
        if client.console and client.received:
            self._type(client, client.received)
            client.received = b""
        if len(client.received) > LONGEST:
            raise ValueError("a request without end")

    def _type(self, client: Client, data: bytes) -> None:
        if not client.listens_only:
            self._room = self._machine.type(data)

    def _request(self, client: Client, line: bytes) -> None:
        import json

        response, console = self._control.answer(line)
        client.put(json.dumps(response).encode() + b"\n")
        if console is not None:
            if console.get("replay"):
                self.take_output()  # what is on its way belongs to the log too: only there does this client get it from
                client.replay = self._log.replay()
                client.flush()
            client.console, client.listens_only = True, bool(console.get("listen"))

    def finish(self, output: int) -> None:
        """The machine has ended: pass on what its console still said.

        Args:
            output: the other end of the console, which nobody writes to any more.
        """
        os.close(output)
        while data := self._read():
            self._log.write(data)
            for client in [client for client in self._clients.values() if client.console]:
                self._guarded(client, partial(client.say, data))
        end = monotonic() + LAST
        while monotonic() < end:
            poll = select.poll()
            left = [fd for fd, client in self._clients.items() if client.wants]
            for fd in left:
                poll.register(fd, select.POLLOUT)
            if not left:
                break
            for fd, _ in poll.poll(max(0, end - monotonic()) * 1000):
                self._guarded(self._clients[fd], self._clients[fd].flush)

    def close(self) -> None:
        """Close everything, and remove the socket."""
        for client in self._clients.values():
            client.stream.close()
        self._listener.close()
        try:
            os.unlink(self._socket)
        except (AttributeError, FileNotFoundError, PermissionError):  # the last in a jail: the next start replaces it
            pass
        self._log.close()
        os.close(self._console)
