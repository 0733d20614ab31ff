"""Boot information: what a 64-bit ELF guest finds in memory at the address in RDI.

Little-endian; csrc/guest/bootinfo.h is the same in C.

    offset  bytes
         0      8  magic: the letters "MINIVM01"
         8      8  guest-physical address of the command line, which ends with a zero byte
        16      4  number of ranges that follow
        20      4  zero
        24         the ranges, 24 bytes each, in order of address:
                       8  guest-physical address
                       8  length in bytes
                       4  type: 1 RAM, 2 reserved (as in a PC's E820 map)
                       4  zero
"""

from __future__ import annotations

from struct import pack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MAGIC", "pack_bootinfo"]

MAGIC = b"MINIVM01"


def pack_bootinfo(cmdline: int, ranges: Sequence[tuple[int, int, int]]) -> bytes:
    """Return the structure.

    Args:
        cmdline: guest-physical address of the command line (uint64_t).
        ranges: (address, length, type) as layout.memory_map gives them.
    """
    head = pack("<8sQII", MAGIC, cmdline, len(ranges), 0)
    return head + b"".join(pack("<QQII", address, length, kind, 0) for address, length, kind in ranges)
