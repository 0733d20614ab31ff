"""64-bit ELF kernels: entered in long mode at their entry point, with boot information at RDI.

Read by the 60 lines here rather than by pyelftools, whose import alone takes longer than the whole of
`minivm run`. The format: man 5 elf.
"""

from __future__ import annotations

import os
from struct import unpack_from

from minivm.boot import layout, longmode
from minivm.boot.bootinfo import pack_bootinfo
from minivm.boot.start import Piece, Start
from minivm.errors import BootError

__all__ = ["Elf", "prepare", "read_elf"]

MAGIC = b"\x7fELF"
HEADER_SIZE, PROGRAM_HEADER_SIZE = 64, 56
CLASS_64, LITTLE_ENDIAN, TYPE_EXECUTABLE, MACHINE_X86_64 = 2, 1, 2, 62
LOAD = 1
MACHINES = {3: "32-bit x86", 8: "MIPS", 20: "PowerPC", 21: "PowerPC64", 40: "ARM", 183: "AArch64", 243: "RISC-V"}
TYPES = {1: "a relocatable object file", 3: "position-independent or a shared library", 4: "a core dump"}


class Elf:
    """What a loader needs of an ELF file."""

    __slots__ = ("entry", "segments")

    def __init__(self, entry: int, segments: list[tuple[int, bytes, int]]) -> None:
        self.entry = entry  # virtual address of the first instruction
        self.segments = segments  # (guest-physical address, bytes from the file, size in memory)


def read_elf(image: bytes) -> Elf:
    """Read the headers of a 64-bit x86 executable and cut out its segments.

    Raises BootError that says what is wrong, for any other input.
    """
    if image[:4] != MAGIC:
        raise BootError("not an ELF file")
    if len(image) < HEADER_SIZE:
        raise BootError(f"truncated ELF file: {len(image)} bytes, and its header alone has {HEADER_SIZE}")
    kind, machine, _, entry, table = unpack_from("<HHIQQ", image, 16)
    if image[5] != LITTLE_ENDIAN or machine != MACHINE_X86_64 or image[4] != CLASS_64:
        name = MACHINES.get(machine, f"machine number {machine}")
        raise BootError(f"ELF file for another machine: {name}, and this one is x86-64")
    if kind != TYPE_EXECUTABLE:
        raise BootError(f"ELF file is {TYPES.get(kind, f'of type {kind}')}; link the kernel as an executable (-no-pie)")
    size, count = unpack_from("<HH", image, 54)
    if size != PROGRAM_HEADER_SIZE or table + size * count > len(image):
        raise BootError(f"truncated or damaged ELF file: {count} program headers at {table} do not lie in it")
    segments = [_segment(image, table + size * number, number) for number in range(count)]
    loaded = [segment for segment in segments if segment is not None]
    if not any(start <= entry < start + length for start, _, length in loaded):
        raise BootError(f"damaged ELF file: no segment holds its entry point {entry:#x}")
    return Elf(entry, loaded)


def _segment(image: bytes, offset: int, number: int) -> tuple[int, bytes, int] | None:
    """Return the segment that the program header at `offset` describes, or None for one not to be loaded."""
    kind, _, start, _, physical, in_file, in_memory, _ = unpack_from("<IIQQQQQQ", image, offset)
    if kind != LOAD or not in_memory:
        return None
    if in_memory < in_file or physical + in_memory >= 1 << 64:
        raise BootError(f"damaged ELF file: segment {number} has impossible sizes")
    if start + in_file > len(image):
        raise BootError(f"truncated ELF file: segment {number} ends at byte {start + in_file} of {len(image)}")
    return physical, image[start : start + in_file], in_memory


def prepare(image: bytes, memory: int, cmdline: str) -> Start:
    """Say how to start an ELF kernel.

    Args:
        image: the file.
        memory: bytes of RAM.
        cmdline: passed on by the boot information.

    Raises BootError.
    """
    elf = read_elf(image)
    text = os.fsencode(cmdline) + b"\0"
    if len(text) > layout.CMDLINE_MAX:
        raise BootError(f"the command line has {len(text) - 1} bytes; {layout.CMDLINE_MAX - 1} is the most")
    table = longmode.gdt()
    tables = longmode.identity_map(layout.PAGE_TABLES, layout.ram_ranges(memory)).tobytes()
    information = pack_bootinfo(layout.CMDLINE, layout.memory_map(memory))
    pieces = [
        Piece(layout.GDT, table, "GDT", "Even in 64-bit mode each segment register names a descriptor here."),
        Piece(layout.PAGE_TABLES, tables, "page tables", "Long mode has no life without paging: map memory to itself."),
        Piece(layout.BOOTINFO, information, "boot information", "Tells the kernel how much memory it has, and where."),
        Piece(layout.CMDLINE, text, "command line", "What --cmdline says, for the kernel to read."),
    ]
    for number, (address, data, size) in enumerate(elf.segments):
        what = f"ELF segment {number} ({size} bytes in memory)"
        _check_room(address, size, memory, what)
        pieces.append(Piece(address, data, what, "Code and data of the kernel, where its linker script wants them."))
    if layout.PAGE_TABLES + len(tables) > layout.LOW_END:
        raise BootError(f"page tables for {memory >> 30} GiB do not fit below {layout.LOW_END:#x}: use less --memory")
    return Start(
        pieces,
        longmode.special_registers(layout.PAGE_TABLES, layout.GDT, len(table)),
        {"rip": elf.entry, "rflags": 1 << 1, "rdi": layout.BOOTINFO},
        irqchip=True,
        why_sregs="Long mode, all at once: paging on, 64-bit code segment, ring 0; a boot loader climbs here by steps.",
        why_regs="RIP is the ELF entry point, RDI (C's first argument) the boot information; interrupts are off.",
    )


def _check_room(address: int, size: int, memory: int, what: str) -> None:
    """Raise BootError where a segment, with the zeroes after its data, does not lie in RAM above the first MiB."""
    if address < layout.HIGH_START:
        raise BootError(f"{what} is linked at {address:#x}: link the kernel at {layout.HIGH_START:#x} or above")
    if not any(start <= address and address + size <= start + length for start, length in layout.ram_ranges(memory)):
        need = f"{address:#x} to {address + size:#x}"
        raise BootError(f"{what} needs guest memory at {need}, and the machine has {memory >> 10} KiB: see --memory")
