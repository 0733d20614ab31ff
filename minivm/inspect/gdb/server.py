"""The server: a socket where one gdb at a time is heard, in a thread of its own.

It sleeps in one poll(2): on the socket, and on an eventfd that says that the machine stands or has ended. When gdb goes
away, with or without a word, its breakpoints go too and the guest runs on.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import threading

from minivm.errors import MinivmError, UsageError
from minivm.inspect.gdb.breakpoints import Breakpoints
from minivm.inspect.gdb.commands import Commands, Goodbye
from minivm.inspect.gdb.halt import Halt, Stop
from minivm.inspect.gdb.memory import GuestView
from minivm.inspect.gdb.packets import INTERRUPT, Reader, frame
from minivm.inspect.probe import probe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

__all__ = ["Server", "listen"]

LOOK = 5  # milliseconds between two looks whether a processor stands on a breakpoint
AFTERWARDS = 200  # looks after gdb has gone: what steps have left undone shows soon
SIGINT = 2
CHUNK = 1 << 16
PATIENCE = 2  # seconds in which gdb must hear that the machine has ended


def listen(where: str) -> socket.socket:
    """Open the socket.

    Args:
        where: `PORT`, `HOST:PORT` (an IPv6 address in brackets), or the path of a socket in the file system: anything
            with a `/` in it.

    Returns it, the caller's to close. Raises UsageError, MinivmError.
    """
    if "/" in where:
        family, address = socket.AF_UNIX, where
        made: Any = address
    else:
        host, _, port = where.rpartition(":")
        if not (port.isascii() and port.isdigit() and int(port) < 1 << 16):
            raise UsageError(f"--gdb {where!r}: write PORT, HOST:PORT, or a path with a / in it")
        host = host.strip("[]") or "127.0.0.1"
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        made = (host, int(port))
    server = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        if family != socket.AF_UNIX:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(made)
        server.listen(1)
    except OSError as error:
        server.close()
        raise MinivmError(f"--gdb {where!r}: cannot listen there: {error.strerror or error}") from None
    return server


class Server:
    """gdb's end of a machine. To be used with `with`, around the machine's run; begin() starts it.

    Args:
        machine: minivm.machine.machine.Machine, or what has the same: config, vcpus, bytes_at, memory, outcome, stop.
        where: see listen().
        kill: called when gdb kills the machine.
        segments: (virtual address, physical address, bytes) of the kernel's file; see GuestView.
        waiting: whether the guest waits for gdb before its first instruction.
    """

    def __init__(
        self,
        machine: Any,
        where: str,
        kill: Callable[[], None],
        segments: Sequence[tuple[int, int, int]] = (),
        waiting: bool = True,
    ) -> None:
        self.machine, self._kill, self._path = machine, kill, where if "/" in where else ""
        self._socket = listen(where)
        self.eventfd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        abilities = probe()
        self.memory = GuestView(machine.bytes_at, segments, self.log)
        self.breakpoints = Breakpoints(self.memory, abilities)
        self.halt = Halt(
            machine.vcpus, machine.config.cpus, self.breakpoints, self._over, self._poke, waiting, _can_block_interrupts()
        )
        self.ended = False  # no more of the machine is to come
        self._connection: socket.socket | None = None  # gdb's, if it is there
        self._thread = threading.Thread(target=self._serve, name="gdb")
        self._lines = [abilities.describe(), self.breakpoints.describe()]

    def _over(self) -> bool:
        return self.machine.outcome is not None

    def _poke(self) -> None:
        os.eventfd_write(self.eventfd, 1)

    def log(self, text: str) -> None:
        """Say something to the person who started the machine."""
        print(f"minivm: gdb: {text}", file=sys.stderr, flush=True)

    @property
    def address(self) -> str:
        """Where it listens, as `target remote` wants it."""
        if self._path:
            return self._path
        host, port, *_ = self._socket.getsockname()
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def __enter__(self) -> Server:
        return self

    def begin(self) -> None:
        """Serve from now on, in a thread."""
        for line in self._lines:
            self.log(line)
        self.log(f"listening; say: gdb -ex 'target remote {self.address}'")
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        """The machine has ended: tell gdb how, and close."""
        self.ended = True
        self._poke()
        if self._thread.ident is not None:
            self._thread.join(PATIENCE)
            if self._thread.is_alive() and self._connection:
                with contextlib.suppress(OSError):  # closed just now
                    self._connection.shutdown(socket.SHUT_RDWR)  # it asks and does not read: an answer waits for room
            self._thread.join()
        self._socket.close()
        os.close(self.eventfd)
        if self._path:
            with contextlib.suppress(PermissionError):  # in a jail, where the name cannot be reached
                os.unlink(self._path)

    # --- the thread ---

    def _serve(self) -> None:
        with self._socket:
            looks = 0
            while not self.ended:
                poll = select.poll()
                poll.register(self._socket, select.POLLIN)
                poll.register(self.eventfd, select.POLLIN)
                ready = {fd for fd, _ in poll.poll(LOOK if looks else None)}
                self.drain()
                if looks:
                    looks -= 1
                    self.halt.look()
                if self._socket.fileno() in ready:
                    self._connection, _ = self._socket.accept()
                    with self._connection as connection:
                        try:
                            _Session(self, connection).run()
                        except Goodbye as goodbye:
                            if goodbye.kill:
                                self._kill()
                        except (OSError, ValueError) as error:
                            self.log(f"the connection is lost: {error}")
                    self._leave()
                    looks = AFTERWARDS if self.breakpoints.must_look else 0

    def drain(self) -> None:
        try:
            os.eventfd_read(self.eventfd)
        except BlockingIOError:
            pass

    def _leave(self) -> None:
        """gdb has gone: let the guest run on without breakpoints."""
        if not self.ended and not self._over():
            self.stand()
        self.breakpoints.clear()
        self.memory.physical = False
        self.halt.go(set(), set())

    def stand(self) -> None:
        """Have the machine stand, and wait until it does."""
        self.halt.stop(Stop(0, SIGINT))
        while not (self.halt.standing() or self._over()):
            select.select([self.eventfd], [], [], 0.1)
            self.drain()

    def outcome(self) -> Any:
        """Return how the machine ended."""
        return self.machine.outcome


class _Session:
    """One connection."""

    def __init__(self, server: Server, connection: socket.socket) -> None:
        self._server, self._connection = server, connection
        machine = server.machine
        self._commands = Commands(
            machine.vcpus, server.halt, server.breakpoints, server.memory, machine.bytes_at,
            lambda: [(base, pages.size) for base, pages in machine.memory],
        )  # fmt: skip
        self._reader = Reader()
        self._last = b""
        self._waits = False  # gdb waits for the machine to stop

    def run(self) -> None:
        """Serve until gdb goes away or the machine is over. Raises Goodbye, OSError, ValueError."""
        if not self._server.halt.standing():
            self._server.stand()
        while True:
            if self._waits and self._server.ended:
                self._send(b"W%02x" % (self._server.outcome().status & 0xFF))
                return
            if self._waits and self._server.halt.standing():
                self._waits = False
                self._send(self._commands.stopped())
            elif self._server.ended:
                return
            self._wait()

    def _wait(self) -> None:
        """Sleep until there is something, and answer what gdb says."""
        look = self._waits and self._server.breakpoints.must_look
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        poll.register(self._server.eventfd, select.POLLIN)
        ready = {fd for fd, _ in poll.poll(LOOK if look else None)}
        self._server.drain()
        if look and not ready:
            self._server.halt.look()
        if self._connection.fileno() in ready:
            data = self._connection.recv(CHUNK)
            if not data:
                raise Goodbye(False)
            self._take(data)

    def _take(self, data: bytes) -> None:
        for packet in self._reader.feed(data):
            self._acknowledge()
            if packet is INTERRUPT:
                if self._waits:
                    self._server.halt.stop(Stop(0, SIGINT))
                continue
            if self._waits:
                continue  # gdb asks for nothing while the machine runs
            try:
                answer = self._commands.answer(packet)
            except Goodbye:
                self._send(b"OK")
                raise
            self._waits = answer is None
            if answer is not None:
                self._send(answer)
            self._reader.quiet = not self._commands.acknowledge
        self._acknowledge()

    def _acknowledge(self) -> None:
        if self._reader.replies:
            self._say(bytes(self._reader.replies))
            self._reader.replies.clear()
        if self._reader.again:
            self._reader.again = False
            self._say(self._last)

    def _send(self, payload: bytes) -> None:
        self._last = frame(payload)
        self._say(self._last)

    def _say(self, data: bytes) -> None:
        """Send; where nobody hears it, what he has said before he left counts still, and recv(2) tells of his leaving."""
        with contextlib.suppress(OSError):
            self._connection.sendall(data)


def _can_block_interrupts() -> bool:
    """Say whether KVM keeps interrupts away during a step where asked."""
    from minivm import kvm

    system = kvm.open_kvm()
    try:
        return bool(kvm.check_extension(system, "KVM_CAP_SET_GUEST_DEBUG2") & kvm.lib.KVM_GUESTDBG_BLOCKIRQ)
    finally:
        kvm.close(system)
