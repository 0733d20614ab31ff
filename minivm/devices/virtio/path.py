"""A path: a thread of C between queues and the host's descriptors (csrc/kvm/path.c), and what it needs Python for."""

from __future__ import annotations

import errno

from minivm.devices.virtio.queue import QueueError
from minivm.errors import KvmError
from minivm.kvm._kvm import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from minivm.devices.virtio.queue import Queue

__all__ = ["Path"]


class Path:
    """One path.

    Args:
        c: what a device's create function in C returned: struct path *.
        queues: the numbers of the device's queues that it serves, in the order in which C numbers them.
        look: called with the source that C cannot handle: a queue (its number in C), or from SOURCE_FD on a descriptor.
        keep: what C borrows: kept as long as this.
        prompt: queues that the thread of a vCPU may serve at once, rather than have the path woken.

    Raises KvmError where C could not make it.
    """

    def __init__(
        self, c: Any, queues: Sequence[int], look: Callable[[int], None] = lambda source: None, keep: object = None,
        prompt: Sequence[int] = (),
    ) -> None:  # fmt: skip
        if not c:
            raise KvmError("epoll_create1", errno.EMFILE, "EPOLL_CLOEXEC")
        self.c, self.queues, self._look, self._keep, self.prompt = c, list(queues), look, keep, prompt
        self._given: dict[int, Queue] = {}
        self.broken: Callable[[], None] = lambda: None  # called when the driver has broken a rule

    def kick(self, number: int, fd: int) -> None:
        """Serve a queue, by its number in the device, whenever its eventfd is written to. Raises KvmError."""
        result = lib.path_kick(self.c, self.queues.index(number), fd)
        if result < 0:
            raise KvmError("epoll_ctl", -result, f"EPOLL_CTL_ADD, fd={fd}")

    def poke(self, number: int) -> None:
        """Serve a queue now."""
        lib.path_poke(self.c, self.queues.index(number))

    def give(self, number: int, queue: Queue | None) -> None:
        """Let the path use a queue; or no more: when this returns, it does not."""
        lib.path_give(self.c, self.queues.index(number), queue.c if queue else ffi.NULL)
        if queue:
            self._given[number] = queue
        else:
            self._given.pop(number, None)

    def run(self) -> None:
        """Serve until stop(): the body of a thread. Raises KvmError."""
        while result := lib.path_run(self.c):
            if result == -errno.EPROTO:
                self.broken()
            elif result < 0:
                raise KvmError("epoll_wait", -result)
            else:
                sources = lib.path_looked(self.c)
                self._look_at(sources)

    def _look_at(self, sources: int) -> None:
        for source in range(64):
            if sources >> source & 1:
                try:
                    self._look(source)
                except QueueError:
                    self.broken()  # the others are not to suffer for it

    def stop(self) -> None:
        """Make run() return, from any thread."""
        lib.path_stop(self.c)

    def counts(self) -> dict[str, int]:
        """Return what it has done: buffers, bytes, interrupts, and how often it woke."""
        return {name: int(getattr(self.c, name)) for name in ("chains", "bytes", "interrupts", "wakes")}

    def close(self) -> None:
        """Free it; nobody may be in run()."""
        lib.path_destroy(self.c)
        self.c = ffi.NULL
