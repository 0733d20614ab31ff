"""virtio-balloon: memory that the guest does not need goes back to the host (VIRTIO 1.2, 5.5).

    queues      0 inflate: page numbers (4 bytes each, of pages of 4 KiB) that the guest will not use for now
                1 deflate: those that it takes back     2 statistics: | tag (2) | value (8) | each
                the next, by which the driver counts what it has agreed on: free page reporting: whole blocks that are free
    config      | pages that the balloon is to hold (4) | pages that it holds, which the driver writes (4) |

A page that is given up is dropped from our memory (ram_drop in csrc/kvm/ram.c): it costs nothing until the guest touches it, and
then is zeroes. Reporting needs no target: Linux tells us of blocks of 2 MiB that have been free for two seconds.
"""

from __future__ import annotations

from struct import Struct, calcsize, iter_unpack, pack

from minivm.devices.virtio.queue import QueueError
from minivm.kvm._kvm import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minivm.devices.virtio.mmio import Mmio
    from minivm.devices.virtio.path import Path
    from minivm.devices.virtio.queue import Chain, Queue, Ram

__all__ = ["Balloon"]

INFLATE, DEFLATE, STATISTICS = 0, 1, 2
F_STATS_VQ, F_DEFLATE_ON_OOM, F_REPORTING = 1 << 1, 1 << 2, 1 << 5
ACTUAL = 4  # offset in the configuration
PAGE = 4096
MOST = 4096  # bytes in one buffer: a full queue of larger ones would keep the processor that notifies busy for a minute
STATISTIC = "<HQ"
NUMBER = Struct("<I")
TAGS = ("swap_in", "swap_out", "major_faults", "minor_faults", "free_memory", "total_memory", "available_memory", "disk_caches",
        "hugetlb_allocations", "hugetlb_failures")  # fmt: skip


class Balloon:
    """The device.

    Args:
        ram: the guest's memory.
        target: bytes that the balloon is to hold at first.
    """

    name = "virtio-balloon"
    device_id = 5
    features = F_STATS_VQ | F_DEFLATE_ON_OOM | F_REPORTING
    queues = 5

    def __init__(self, ram: Ram, target: int = 0) -> None:
        self._ram = ram
        self._pages = target // PAGE
        self.held = 0  # pages, as the driver says
        self.dropped = 0  # bytes that went back to the host, all in all
        self.statistics: dict[str, int] = {}  # as of the driver's last answer
        self.transport: Mmio | None = None
        self._asked: Chain | None = None  # the driver's buffer for statistics, until we ask again
        self._agreed = 0

    def config(self) -> bytes:
        """Return what the driver finds behind the registers."""
        return pack("<II", self._pages, self.held)

    def connect(self, registers: Any, interrupt: int) -> list[Path]:
        """It has no path."""
        return []

    def begin(self, features: int) -> None:
        """The driver has agreed on these features."""
        self._agreed, self._asked, self.held = features, None, 0

    def write_config(self, offset: int, data: bytes) -> None:
        """The driver says how many pages the balloon holds; an old one says it byte by byte."""
        start = offset - ACTUAL
        if 0 <= start <= NUMBER.size - len(data):
            said = bytearray(NUMBER.pack(self.held))
            said[start : start + len(data)] = data
            (self.held,) = NUMBER.unpack(said)

    def aim(self, size: int) -> None:
        """Have the driver inflate or deflate the balloon until it holds so many bytes."""
        self._pages = size // PAGE
        assert self.transport is not None
        self.transport.changed()

    @property
    def aimed(self) -> int:
        """How many bytes it is to hold."""
        return self._pages * PAGE

    @property
    def answered(self) -> bool:
        """Whether the driver's statistics are there, none being asked for."""
        return self._asked is not None

    def ask(self) -> None:
        """Have the driver renew the statistics; they are there when it has."""
        assert self.transport is not None
        with self.transport.lock:
            queue = self.transport.queue(STATISTICS)
            if queue is not None and self._asked is not None:
                queue.push(self._asked, 0)
                self._asked = None
                self.transport.after()

    def notify(self, number: int, queue: Queue) -> None:
        """Take what the driver has made available. Raises QueueError."""
        statistics = bool(self._agreed & F_STATS_VQ)
        for chain in queue.chains():
            if number == STATISTICS and statistics:
                self._learn(chain)
                self._asked = chain
                return
            if number == INFLATE:
                self._inflate(chain)
            elif number != DEFLATE:
                self._report(chain)
            queue.push(chain, 0)

    def _inflate(self, chain: Chain) -> None:
        """Drop pages by their numbers; neighbours together, for each call costs as much as a hundred pages."""
        numbers = sorted({page for (page,) in NUMBER.iter_unpack(_whole(chain.read(MOST), NUMBER.size))})
        start = end = 0
        for page in [*numbers, 0]:
            if page != end:
                self._drop(start * PAGE, (end - start) * PAGE)
                start = page
            end = page + 1

    def _report(self, chain: Chain) -> None:
        """Drop the blocks that a buffer is made of."""
        for part in chain.writable:
            self.dropped += lib.ram_drop(ffi.from_buffer("uint8_t[]", part), len(part))

    def _drop(self, address: int, length: int) -> None:
        if not length:
            return
        at = lib.ram_at(self._ram.c, address, length)
        if not at:
            raise QueueError(f"no memory at {address:#x}")
        self.dropped += lib.ram_drop(at, length)

    def _learn(self, chain: Chain) -> None:
        """Read statistics: a later one of the same tag counts, an unknown tag does not."""
        data = _whole(chain.read(MOST), calcsize(STATISTIC))
        for tag, value in iter_unpack(STATISTIC, data):
            if tag < len(TAGS):
                self.statistics[TAGS[tag]] = value


def _whole(data: bytes, size: int) -> bytes:
    """Return the data if it is whole records of so many bytes. Raises QueueError."""
    if len(data) % size:
        raise QueueError(f"{len(data)} bytes are no whole records of {size}")
    return data

