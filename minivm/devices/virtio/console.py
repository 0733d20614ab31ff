"""virtio-console: a terminal that costs an exit a line, not two a character (VIRTIO 1.2, 5.3).

Queue 0 holds buffers for what is typed, queue 1 what the guest prints. The one port needs no configuration.
Linux calls it hvc0: console=hvc0.

Simplified: what is typed goes to the guest as soon as its driver has a buffer. What comes before a program has opened hvc0
was seen not to reach it (Linux 6.12, where the driver is a module); a multiport device would hear of the opening.
"""

from __future__ import annotations

from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minivm.devices.virtio.path import Path
    from minivm.devices.virtio.queue import Queue

__all__ = ["Console"]

INPUT, OUTPUT = 0, 1
BACKLOG = 64 << 10  # bytes of the host that wait for the guest, before the host is told to wait


class Console:
    """The device.

    Args:
        send: called with what the guest prints.
        room: called when push() may be called again after it returned False.

    Threads: its transport holds a lock around every call.
    """

    name = "virtio-console"
    device_id = 3
    features = 0
    queues = 2

    def __init__(self, send: Callable[[memoryview], None], room: Callable[[], None] = lambda: None) -> None:
        self._send, self._room = send, room
        self._waiting: deque[bytes] = deque()
        self._size = 0

    def config(self) -> bytes:
        """Return columns, rows, number of ports and the register for emergencies: none is offered."""
        return bytes(12)

    def connect(self, registers: Any, interrupt: int) -> list[Path]:
        """It has no path."""
        return []

    def notify(self, number: int, queue: Queue) -> None:
        """Send what is printed; or give what was typed to new buffers."""
        if number == OUTPUT:
            for chain in queue.chains():
                for part in chain.readable:
                    self._send(part)
                queue.push(chain, 0)
        elif number == INPUT:
            self._deliver(queue)

    def push(self, data: bytes, queue: Queue | None) -> bool:
        """Take bytes from the host. Returns False when it should wait for room() before the next call.

        Args:
            queue: the input queue, or None while the driver has not enabled it.
        """
        if data:
            self._waiting.append(data)
            self._size += len(data)
        if queue is not None:
            self._deliver(queue)
        return self._size <= BACKLOG

    def _deliver(self, queue: Queue) -> None:
        full = self._size > BACKLOG
        while self._waiting and (chain := queue.pop()) is not None:
            data = self._waiting.popleft()
            done = chain.write(data)
            if done < len(data):
                self._waiting.appendleft(data[done:])
            self._size -= done
            queue.push(chain, done)
        if full and self._size <= BACKLOG:
            self._room()
