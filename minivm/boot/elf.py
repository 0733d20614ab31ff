"""64-bit ELF kernels: entered in long mode at their entry point, with boot information at RDI.

Read by the 60 lines here rather than by pyelftools, whose import alone takes longer than the whole of
`minivm run`. The format: man 5 elf.
"""

from __future__ import annotations

from struct import calcsize, unpack_from

from minivm.boot import layout, longmode
from minivm.boot.bootinfo import pack_bootinfo
from minivm.boot.start import Piece, Start
from minivm.errors import BootError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minivm.boot.start import Bytes

__all__ = ["Elf", "linked_addresses", "load", "prepare", "read_elf", "read_notes"]

MAGIC = b"\x7fELF"
CLASS_32, CLASS_64 = 1, 2
LITTLE_ENDIAN, TYPE_EXECUTABLE, MACHINE_386, MACHINE_X86_64 = 1, 2, 3, 62
LOAD, NOTE = 1, 4
MACHINES = {3: "32-bit x86", 8: "MIPS", 20: "PowerPC", 21: "PowerPC64", 40: "ARM", 183: "AArch64", 243: "RISC-V"}
TYPES = {1: "a relocatable object file", 3: "position-independent or a shared library", 4: "a core dump"}

# Of each class: bytes of the file's header, from e_type on, where e_phentsize is, and a program header.
LAYOUTS = {CLASS_32: (52, "<HHIII", 42, "<IIIIIIII"), CLASS_64: (64, "<HHIQQ", 54, "<IIQQQQQQ")}


class Elf:
    """What a loader needs of an ELF file."""

    __slots__ = ("entry", "notes", "segments")

    def __init__(self, entry: int, segments: list[tuple[int, Bytes, int]], notes: list[Bytes]) -> None:
        self.entry = entry  # address of the first instruction
        self.segments = segments  # (guest-physical address, bytes from the file, size in memory)
        self.notes = notes  # contents of the PT_NOTE segments; see read_notes


def read_elf(image: Bytes, both: bool = False) -> Elf:
    """Read the headers of an x86 executable and cut out its segments.

    Args:
        image: the file; the segments are slices of it.
        both: accept 32-bit files too.

    Raises BootError that says what is wrong, for any other input.
    """
    if image[:4] != MAGIC:
        raise BootError("not an ELF file")
    bits = image[4] if len(image) > 6 else CLASS_64
    size, *_ = LAYOUTS.get(bits, LAYOUTS[CLASS_64])
    if len(image) < size:
        raise BootError(f"truncated ELF file: {len(image)} bytes, and its header alone has {size}")
    _check_machine(image, bits, both)
    _, head, place, program = LAYOUTS[bits]
    kind, _, _, entry, table = unpack_from(head, image, 16)
    if kind != TYPE_EXECUTABLE:
        raise BootError(f"ELF file is {TYPES.get(kind, f'of type {kind}')}; link the kernel as an executable (-no-pie)")
    size, count = unpack_from("<HH", image, place)
    if size != calcsize(program) or table + size * count > len(image):
        raise BootError(f"truncated or damaged ELF file: {count} program headers at {table} do not lie in it")
    headers = [_program_header(image, program, table + size * number) for number in range(count)]
    loaded = [_segment(image, header, number) for number, header in enumerate(headers) if header[0] == LOAD and header[4]]
    notes = [_segment(image, header, number)[1] for number, header in enumerate(headers) if header[0] == NOTE]
    if not any(start <= entry < start + length for start, _, length in loaded):
        raise BootError(f"damaged ELF file: no segment holds its entry point {entry:#x}")
    return Elf(entry, loaded, notes)


def _check_machine(image: Bytes, bits: int, both: bool) -> None:
    (machine,) = unpack_from("<H", image, 18)
    wanted = [(CLASS_64, MACHINE_X86_64)] + ([(CLASS_32, MACHINE_386), (CLASS_32, MACHINE_X86_64)] if both else [])
    if image[5] != LITTLE_ENDIAN or (bits, machine) not in wanted:
        name = MACHINES.get(machine, f"machine number {machine}")
        raise BootError(f"ELF file for another machine: {name}, and this one is x86-64")


def _program_header(image: Bytes, form: str, offset: int) -> tuple[int, int, int, int, int]:
    """Return type, place in the file, physical address, size in the file and in memory."""
    fields = unpack_from(form, image, offset)
    if form == LAYOUTS[CLASS_64][3]:
        kind, _, start, _, physical, in_file, in_memory, _ = fields
    else:
        kind, start, _, physical, in_file, in_memory, _, _ = fields
    return kind, start, physical, in_file, in_memory


