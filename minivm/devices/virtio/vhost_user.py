"""vhost-user: another process serves a device's queues, and we tell it where they are.

    driver writes QueueNotify -> ioeventfd ─────────> the other process reads the queue, in memory that both have mapped,
    interrupt <- irqfd <- eventfd <──────────────────  and writes what is used: no thread of ours has a part in it

What we say goes over a stream socket (QEMU's docs/interop/vhost-user.rst): | request (4) | flags (4) | size (4) | payload |,
with file descriptors beside it (man 7 unix, SCM_RIGHTS). We are the front-end, the other process is the back-end:

    at once      SET_OWNER, GET_FEATURES, GET_PROTOCOL_FEATURES, SET_PROTOCOL_FEATURES
    driver ready SET_FEATURES, SET_MEM_TABLE: which memfd is which part of guest memory
    each queue   SET_VRING_NUM, _BASE, _ADDR, _CALL, _KICK, _ENABLE
    taken away   GET_VRING_BASE, whose answer says that the queue is not used any more

Addresses of queues are meant in the front-end's own memory, and the table says where that is; we give guest-physical ones
for both, so that ours stay ours. Each request asks for an answer (REPLY_ACK): what comes next may depend on it.
"""

from __future__ import annotations

import array
import os
import select
import socket
import threading
from struct import calcsize, pack, unpack

from minivm.errors import MinivmError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from minivm.devices.virtio.queue import Queue
    from minivm.kvm.memory import GuestMemory

__all__ = ["Backend", "Remote"]

GET_FEATURES, SET_FEATURES, SET_OWNER, SET_MEM_TABLE = 1, 2, 3, 5
SET_VRING_NUM, SET_VRING_ADDR, SET_VRING_BASE, GET_VRING_BASE, SET_VRING_KICK, SET_VRING_CALL = 8, 9, 10, 11, 12, 13
GET_PROTOCOL_FEATURES, SET_PROTOCOL_FEATURES, SET_VRING_ENABLE = 15, 16, 18
HEADER, VERSION, REPLY, NEED_REPLY = "<III", 1, 1 << 2, 1 << 3
F_PROTOCOL_FEATURES = 1 << 30  # of the features: there are those of the protocol too
REPLY_ACK = 1 << 3  # of the protocol's
LIMIT = 10  # seconds in which the back-end must answer
HUNG_UP = select.POLLRDHUP | select.POLLHUP | select.POLLERR


class Backend:
    """The process that serves, as we see it: requests and answers.

    Args:
        fd: of the connected socket; stays the caller's.
        name: of the program, for errors.
        limit: seconds in which it must answer.

    Raises MinivmError where it does not answer as it should. Threads: one at a time.
    """

    def __init__(self, fd: int, name: str, limit: float = LIMIT) -> None:
        self._name = name
        self._socket = socket.socket(fileno=os.dup(fd))
        self._socket.settimeout(limit)
        self._acknowledges = False
        self.say(SET_OWNER)
        self.features = self._ask(GET_FEATURES)  # what it offers
        if self.features & F_PROTOCOL_FEATURES:
            both = self._ask(GET_PROTOCOL_FEATURES) & REPLY_ACK
            self.say(SET_PROTOCOL_FEATURES, pack("<Q", both))
            self._acknowledges = bool(both)

    def agree(self, features: int, memory: Sequence[tuple[int, GuestMemory]]) -> None:
        """The driver has agreed on features: pass them on, and say where guest memory is.

        Args:
            memory: (guest-physical address, pages) of each slot, each with its memfd.
        """
        self.say(SET_FEATURES, pack("<Q", features | self.features & F_PROTOCOL_FEATURES))
        regions = [pack("<QQQQ", base, pages.size, base, 0) for base, pages in memory]
        self.say(SET_MEM_TABLE, pack("<II", len(regions), 0) + b"".join(regions), [pages.fd for _, pages in memory])

    def begin(self, number: int, queue: Queue, kick: int, call: int) -> None:
        """Let it serve a queue.

        Args:
            kick: eventfd that the driver's notifications come by.
            call: eventfd to write to for an interrupt.
        """
        descriptors, driver, device = queue.areas
        self.say(SET_VRING_NUM, pack("<II", number, queue.size))
        self.say(SET_VRING_BASE, pack("<II", number, 0))
        self.say(SET_VRING_ADDR, pack("<IIQQQQ", number, 0, descriptors, device, driver, 0))
        self.say(SET_VRING_CALL, pack("<Q", number), [call])
        self.say(SET_VRING_KICK, pack("<Q", number), [kick])
        self._enable(number, 1)

    def end(self, number: int) -> None:
        """Take a queue back: when this returns, it is not used any more."""
        self._enable(number, 0)
        self._send(GET_VRING_BASE, pack("<II", number, 0), VERSION)
        self._answer(GET_VRING_BASE)

    def _enable(self, number: int, on: int) -> None:
        if self.features & F_PROTOCOL_FEATURES:  # else a queue is on as soon as it has its eventfd
            self.say(SET_VRING_ENABLE, pack("<II", number, on))

    def say(self, request: int, payload: bytes = b"", fds: Sequence[int] = ()) -> None:
        """Send a request, and wait until it is done. Raises MinivmError."""
        self._send(request, payload, VERSION | (NEED_REPLY if self._acknowledges else 0), fds)
        if self._acknowledges and self._answer(request):
            raise MinivmError(f"{self._name} refuses vhost-user request {request}")

    def _ask(self, request: int) -> int:
        self._send(request, b"", VERSION)
        return self._answer(request)

    def _send(self, request: int, payload: bytes, flags: int, fds: Sequence[int] = ()) -> None:
        message = pack(HEADER, request, flags, len(payload)) + payload
        beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            if self._socket.sendmsg([message], beside) < len(message):
                raise MinivmError(f"{self._name} does not take vhost-user requests")
        except OSError as error:
            raise MinivmError(f"{self._name} has gone: {error.strerror or error}") from None

    def _answer(self, request: int) -> int:
        """Return the number that an answer consists of; the one to GET_VRING_BASE is two of 32 bits."""
        size = calcsize(HEADER)
        got, flags, length = unpack(HEADER, self._receive(size))
        if got != request or not flags & REPLY or length != 8:
            raise MinivmError(f"{self._name} does not speak vhost-user: it answers request {request} with {got}, {length} bytes")
        return int.from_bytes(self._receive(length), "little")

    def _receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            try:
                more = self._socket.recv(size - len(data))
            except OSError as error:
                raise MinivmError(f"{self._name} does not answer: {error.strerror or error}") from None
            if not more:
                raise MinivmError(f"{self._name} has ended")
            data += more
        return data

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._socket.fileno()

    def close(self) -> None:
        """Hang up: a back-end that serves one machine ends then."""
        self._socket.close()


