"""A path in Python: what path.py offers, for a device whose bytes are few or whose rules are many (vsock.py)."""

from __future__ import annotations

import os
import select
import threading

from minivm.devices.virtio.queue import QueueError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Protocol

    from minivm.devices.virtio.queue import Queue

    class Served(Protocol):
        """What the loop asks of a device; it holds the lock around both."""

        def serve_queue(self, number: int) -> None: ...

        def serve_descriptor(self, fd: int, events: int) -> None: ...


__all__ = ["Loop"]


class Loop:
    """A thread's loop around epoll (man 7 epoll).

    Args:
        device: what is served.
        queues: numbers of its queues, all in Python.
    """

    def __init__(self, device: Served, queues: Sequence[int]) -> None:
        self.queues, self.prompt = list(queues), ()
        self.c = None  # nothing is served in C
        self.given: dict[int, Queue] = {}
        self.lock = threading.RLock()
        self.broken: Callable[[], None] = lambda: None
        self.tell: Callable[[], None] = lambda: None  # interrupts the driver where it wants that
        self._device = device
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._kicks: dict[int, int] = {}  # eventfd -> queue
        self._poked: set[int] = set()
        self._stopping = False
        self._epoll.register(self._wake, select.EPOLLIN)

    def watch(self, fd: int, events: int) -> None:
        """Serve a descriptor when it is ready for these events.

        With 0, not at all: a hang-up would be told again and again (man 2 epoll_ctl, EPOLLHUP).
        """
        if not events:
            self.forget(fd)
            return
        try:
            self._epoll.modify(fd, events)
        except FileNotFoundError:
            self._epoll.register(fd, events)

    def forget(self, fd: int) -> None:
        """Serve a descriptor no more; before it is closed."""
        try:
            self._epoll.unregister(fd)
        except FileNotFoundError:
            pass

    def kick(self, number: int, fd: int) -> None:
        """Serve a queue whenever its eventfd is written to."""
        self._kicks[fd] = number
        self._epoll.register(fd, select.EPOLLIN | select.EPOLLET)

    def poke(self, number: int) -> None:
        """Serve a queue soon; any thread."""
        self._poked.add(number)
        os.eventfd_write(self._wake, 1)

    def give(self, number: int, queue: Queue | None) -> None:
        """Use a queue; or no more: when this returns, nobody does."""
        with self.lock:
            if queue is None:
                self.given.pop(number, None)
                return
            self.given[number] = queue
        self.poke(number)

    def run(self) -> None:
        """Serve until stop(): the body of a thread."""
        while not self._stopping:
            ready = self._epoll.poll()
            try:
                with self.lock:
                    self._serve(ready)
                    self.tell()
            except QueueError:
                self.broken()

    def _serve(self, ready: Sequence[tuple[int, int]]) -> None:
        for fd, events in ready:
            if fd == self._wake:
                os.eventfd_read(fd)
                while self._poked:
                    self._device.serve_queue(self._poked.pop())
            elif fd in self._kicks:
                self._device.serve_queue(self._kicks[fd])
            else:
                self._device.serve_descriptor(fd, events)

    def stop(self) -> None:
        """Make run() return, from any thread."""
        self._stopping = True
        os.eventfd_write(self._wake, 1)

    def counts(self) -> dict[str, int]:
        """Nothing is counted."""
        return {}

    def close(self) -> None:
        """Give its descriptors back; nobody may be in run()."""
        self._epoll.close()
        os.close(self._wake)
