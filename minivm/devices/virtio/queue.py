"""A split virtqueue: three tables in the guest's memory (VIRTIO 1.2, 2.7).

    descriptor table  16 bytes each      | address (8) | length (4) | flags (2) | next (2) |
        flags: 1 NEXT: goes on at `next`; 2 WRITE: for the device to write; 4 INDIRECT: the buffer is itself such a table
    available ring    the driver writes  | flags (2) | idx (2) | ring: numbers of first descriptors, 2 bytes each |
                                         | used_event (2) |
    used ring         the device writes  | flags (2) | idx (2) | ring: first descriptor (4), bytes written (4) |
                                         | avail_event (2) |

Both idx count up for ever, modulo 65536; an entry's place is its number modulo the queue's size. A buffer is a chain of
descriptors: those to read first, then those to write. With VIRTIO_F_EVENT_IDX each side says at which idx it wants to
hear of the next: used_event (tell me when used idx passes this) and avail_event (2.7.10).

Everything here is the guest's to write at any time, so nothing is trusted: each address is checked against memory,
a chain may not be longer than the queue, and what is wrong raises QueueError, upon which the device stops (2.1.1).

Order between processors: x86 keeps stores in order, and loads in order; only a store may be overtaken by a later load.
The two places where that would lose a notification have a fence().
"""

from __future__ import annotations

import threading
from struct import Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Memory = Callable[[int, int], memoryview]  # (guest-physical address, length) -> the bytes themselves, or IndexError

__all__ = ["Chain", "Queue", "QueueError"]

NEXT, WRITE, INDIRECT = 1, 2, 4
NO_INTERRUPT = 1  # flag of the available ring: the driver polls
LARGEST = 1024  # entries; a power of two, at most 32768
CHAIN_BYTES = 1 << 32  # of all buffers of a chain together (2.7.4.1: a driver must not exceed it)
DESCRIPTOR, U16, USED = Struct("<QIHH"), Struct("<H"), Struct("<II")


_LOCK = threading.Lock()


def fence() -> None:
    """Let every store before become visible before any load after: taking a lock is a locked instruction (SDM 3A, 9.2.5)."""
    with _LOCK:
        pass


class QueueError(Exception):
    """The driver broke a rule of the specification."""


class Chain:
    """One buffer of the driver: what the device may read, and what it may write."""

    __slots__ = ("head", "readable", "writable")

    def __init__(self, head: int, readable: list[memoryview], writable: list[memoryview]) -> None:
        self.head = head  # number of its first descriptor
        self.readable = readable
        self.writable = writable

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
        memory: gives guest memory.
        size: entries, a power of two.
        descriptors, available, used: guest-physical addresses of the three tables.
        event_idx, indirect: whether VIRTIO_F_EVENT_IDX and VIRTIO_F_INDIRECT_DESC were agreed on.

    Raises QueueError where the tables do not lie in memory.
    """

    def __init__(
        self, memory: Memory, size: int, descriptors: int, available: int, used: int, *, event_idx: bool, indirect: bool
    ) -> None:
        self.size = size
        self._memory, self._event_idx, self._indirect = memory, event_idx, indirect
        self._table = self._view(descriptors, 16 * size, 16)
        self._available = self._view(available, 6 + 2 * size, 2)
        self._used = self._view(used, 6 + 8 * size, 4)
        self._next_available = self._next_used = 0
        self._told = 0  # used idx when the driver was last looked after

    def _view(self, address: int, length: int, alignment: int = 1) -> memoryview:
        if address % alignment:
            raise QueueError(f"{address:#x} is no multiple of {alignment}")
        try:
            return self._memory(address, length)
        except IndexError as error:
            raise QueueError(str(error)) from None

    def chains(self) -> Iterator[Chain]:
        """Yield what the driver has made available, until there is no more."""
        while (chain := self.pop()) is not None:
            yield chain

    def pop(self) -> Chain | None:
        """Return the next chain, or None where the driver has made none available. Raises QueueError."""
        (index,) = U16.unpack_from(self._available, 2)
        waiting = index - self._next_available & 0xFFFF
        if not waiting and self._event_idx:
            # Ask to be told of the next one, and look again: the driver may have added it before it saw this store.
            U16.pack_into(self._used, 4 + 8 * self.size, self._next_available)
            fence()
            (index,) = U16.unpack_from(self._available, 2)
            waiting = index - self._next_available & 0xFFFF
        if not waiting:
            return None
        if waiting > self.size:
            raise QueueError(f"{waiting} buffers are available, in a queue of {self.size}")
        (head,) = U16.unpack_from(self._available, 4 + 2 * (self._next_available % self.size))
        chain = self._chain(head)
        self._next_available = self._next_available + 1 & 0xFFFF
        return chain

    def _chain(self, head: int) -> Chain:
        """Walk the descriptors of a chain."""
        table, number, left, total = self._table, head, self.size, 0
        readable: list[memoryview] = []
        writable: list[memoryview] = []
        while True:
            if 16 * number >= len(table):
                raise QueueError(f"descriptor {number} is not in its table")
            address, length, flags, following = DESCRIPTOR.unpack_from(table, 16 * number)
            if flags & INDIRECT:
                table, number, left = self._indirect_table(table, address, length, flags), 0, self.size
                continue
            if writable and not flags & WRITE:
                raise QueueError("a descriptor to read comes after one to write")
            total += length
            if total > CHAIN_BYTES:
                raise QueueError(f"a chain of more than {CHAIN_BYTES} bytes")
            if length:
                (writable if flags & WRITE else readable).append(self._view(address, length))
            left -= 1
            if not flags & NEXT:
                return Chain(head, readable, writable)
            if not left:
                raise QueueError("a chain is longer than its queue, or a circle")
            number = following

    def _indirect_table(self, table: memoryview, address: int, length: int, flags: int) -> memoryview:
        """Return the table that a descriptor points to; it may hold no further one of that kind (2.7.5.3.1)."""
        if not self._indirect or table is not self._table or flags & NEXT:
            raise QueueError("an indirect descriptor where none may be")
        if not length or length % 16:
            raise QueueError(f"an indirect table of {length} bytes")
        return self._view(address, length)

    def push(self, chain: Chain, written: int) -> None:
        """Give a chain back to the driver, with so many bytes written to it."""
        USED.pack_into(self._used, 4 + 8 * (self._next_used % self.size), chain.head, written)
        self._next_used = self._next_used + 1 & 0xFFFF
        U16.pack_into(self._used, 2, self._next_used)  # after the entry: now the driver may look at it

    def wants_interrupt(self) -> bool:
        """Say whether the driver wants to hear of what was pushed since this was last asked."""
        before, self._told = self._told, self._next_used
        if before == self._next_used:
            return False
        fence()  # the driver must see used idx before we look whether it still cares
        if not self._event_idx:
            (flags,) = U16.unpack_from(self._available, 0)
            return not flags & NO_INTERRUPT
        (event,) = U16.unpack_from(self._available, 4 + 2 * self.size)
        # used idx has passed used_event since then, modulo 65536 (2.7.10.1: vring_need_event)
        return bool((self._next_used - event - 1 & 0xFFFF) < (self._next_used - before & 0xFFFF))
