"""A virtqueue: how buffers of the guest get here and back. The rings themselves are walked in csrc/kvm/queue.c.

There is one implementation of the rings, in C, with pictures of the tables above it. This is its face in Python, for
devices that have no data path in C (rng.py), and what the transport makes and gives to a path (path.py).

Everything in a queue is the guest's to write at any time, so nothing is trusted: each address is checked against memory,
a chain may not be longer than the queue, and what is wrong raises QueueError, upon which the device stops (2.1.1).
"""

from __future__ import annotations

from minivm.kvm._kvm import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from minivm.kvm.memory import GuestMemory

__all__ = ["LARGEST", "Chain", "Queue", "QueueError", "Ram"]

LARGEST = int(lib.QUEUE_LARGEST)  # entries, and parts of a buffer


class QueueError(Exception):
    """The driver broke a rule of the specification."""


class Ram:
    """The guest's memory, as C sees it.

    Args:
        slots: (guest-physical address, pages, which outlive this).
    """

    def __init__(self, slots: Iterable[tuple[int, GuestMemory]]) -> None:
        self.c: Any = ffi.new("struct ram *")
        for number, (base, pages) in enumerate(slots):
            self.c.slots[number] = {"base": base, "size": pages.size, "host": pages.at(0)}
            self.c.count = number + 1


class Chain:
    """One buffer of the driver: what the device may read, and what it may write."""

    __slots__ = ("entries", "head", "readable", "writable")

    def __init__(self, c: Any) -> None:
        self.head, self.entries = c.head, c.entries  # what gives it back
        parts = [memoryview(ffi.buffer(part.iov_base, part.iov_len)) for part in c.parts[0 : c.readable + c.writable]]
        self.readable, self.writable = parts[: c.readable], parts[c.readable :]

    def read(self, most: int) -> bytes:
        """Return all that is to be read. Raises QueueError where that is more than `most` bytes."""
        if sum(len(part) for part in self.readable) > most:
            raise QueueError(f"more than {most} bytes to read")
        return b"".join(self.readable)

    def write(self, data: bytes) -> int:
        """Fill the writable parts as far as the data goes. Returns the bytes written."""
        done = 0
        for part in self.writable:
            piece = data[done : done + len(part)]
            part[: len(piece)] = piece
            done += len(piece)
        return done

    @property
    def room(self) -> int:
        """How many bytes may be written."""
        return sum(len(part) for part in self.writable)


class Queue:
    """One virtqueue, from the moment when the driver enables it.

    Args:
        ram: the guest's memory.
        size: entries; a power of two, but in a packed queue.
        descriptors, driver, device: guest-physical addresses of its three areas.
        packed, event_idx, indirect: which features were agreed on.

    Raises QueueError where size or addresses break the rules. Threads: one at a time.
    """

    __slots__ = ("_chain", "_ram", "areas", "c", "size")

    def __init__(
        self, ram: Ram, size: int, descriptors: int, driver: int, device: int,
        *, event_idx: bool = False, indirect: bool = False, packed: bool = False,
    ) -> None:  # fmt: skip
        self.size, self._ram, self._chain = size, ram, ffi.NULL
        self.areas = descriptors, driver, device
        out = ffi.new("struct queue **")
        if lib.queue_create(ram.c, size, packed, event_idx, indirect, descriptors, driver, device, out) < 0:
            raise QueueError(f"a queue of {size} entries at {descriptors:#x}, {driver:#x}, {device:#x}")
        self.c: Any = ffi.gc(out[0], lib.queue_destroy)

    @property
    def why(self) -> str:
        """Which rule the driver has broken, or ""."""
        return ffi.string(self.c.why).decode() if self.c.why else ""

    def chains(self) -> Iterator[Chain]:
        """Yield what the driver has made available, until there is no more."""
        while (chain := self.pop()) is not None:
            yield chain

    def pop(self) -> Chain | None:
        """Return the next buffer, or None where the driver has made none available. Raises QueueError."""
        self._chain = self._chain or ffi.new("struct chain *")  # 16 KiB: only for queues that are served in Python
        result = lib.queue_pop(self.c, self._chain)
        if result < 0:
            raise QueueError(self.why)
        return Chain(self._chain) if result else None

    @property
    def waiting(self) -> bool:
        """Whether there is a buffer; if not, the driver is asked to notify us of the next."""
        return bool(lib.queue_ask(self.c))

    def push(self, chain: Chain, written: int) -> None:
        """Give a buffer back to the driver, with so many bytes written to it."""
        lib.queue_push(self.c, chain.head, chain.entries, written)

    def wants_interrupt(self) -> bool:
        """Say whether the driver wants to hear of what was pushed since this was last asked."""
        return bool(lib.queue_wants_interrupt(self.c))
