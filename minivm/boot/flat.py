"""Flat binaries: no headers, just the bytes of a program, entered at the first one.

16 bits: in real mode an address is segment * 16 + offset. The bytes lie at 0x7c00, where a PC's BIOS puts
a boot sector, and start there with all segments 0 and the stack growing down from the same place.

32 and 64 bits: the bytes lie at 1 MiB, and start there in protected mode with flat segments, or in long mode with memory
mapped to itself; EDI or RDI is the address of the boot information (bootinfo.py), and the stack grows down from 0x7c00 too.
"""

from __future__ import annotations

from minivm.boot import layout
from minivm.boot.start import Piece, Start
from minivm.errors import BootError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minivm.boot.start import Bytes

__all__ = ["is_boot_sector", "prepare16", "prepare32", "prepare64"]

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


def prepare32(image: Bytes, memory: int, cmdline: str) -> Start:
    """Say how to start a 32-bit flat binary; see boot.elf.prepare for the arguments."""
    from minivm.boot import protected
    from minivm.boot.bootinfo import pack_bootinfo

    program = _program(image, memory)
    table, text = protected.gdt32(), layout.cmdline_bytes(cmdline)
    information = pack_bootinfo(layout.CMDLINE, layout.memory_map(memory))
    pieces = [
        program,
        Piece(layout.GDT, table, "GDT", "Code and data of 4 GiB from address 0: segmentation as good as off."),
        Piece(layout.BOOTINFO, information, "boot information", "Tells the program how much memory it has, and where."),
        Piece(layout.CMDLINE, text, "command line", "What --cmdline says, for the program to read."),
    ]
    return Start(
        pieces,
        protected.special_registers32(layout.GDT, len(table)),
        {"rip": program.address, "rsp": layout.FLAT16, "rflags": 1 << 1, "rdi": layout.BOOTINFO},
        irqchip=True,
        why_sregs="Protected mode with paging off: an address is a physical address.",
        why_regs="EIP is the first byte, EDI the address of the boot information; interrupts are off.",
    )


def prepare64(image: Bytes, memory: int, cmdline: str) -> Start:
    """Say how to start a 64-bit flat binary; see boot.elf.prepare for the arguments."""
    from minivm.boot.elf import start64

    program = _program(image, memory)
    start = start64([program], program.address, memory, cmdline)
    start.regs = {**start.regs, "rsp": layout.FLAT16}
    return start


def _program(image: Bytes, memory: int) -> Piece:
    """Return the bytes where 32-bit and 64-bit programs lie. Raises BootError."""
    if not image:
        raise BootError("the file is empty")
    layout.check_room(layout.HIGH_START, len(image), memory, "the program")
    return Piece(layout.HIGH_START, image, "program", "Behind the first MiB, with its holes.")
