"""virtio-blk: a disk (VIRTIO 1.2, 5.2). What the driver is told of it; requests are carried out in csrc/kvm/blk.c.

    config    | capacity in sectors of 512 bytes (8) | size_max (4) | seg_max (4) | geometry (4) | blk_size (4) |
              | topology (8) | writeback (1) | unused (1) | num_queues (2) | max_discard_sectors (4) |
              | max_discard_seg (4) | discard_sector_alignment (4) | max_write_zeroes_sectors (4) |
              | max_write_zeroes_seg (4) | write_zeroes_may_unmap (1) | unused (3) |

Data goes between the file and the guest's memory in one preadv or pwritev. A flush is an fdatasync: when it returns,
what was written before is on the host's disk; for a driver that knows no flush each write is followed by one (5.2.6.2).
Each queue has a thread: while one waits for the disk, another goes on.
"""

from __future__ import annotations

import os
from struct import pack

from minivm.devices.virtio.path import Path
from minivm.kvm._kvm import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Blk"]

SECTOR = 512
READ, WRITE, FLUSH, GET_ID, DISCARD, WRITE_ZEROES = 0, 1, 4, 8, 11, 13  # types of a request
F_SEG_MAX, F_RO, F_BLK_SIZE, F_FLUSH, F_MQ, F_DISCARD, F_WRITE_ZEROES = (1 << bit for bit in (2, 5, 6, 9, 12, 13, 14))
SEGMENTS = 254  # data descriptors of a request: what fits into a queue of 256 with header and status
RANGES, DISCARD_SECTORS, ZERO_SECTORS = 64, 1 << 22, 1 << 15  # limits of one request, as in csrc/kvm/blk.c


class Blk:
    """The device.

    Args:
        fd: of a file or a block device, which stays the caller's; its size is the disk's, in whole sectors.
        size: bytes.
        read_only: whether the guest may only read.
        serial: the disk's name, at most 20 bytes.
        queues: how many.
        overlay: struct overlay *, what is written instead of the file; borrowed.
        limits: rate limits: (bytes, ns to refill them, requests, ns to refill them); 0 is none (csrc/kvm/bucket.c).
    """

    name = "virtio-blk"
    device_id = 2

    def __init__(
        self, fd: int, size: int, *, read_only: bool = False, serial: str = "", queues: int = 1, overlay: Any = ffi.NULL,
        limits: tuple[int, int, int, int] = (0, 0, 0, 0),
    ) -> None:  # fmt: skip
        self._fd, self._size, self._read_only, self._overlay, self._limits = fd, size, read_only, overlay, limits
        self._serial, self.queues = os.fsencode(serial)[:20], queues
        self.features = F_SEG_MAX | F_BLK_SIZE | F_FLUSH | (F_RO if read_only else F_DISCARD | F_WRITE_ZEROES)
        self.features |= F_MQ if queues > 1 else 0

    def config(self) -> bytes:
        """Return what the driver finds behind the registers."""
        numbers = self._size // SECTOR, 0, SEGMENTS, 0, SECTOR, 0, 0, 0, self.queues
        return pack("<QIIIIQBBHIIIIIB3x", *numbers, DISCARD_SECTORS, RANGES, 1, ZERO_SECTORS, RANGES, 1)

    def connect(self, registers: Any, interrupt: int) -> list[Path]:
        """Return the paths: one a queue. Raises KvmError."""
        self._paths = [self._path(number, registers, interrupt) for number in range(self.queues)]
        return self._paths

    def begin(self, features: int) -> None:
        """The driver has agreed on these features: without flushes among them a write is to last once it is answered."""
        for path in self._paths:
            lib.blk_agree(path.c, not features & F_FLUSH)

    def _path(self, number: int, registers: Any, interrupt: int) -> Path:
        c = lib.blk_create(registers, interrupt, self._fd, self._size, self._read_only, self._serial, self._overlay)
        path = Path(c, [number], keep=(registers, self._overlay))
        size, refill, requests, requests_refill = self._limits
        # each queue has a share of the limit: they do not talk to each other
        lib.blk_limit(c, -(-size // self.queues), refill, -(-requests // self.queues), requests_refill)
        return path
