"""virtio-blk: a disk (VIRTIO 1.2, 5.2). One queue of requests.

    request   | type (4) | reserved (4) | sector (8) |  to read
              | data: to read for a write, to write for a read |
              | status (1): 0 OK, 1 an error, 2 not supported |  to write
    types     0 read, 1 write, 4 flush, 8 the disk's name (20 bytes), 11 discard
    discard   data is | sector (8) | sectors (4) | flags (4) | for each range
    config    | capacity in sectors of 512 bytes (8) | size_max (4) | seg_max (4) | geometry (4) | blk_size (4) |
              | topology (8) | writeback (1) | unused (1) | num_queues (2) | max_discard_sectors (4) |
              | max_discard_seg (4) | discard_sector_alignment (4) |

Data goes between the file and the guest's memory in one preadv or pwritev, without a copy through Python.
A flush is an fdatasync: when it returns, what was written before is on the host's disk.
Simplified: requests are carried out at once, by the vCPU's thread that announces them; the guest waits meanwhile.
"""

from __future__ import annotations

import os
from struct import Struct, pack, unpack_from

from minivm.devices.virtio.queue import QueueError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minivm.devices.virtio.queue import Chain, Queue

__all__ = ["Blk"]

SECTOR = 512
HEADER = Struct("<IIQ")
READ, WRITE, FLUSH, GET_ID, DISCARD = 0, 1, 4, 8, 11
OK, ERROR, UNSUPPORTED = 0, 1, 2
F_SEG_MAX, F_RO, F_BLK_SIZE, F_FLUSH, F_DISCARD = 1 << 2, 1 << 5, 1 << 6, 1 << 9, 1 << 13
SEGMENTS = 126  # data descriptors of a request: what fits into a queue of 128 with header and status
MOST_IOV = 1024  # man 2 preadv: IOV_MAX
DISCARD_RANGES, DISCARD_SECTORS = 64, 1 << 22


class Blk:
    """The device.

    Args:
        fd: of a file or a block device, which stays the caller's; its size is the disk's, in whole sectors.
        size: bytes.
        read_only: whether the guest may only read.
        serial: the disk's name, at most 20 bytes.
    """

    name = "virtio-blk"
    device_id = 2
    queues = 1

    def __init__(self, fd: int, size: int, *, read_only: bool = False, serial: str = "") -> None:
        self._fd, self._sectors, self._read_only = fd, size // SECTOR, read_only
        self._serial = os.fsencode(serial)[:20].ljust(20, b"\0")
        self.features = F_SEG_MAX | F_BLK_SIZE | F_FLUSH | (F_RO if read_only else F_DISCARD)

    def config(self) -> bytes:
        """Return what the driver finds behind the registers."""
        return pack(
            "<QIIIIQBBHIII", self._sectors, 0, SEGMENTS, 0, SECTOR, 0, 0, 0, 1, DISCARD_SECTORS, DISCARD_RANGES, 1
        )

    def notify(self, number: int, queue: Queue) -> None:
        """Carry out the requests that the driver has made available. Raises QueueError."""
        for chain in queue.chains():
            queue.push(chain, self._request(chain))

    def _request(self, chain: Chain) -> int:
        """Carry out one request. Returns the bytes written to the guest, its status with them."""
        head = _take(chain.readable, HEADER.size)
        if not chain.writable:
            raise QueueError("a request with no room for its status")
        last = chain.writable[-1]
        status, chain.writable[-1] = last[-1:], last[:-1]
        kind, _, sector = HEADER.unpack(head)
        try:
            code, written = self._perform(kind, sector, chain)
        except OSError:
            code, written = ERROR, 0
        status[0] = code
        return written + 1

    def _perform(self, kind: int, sector: int, chain: Chain) -> tuple[int, int]:
        """Return the status, and how many bytes were written to the guest. Raises OSError."""
        if kind == READ:
            return self._read(sector, chain.writable)
        if kind == GET_ID:
            return OK, chain.write(self._serial)
        if self._read_only and kind in (WRITE, DISCARD):
            return ERROR, 0
        if kind == WRITE:
            return self._write(sector, chain.readable), 0
        if kind == FLUSH:
            os.fdatasync(self._fd)
            return OK, 0
        if kind == DISCARD:
            return self._discard(chain.read(16 * DISCARD_RANGES)), 0
        return UNSUPPORTED, 0

    def _inside(self, sector: int, length: int) -> bool:
        """Say whether so many bytes from a sector on are whole sectors of the disk."""
        return length % SECTOR == 0 and sector + length // SECTOR <= self._sectors

    def _read(self, sector: int, parts: list[memoryview]) -> tuple[int, int]:
        length = sum(map(len, parts))
        if not self._inside(sector, length) or len(parts) > MOST_IOV:
            return ERROR, 0
        done = os.preadv(self._fd, parts, sector * SECTOR) if length else 0
        return (OK, done) if done == length else (ERROR, done)

    def _write(self, sector: int, parts: list[memoryview]) -> int:
        length = sum(map(len, parts))
        if not self._inside(sector, length) or len(parts) > MOST_IOV:
            return ERROR
        done = os.pwritev(self._fd, parts, sector * SECTOR) if length else 0
        return OK if done == length else ERROR

    def _discard(self, data: bytes) -> int:
        """Give the ranges' space back to the host's file system; they read as zeroes from then on."""
        if not data or len(data) % 16 or len(data) // 16 > DISCARD_RANGES:
            return ERROR
        for place in range(0, len(data), 16):
            sector, count, flags = unpack_from("<QII", data, place)
            if flags or count > DISCARD_SECTORS or not self._inside(sector, count * SECTOR):
                return UNSUPPORTED if flags else ERROR
            if count:
                _punch(self._fd, sector * SECTOR, count * SECTOR)
        return OK


def _take(parts: list[memoryview], size: int) -> bytes:
    """Take so many bytes from the front of the parts (2.7.4: how a driver divides its buffer is its own affair)."""
    data = b""
    while parts and len(data) < size:
        piece = parts[0][: size - len(data)]
        data += piece
        if len(piece) == len(parts[0]):
            parts.pop(0)
        else:
            parts[0] = parts[0][len(piece) :]
    if len(data) < size:
        raise QueueError(f"a request of {len(data)} bytes has no header")
    return data


def _punch(fd: int, offset: int, length: int) -> None:
    """Make a hole in a file (man 2 fallocate). Raises OSError."""
    import ctypes

    keep_size, punch_hole = 1, 2  # FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE of <linux/falloc.h>
    libc = ctypes.CDLL(None, use_errno=True)
    where = ctypes.c_longlong(offset), ctypes.c_longlong(length)
    if libc.fallocate(fd, keep_size | punch_hole, *where) < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno))
