"""virtio-console: a terminal that costs an exit a line, not two a character, and more ports (VIRTIO 1.2, 5.3).

    queues    0 input and 1 output of port 0; 2 and 3 control messages; from 4 on input and output of ports 1, 2 ...
    config    | columns (2) | rows (2) | number of ports (4) | emergency write (4) |
    message   | port (4) | event (2) | value (2) | a name |
    events    to the device: 0 DEVICE_READY, 3 PORT_READY, 6 PORT_OPEN
              to the driver: 1 PORT_ADD, 4 CONSOLE_PORT, 5 RESIZE, 6 PORT_OPEN, 7 PORT_NAME

Port 0 is a console for people: Linux calls it hvc0 (console=hvc0). Each other port has a name, by which programs of the guest
find it (/dev/virtio-ports/NAME), and a socket on the host: who connects to it talks to them, one at a time.
Bytes go by csrc/kvm/console.c; here is what opens and closes. Output of port 0 is taken by the vCPU's own thread: while hvc waits
for that it does nothing else, and another thread would only come later.

Simplified: what is typed goes to the guest as soon as its driver has a buffer. What comes before a program has opened hvc0
was seen not to reach it (Linux 6.12, where the driver is a module).
"""

from __future__ import annotations

import os
import threading
from struct import Struct, pack
from time import monotonic, sleep

from minivm.devices.virtio.path import Path
from minivm.errors import KvmError
from minivm.kvm._kvm import lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from socket import socket
    from typing import Any

    from minivm.devices.virtio.mmio import Mmio

__all__ = ["Console", "Port"]

F_SIZE, F_MULTIPORT = 1 << 0, 1 << 1
OUTPUT, CONTROL_IN, CONTROL_OUT = 1, 2, 3
DEVICE_READY, PORT_ADD, PORT_READY, CONSOLE_PORT, RESIZE, PORT_OPEN, PORT_NAME = 0, 1, 3, 4, 5, 6, 7
MESSAGE = Struct("<IHH")
MOST_MESSAGES = 64  # that wait for a buffer: a driver that asks and asks, and gives none, is not answered
INPUT_GONE, OUTPUT_GONE = 1, 2
PATIENCE = 5  # seconds without a byte taken, after which whoever reads the last output is taken to have left


class Port:
    """A port with a name.

    Args:
        name: what the guest sees.
        listener: a socket that listens; not blocking; stays the caller's.
    """

    def __init__(self, name: str, listener: socket) -> None:
        self.name, self.listener = name, listener
        self.connection: socket | None = None


