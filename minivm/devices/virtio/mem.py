"""virtio-mem: memory that a running guest is given, and gives back, block by block (VIRTIO 1.2, 5.15).

    config    | block size (8) | node (2), 6 | address (8) | region size (8) | usable size (8) | plugged (8) | requested (8) |
    request   | type (2), 6: 0 plug, 1 unplug, 2 unplug all, 3 state | address (8) | blocks (2), 6 |
    response  | type (2), 6: 0 ack, 1 nack, 2 busy, 3 error | state (2): 0 plugged, 1 unplugged, 2 mixed |

The region is a memory slot from the start, of pages that nobody has touched and that cost nothing. We say how much of it is
requested; the driver asks to plug blocks until it has that, or frees some and unplugs them, as far as it can: pages in use
stay. What is unplugged is dropped from our memory.

Simplified: a guest that touches blocks that it has not plugged gets memory all the same; a host that must not grant that
would leave them out of the slot (F_UNPLUGGED_INACCESSIBLE).
"""

from __future__ import annotations

from struct import pack, unpack

from minivm.devices.virtio.queue import QueueError
from minivm.kvm._kvm import lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minivm.devices.virtio.mmio import Mmio
    from minivm.devices.virtio.path import Path
    from minivm.devices.virtio.queue import Queue, Ram

__all__ = ["BLOCK", "Mem"]

BLOCK = 2 << 20  # a large page: what Linux can add and remove by itself
PLUG, UNPLUG, UNPLUG_ALL, STATE = range(4)
ACK, NACK, BUSY, ERROR = range(4)
PLUGGED, UNPLUGGED, MIXED = range(3)
REQUEST, LONGEST = 24, 4096  # bytes


class Mem:
    """The device.

    Args:
        ram: the guest's memory, the region in it.
        address: guest-physical address of the region, a multiple of BLOCK.
        size: of the region, a multiple of BLOCK.
        requested: bytes that are to be plugged at first, a multiple of BLOCK.
    """

    name = "virtio-mem"
    device_id = 24
    features = 0
    queues = 1

    def __init__(self, ram: Ram, address: int, size: int, requested: int = 0) -> None:
        self._ram, self._address, self.size, self.requested = ram, address, size, requested
        self._blocks = bytearray(size // BLOCK)  # 1: plugged
        self.transport: Mmio | None = None

    @property
    def plugged(self) -> int:
        """How many bytes the guest has."""
        return sum(self._blocks) * BLOCK

    def config(self) -> bytes:
        """Return what the driver finds behind the registers."""
        return pack("<QHxxxxxxQQQQQ", BLOCK, 0, self._address, self.size, self.size, self.plugged, self.requested)

    def connect(self, registers: Any, interrupt: int) -> list[Path]:
        """It has no path."""
        return []

    def request(self, size: int) -> None:
        """Have the driver plug or unplug until it has so many bytes, a multiple of BLOCK."""
        self.requested = size
        assert self.transport is not None
        self.transport.changed()

    def notify(self, number: int, queue: Queue) -> None:
        """Answer the driver's requests. Raises QueueError."""
        for chain in queue.chains():
            data = chain.read(LONGEST)
            if len(data) < REQUEST or chain.room < 10:
                raise QueueError(f"a request of {len(data)} bytes, with room for {chain.room}")
            kind, address, count = unpack("<HxxxxxxQHxxxxxx", data[:REQUEST])
            answer, state = self._answer(kind, address, count)
            queue.push(chain, chain.write(pack("<HxxxxxxH", answer, state)))
        if self.transport is not None:
            self.transport.refresh()  # how much is plugged

    def _answer(self, kind: int, address: int, count: int) -> tuple[int, int]:
        if kind == UNPLUG_ALL:
            self._drop(0, len(self._blocks))
            return ACK, 0
        first, rest = divmod(address - self._address, BLOCK)
        if kind > STATE or rest or not count or first < 0 or first + count > len(self._blocks):
            return ERROR, 0
        held = sum(self._blocks[first : first + count])
        if kind == STATE:
            return ACK, PLUGGED if held == count else MIXED if held else UNPLUGGED
        if held != (0 if kind == PLUG else count):
            return ERROR, 0  # plugged twice, or what is not there unplugged
        if kind == UNPLUG:
            self._drop(first, count)
        elif self.plugged + count * BLOCK > self.requested:
            return NACK, 0
        else:
            self._blocks[first : first + count] = b"\1" * count
        return ACK, 0

    def _drop(self, first: int, count: int) -> None:
        """Take blocks back: their pages go to the host, and are zeroes afterwards."""
        self._blocks[first : first + count] = bytes(count)
        lib.ram_drop(lib.ram_at(self._ram.c, self._address + first * BLOCK, count * BLOCK), count * BLOCK)