def _segment(image: Bytes, header: tuple[int, int, int, int, int], number: int) -> tuple[int, Bytes, int]:
    """Return the segment that a program header describes."""
    kind, start, physical, in_file, in_memory = header
    if (in_memory < in_file and kind == LOAD) or physical + in_memory >= 1 << 64:
        raise BootError(f"damaged ELF file: segment {number} has impossible sizes")
    if start + in_file > len(image):
        raise BootError(f"truncated ELF file: segment {number} ends at byte {start + in_file} of {len(image)}")
    return physical, image[start : start + in_file], in_memory


def linked_addresses(image: Bytes) -> list[tuple[int, int, int]]:
    """Return (virtual address, guest-physical address, bytes in memory) of each loaded segment of a 64-bit ELF file.

    Where the two differ, the kernel makes page tables that lead from the one to the other. Empty for another file.
    """
    if image[:4] != MAGIC or len(image) < 64 or image[4] != CLASS_64:
        return []
    (table,) = unpack_from("<Q", image, 32)
    size, count = unpack_from("<HH", image, 54)
    form = LAYOUTS[CLASS_64][3]
    if size != calcsize(form) or table + size * count > len(image):
        return []
    headers = [unpack_from(form, image, table + size * number) for number in range(count)]
    return [(virtual, physical, length) for kind, _, _, virtual, physical, _, length, _ in headers if kind == LOAD and length]


def read_notes(data: Bytes) -> Iterator[tuple[bytes, int, Bytes]]:
    """Yield (name, type, contents) of each note of a PT_NOTE segment; name and contents are padded to 4 bytes there.

    Raises BootError where a note does not lie in the segment.
    """
    place = 0
    while place + 12 <= len(data):
        name_size, size, kind = unpack_from("<III", data, place)
        name_end = place + 12 + name_size
        start = place + 12 + (name_size + 3 & ~3)
        if start + size > len(data):
            raise BootError("damaged ELF file: a note is longer than its segment")
        yield bytes(data[place + 12 : name_end]).rstrip(b"\0"), kind, data[start : start + size]
        place = start + (size + 3 & ~3)


def load(elf: Elf, memory: int, low: int = layout.LOW_END) -> list[Piece]:
    """Return the pieces that hold the segments. Raises BootError where one does not lie in RAM above the first MiB.

    Args:
        memory: bytes of RAM.
        low: as in layout.check_room.

    The zeroes behind a segment's data need no piece: memory is zero at the start.
    """
    pieces = []
    for number, (address, data, size) in enumerate(elf.segments):
        what = f"ELF segment {number} ({size} bytes in memory)"
        layout.check_room(address, size, memory, what, low)
        pieces.append(Piece(address, data, what, "Code and data of the kernel, where its linker script wants them."))
    return pieces


def prepare(image: Bytes, memory: int, cmdline: str) -> Start:
    """Say how to start an ELF kernel.

    Args:
        image: the file.
        memory: bytes of RAM.
        cmdline: passed on by the boot information.

    Raises BootError.
    """
    elf = read_elf(image)
    return start64(load(elf, memory), elf.entry, memory, cmdline)


def start64(kernel: list[Piece], entry: int, memory: int, cmdline: str) -> Start:
    """Say how to start a kernel of ours or anybody's that wants long mode and the boot information of bootinfo.py.

    Args:
        kernel: its pieces.
        entry: address of its first instruction.
        memory: bytes of RAM.
        cmdline: passed on by the boot information.

    Raises BootError.
    """
    text = layout.cmdline_bytes(cmdline)
    table = longmode.gdt()
    tables = longmode.identity_map(layout.PAGE_TABLES, layout.ram_ranges(memory)).tobytes()
    information = pack_bootinfo(layout.CMDLINE, layout.memory_map(memory))
    pieces = [
        Piece(layout.GDT, table, "GDT", "Even in 64-bit mode each segment register names a descriptor here."),
        Piece(layout.PAGE_TABLES, tables, "page tables", "Long mode has no life without paging: map memory to itself."),
        Piece(layout.BOOTINFO, information, "boot information", "Tells the kernel how much memory it has, and where."),
        Piece(layout.CMDLINE, text, "command line", "What --cmdline says, for the kernel to read."),
    ]
    pieces += kernel
    if layout.PAGE_TABLES + len(tables) > layout.LOW_END:
        raise BootError(f"page tables for {memory >> 30} GiB do not fit below {layout.LOW_END:#x}: use less --memory")
    return Start(
        pieces,
        longmode.special_registers(layout.PAGE_TABLES, layout.GDT, len(table)),
        {"rip": entry, "rflags": 1 << 1, "rdi": layout.BOOTINFO},
        irqchip=True,
        why_sregs="Long mode, all at once: paging on, 64-bit code segment, ring 0; a boot loader climbs here by steps.",
        why_regs="RIP is the entry point, RDI (C's first argument) the boot information; interrupts are off.",
    )
