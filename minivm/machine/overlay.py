"""The file of a copy-on-write overlay: its header, and whether it belongs to the base. The rest is csrc/kvm/overlay.c.

    header, 4096 bytes  | "MINIVMOV" (8) | version 1 (4) | cluster in bytes (4) | size of the disk (8) | base's mtime, ns (8) |
    bitmap              a bit for each cluster that is here
    data                the disk, from the next multiple of 4096 on; never-written clusters are holes
"""

from __future__ import annotations

import os
from struct import Struct

from minivm.errors import MinivmError
from minivm.kvm import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Overlay"]

MAGIC, VERSION, CLUSTER, PAGE = b"MINIVMOV", 1, 4096, 4096
HEADER = Struct("<8sIIQq")


class Overlay:
    """An overlay that is open.

    Args:
        fd: of its file, empty or one that was an overlay of this base before; stays the caller's.
        base: descriptor of the base; stays the caller's.
        size: bytes of the disk.

    Raises MinivmError.
    """

    def __init__(self, fd: int, base: int, size: int) -> None:
        header = HEADER.pack(MAGIC, VERSION, CLUSTER, size, os.fstat(base).st_mtime_ns)
        bitmap = -(-size // CLUSTER // 8)
        data = PAGE + -(-(bitmap + 8) // PAGE) * PAGE
        there = os.fstat(fd).st_size
        if there:
            _check(os.pread(fd, HEADER.size, 0), header)
        else:
            os.pwrite(fd, header, 0)
        if there <= HEADER.size:  # new; or whoever made it was killed just then
            os.truncate(fd, data + size)
        elif there < data + size:
            raise MinivmError("the overlay's file was cut short: what is missing of it would be zeroes")
        out = ffi.new("struct overlay **")
        result = lib.overlay_create(fd, base, size, PAGE, data, out)
        if result < 0:
            raise MinivmError(f"the overlay cannot be read: {os.strerror(-result)}")
        self.c: Any = out[0]

    def close(self) -> None:
        """Save what is not saved yet."""
        lib.overlay_destroy(self.c)
        self.c = ffi.NULL


def _check(found: bytes, expected: bytes) -> None:
    """Raise MinivmError where a file's header is another."""
    if found[:16] != expected[:16]:
        raise MinivmError("the overlay's file is no overlay of minivm: name one that does not exist yet")
    if found != expected:
        raise MinivmError("the disk under the overlay has changed since the overlay was begun: they no longer fit together")