class Console:
    """The device.

    Args:
        out: descriptor for what the guest prints, not blocking unless a file; stays the caller's.
        ports: besides the console.
        room: called when push() may be called again after it returned False.
        gone: called when what the guest prints cannot be written any more.
        size: (columns, rows) of the terminal, where there is one.
        socket: whether out is a socket.
    """

    name = "virtio-console"
    device_id = 3

    def __init__(
        self, out: int, ports: Sequence[Port] = (), *, room: Callable[[], None] = lambda: None,
        gone: Callable[[], None] = lambda: None, size: tuple[int, int] | None = None, socket: bool = False,
    ) -> None:  # fmt: skip
        self._out, self._socket, self._ports, self._room, self._gone, self._size = out, socket, list(ports), room, gone, size
        self.queues = 4 + 2 * len(ports) if ports else 2
        self.in_python = {CONTROL_IN, CONTROL_OUT} if ports else set()
        self.features = (F_MULTIPORT if ports else 0) | (F_SIZE if size else 0)
        self.transport: Mmio | None = None
        self._in, self._typed = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._waiting = b""  # typed, and not in the pipe yet
        self._lock = threading.Lock()
        self._messages: list[bytes] = []

    def config(self) -> bytes:
        """Return what the driver finds behind the registers."""
        columns, rows = self._size or (0, 0)
        return pack("<HHII", columns, rows, 1 + len(self._ports), 0)

    def connect(self, registers: Any, interrupt: int) -> list[Path]:
        """Return the path. Raises KvmError."""
        c = lib.console_create(registers, interrupt, 1 + len(self._ports))
        self._path = Path(c, range(self.queues), self._look, prompt=[OUTPUT])
        _check(lib.console_join(c, 0, self._in, self._out, self._socket), "EPOLL_CTL_ADD")
        for number, port in enumerate(self._ports, 1):
            _check(lib.console_listen(c, number, port.listener.fileno()), "EPOLL_CTL_ADD")
        return [self._path]

    def begin(self, features: int) -> None:
        """The driver has agreed on these features: one that knows of one port only has it open."""
        self._messages.clear()
        for number in range(1 + len(self._ports)):
            lib.console_open(self._path.c, number, number == 0 and not features & F_MULTIPORT)

    def close(self) -> None:
        """Give the pipe and the connections back; the path is closed."""
        os.close(self._in)
        os.close(self._typed)
        for port in self._ports:
            if port.connection:
                port.connection.close()

    # --- what is typed ---

    def push(self, data: bytes) -> bool:
        """Take what is typed. Returns False when to wait for room() before the next call."""
        with self._lock:
            self._waiting += data
            return self._feed() or self._feed_later()

    def _feed(self) -> bool:
        """Write to the pipe that the path reads. Returns whether all of it went in."""
        try:
            while self._waiting:
                self._waiting = self._waiting[os.write(self._typed, self._waiting) :]
        except BlockingIOError:
            return False
        return True

    def _feed_later(self) -> bool:
        """Ask to be told of room, and look again: it may have come before we asked."""
        lib.console_want_room(self._path.c, 0)
        return self._feed()

    def drain(self, meanwhile: Callable[[], None]) -> None:
        """Wait until what the guest has printed is written: it may have switched off before its reader was ready.

        Args:
            meanwhile: called again and again; it may be the reader.
        """
        end, before = monotonic() + PATIENCE, -1
        while lib.console_pending(self._path.c) and monotonic() < end:
            done = self._path.counts()["bytes"]
            if done != before:
                end, before = monotonic() + PATIENCE, done
            meanwhile()
            sleep(0.001)

    # --- what the path cannot handle ---

    def _look(self, source: int) -> None:
        number = source - lib.SOURCE_FD
        if number < 0:
            self._control()
        elif number >= 16:
            self._accept(number - 16)
        elif number == 0:
            self._look_at_console()
        elif lib.console_gone(self._path.c, number):
            self._leave(number)

    def _look_at_console(self) -> None:
        if lib.console_gone(self._path.c, 0) & OUTPUT_GONE:
            self._gone()
        with self._lock:
            room = self._feed() or self._feed_later()
        if room:
            self._room()

    def _accept(self, number: int) -> None:
        """Somebody connects to a port; while somebody else is there, they wait in the listener's queue."""
        port = self._ports[number - 1]
        if port.connection:
            return
        try:
            port.connection, _ = port.listener.accept()
        except OSError:
            return  # nobody is there any more
        port.connection.setblocking(False)
        fd = port.connection.fileno()
        _check(lib.console_join(self._path.c, number, fd, fd, True), "EPOLL_CTL_ADD")
        self._tell(number, PORT_OPEN, 1)

    def _leave(self, number: int) -> None:
        port = self._ports[number - 1]
        lib.console_part(self._path.c, number)
        if port.connection:
            port.connection.close()
        port.connection = None
        self._tell(number, PORT_OPEN, 0)
        self._accept(number)

    # --- control messages ---

    def _control(self) -> None:
        """Hear what the driver says, and answer. A message that makes no sense is passed over."""
        assert self.transport is not None
        with self.transport.lock:
            queue = self.transport.queue(CONTROL_OUT)
            while queue is not None and (chain := queue.pop()) is not None:
                data = b"".join(chain.readable)[: MESSAGE.size] if sum(map(len, chain.readable)) <= 4096 else b""
                queue.push(chain, 0)
                if len(data) == MESSAGE.size:
                    self._hear(*MESSAGE.unpack(data))
            self._deliver()

    def _hear(self, number: int, event: int, value: int) -> None:
        if event == DEVICE_READY and value:
            for port in range(1 + len(self._ports)):
                self._add(port, PORT_ADD, 1)
        elif number > len(self._ports):
            return
        elif event == PORT_OPEN:
            lib.console_open(self._path.c, number, bool(value))
        elif event == PORT_READY and value:
            self._introduce(number)

    def _introduce(self, number: int) -> None:
        """Tell the driver what kind of port it is."""
        if number == 0:
            self._add(0, CONSOLE_PORT, 1)
            if self._size:
                columns, rows = self._size
                # 5.3.6.2 has the columns first; Linux has always read the rows first (drivers/char/virtio_console.c)
                self._add(0, RESIZE, 0, pack("<HH", rows, columns))
            self._add(0, PORT_OPEN, 1)
            return
        port = self._ports[number - 1]
        self._add(number, PORT_NAME, 1, os.fsencode(port.name))
        self._add(number, PORT_OPEN, int(port.connection is not None))

    def _add(self, number: int, event: int, value: int, more: bytes = b"") -> None:
        if len(self._messages) < MOST_MESSAGES:
            self._messages.append(MESSAGE.pack(number, event, value) + more)

    def _tell(self, number: int, event: int, value: int) -> None:
        assert self.transport is not None
        with self.transport.lock:
            self._add(number, event, value)
            self._deliver()

    def _deliver(self) -> None:
        """Put messages into the buffers that the driver has for them."""
        assert self.transport is not None
        queue = self.transport.queue(CONTROL_IN)
        while queue is not None and self._messages and (chain := queue.pop()) is not None:
            queue.push(chain, chain.write(self._messages.pop(0)))
        self.transport.after()


def _check(result: int, call: str) -> None:
    if result < 0:
        raise KvmError("epoll_ctl", -result, call)