class Remote:
    """What path.py offers, where another process is the path: its thread only waits for that process' end.

    Args:
        backend: the process.
        queues: how many the device has.
        interrupt: eventfd for interrupts.
        gone: called once when the process has ended.
    """

    prompt = ()
    c = None  # nothing is served in C

    def __init__(self, backend: Backend, queues: int, interrupt: int, gone: Callable[[], None]) -> None:
        self.queues = list(range(queues))
        self.broken: Callable[[], None] = lambda: None
        self._backend, self._interrupt, self._gone = backend, interrupt, gone
        self._kicks: dict[int, int] = {}  # queue -> eventfd of the driver's notifications
        self._given: set[int] = set()
        self._end = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._ended = False
        self._stopping = threading.Event()

    def kick(self, number: int, fd: int) -> None:
        """Serve a queue whenever its eventfd is written to."""
        self._kicks[number] = fd

    def poke(self, number: int) -> None:
        """Serve a queue now."""
        os.eventfd_write(self._kicks[number], 1)

    def agree(self, features: int, memory: Sequence[tuple[int, GuestMemory]]) -> None:
        """The driver has agreed on features; see Backend.agree."""
        try:
            if not self._ended:
                self._backend.agree(features, memory)
        except MinivmError:
            self._lose()

    def give(self, number: int, queue: Queue | None) -> None:
        """Let the process use a queue; or no more: when this returns, it does not."""
        try:
            if queue is not None and not self._ended:
                self._backend.begin(number, queue, self._kicks[number], self._interrupt)
                self._given.add(number)
            elif number in self._given:
                self._given.discard(number)
                self._backend.end(number)
        except MinivmError:
            self._lose()

    def _lose(self) -> None:
        """The process has ended, or does not do what it is told: use it no more."""
        self._ended = True
        self._given.clear()
        os.eventfd_write(self._end, 1)

    def run(self) -> None:
        """Wait until stop(), or until the process has ended: the body of a thread."""
        poll = select.poll()
        poll.register(self._backend, select.POLLRDHUP)
        poll.register(self._end, select.POLLIN)
        gone = any(events & HUNG_UP for _, events in poll.poll())
        if gone or self._ended:
            self._lose()
            self._gone()
        self._stopping.wait()

    def stop(self) -> None:
        """Make run() return, from any thread."""
        self._stopping.set()
        os.eventfd_write(self._end, 1)

    def counts(self) -> dict[str, int]:
        """Nothing is counted here."""
        return {}

    def close(self) -> None:
        """Hang up; nobody may be in run()."""
        self._backend.close()
        os.close(self._end)
