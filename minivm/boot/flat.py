"""Flat binaries: no headers, just the bytes of a program, entered at the first one.

16 bits: in real mode an address is segment * 16 + offset. The bytes lie at 0x7c00, where a PC's BIOS puts
a boot sector, and start there with all segments 0 and the stack growing down from the same place.
"""

from __future__ import annotations

from minivm.boot import layout
from minivm.boot.start import Piece, Start
from minivm.errors import BootError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minivm.boot.start import Bytes

__all__ = ["is_boot_sector", "prepare16"]

REACH = 0x10000  # real-mode code reaches 64 KiB from its segment's base


def is_boot_sector(image: Bytes) -> bool:
    """Say whether this is the sector that a BIOS would start: 512 bytes that end in 55 AA."""
    return len(image) == 512 and image[510:] == b"\x55\xaa"


def prepare16(image: Bytes, memory: int, cmdline: str) -> Start:
    """Say how to start a 16-bit flat binary; see boot.elf.prepare for the arguments."""
    if not image:
        raise BootError("the file is empty")
    if layout.FLAT16 + len(image) > REACH:
        raise BootError(f"{len(image)} bytes are too long for 16-bit code: {REACH - layout.FLAT16} is the most")
    if cmdline:
        raise BootError("a 16-bit flat binary has no way to be told a command line: leave --cmdline out")
    flat = {"base": 0, "selector": 0}
    return Start(
        [Piece(layout.FLAT16, image, "16-bit program", "Where a BIOS would put a boot sector.")],
        {"cs": flat, "ds": flat, "es": flat, "fs": flat, "gs": flat, "ss": flat},
        {"rip": layout.FLAT16, "rsp": layout.FLAT16, "rflags": 1 << 1},
        irqchip=False,
        why_sregs="After reset CS points to the BIOS at the end of 4 GiB; here all segments begin at address 0.",
        why_regs="IP is where the program lies; bit 1 of FLAGS is always 1; interrupts are off.",
    )
