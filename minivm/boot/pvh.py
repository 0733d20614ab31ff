"""PVH: a Linux vmlinux, or another ELF kernel with the note for it, entered in 32 bits with a hvm_start_info at EBX.

Xen's way to start a guest with no firmware, no real mode and no decompression: the note of type 18 by the name "Xen"
holds the physical address of the entry point. Xen's docs/misc/pvh.pandoc says what stands in the registers,
xen/include/public/arch-x86/hvm/start_info.h what EBX points to:

    struct hvm_start_info             offset  bytes
        magic 0x336ec578                   0      4    'xEn3' with bit 7 of the E set
        version                            4      4    1: with a memory map
        flags                              8      4
        nr_modules                        12      4
        modlist_paddr                     16      8    of struct hvm_modlist_entry; the first one is the initrd
        cmdline_paddr                     24      8
        rsdp_paddr                        32      8    the ACPI tables' root pointer
        memmap_paddr                      40      8    of struct hvm_memmap_table_entry
        memmap_entries                    48      4
        reserved                          52      4
    struct hvm_modlist_entry: paddr, size, cmdline_paddr, reserved: 8 bytes each
    struct hvm_memmap_table_entry: addr, size: 8 bytes; type (as in an E820 map), reserved: 4 bytes
"""

from __future__ import annotations

from struct import pack

from minivm.boot import layout, protected
from minivm.boot.elf import Elf, load, read_elf, read_notes
from minivm.boot.start import Piece, Start
from minivm.errors import BootError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minivm.boot.start import Bytes

__all__ = ["entry_point", "pack_start_info", "prepare"]

MAGIC = 0x336EC578
VERSION = 1
XEN, PHYS32_ENTRY = b"Xen", 18  # XEN_ELFNOTE_PHYS32_ENTRY, xen/include/public/elfnote.h
HEAD_SIZE, MODULE_SIZE = 56, 32
LINUX_CMDLINE = 2047  # COMMAND_LINE_SIZE - 1: Linux cuts off silently what is longer


def entry_point(elf: Elf) -> int | None:
    """Return the physical address that the PVH note names, or None where there is no such note."""
    for segment in elf.notes:
        for name, kind, contents in read_notes(segment):
            if (name, kind) == (XEN, PHYS32_ENTRY) and len(contents) in (4, 8):
                return int.from_bytes(contents, "little")
    return None


def pack_start_info(
    base: int, cmdline: int, ranges: list[tuple[int, int, int]], modules: list[tuple[int, int]], rsdp: int = 0
) -> bytes:
    """Return struct hvm_start_info with the tables that it points to behind it.

    Args:
        base: guest-physical address where it will lie.
        cmdline: guest-physical address of the command line.
        ranges: (address, length, type) as layout.memory_map gives them.
        modules: (address, size) of each, guest-physical, bytes.
        rsdp: guest-physical address of the ACPI root pointer, or 0.
    """
    modlist = base + HEAD_SIZE
    memmap = modlist + MODULE_SIZE * len(modules)
    head = pack(
        "<IIIIQQQQII", MAGIC, VERSION, 0, len(modules), modlist if modules else 0, cmdline, rsdp, memmap, len(ranges), 0
    )
    entries = [pack("<QQQQ", address, size, 0, 0) for address, size in modules]
    entries += [pack("<QQII", address, length, kind, 0) for address, length, kind in ranges]
    return head + b"".join(entries)


def prepare(image: Bytes, memory: int, cmdline: str, initrd: Bytes = b"", rsdp: int = 0) -> Start:
    """Say how to start an ELF kernel by its PVH entry point; see boot.bzimage.prepare for the arguments."""
    elf = read_elf(image)
    entry = entry_point(elf)
    if entry is None:
        raise BootError("no PVH entry point: no ELF note of type 18 by Xen (for Linux: CONFIG_PVH)")
    if not any(start <= entry < start + size for start, _, size in elf.segments):
        raise BootError(f"damaged ELF file: no segment holds its PVH entry point {entry:#x}")
    table = protected.gdt32()
    text = layout.cmdline_bytes(cmdline, LINUX_CMDLINE)
    pieces = load(elf, memory)
    modules = []
    if initrd:
        low_end = layout.ram_ranges(memory)[0][1]
        end = max((start + size for start, _, size in elf.segments if start < low_end), default=layout.HIGH_START)
        at = layout.place_high(len(initrd), memory, end, 0xFFFF_FFFF, "the initrd")
        modules.append((at, len(initrd)))
        pieces.append(Piece(at, initrd, "initrd", "The first module of the list; high, out of the kernel's way."))
    information = pack_start_info(layout.BOOTINFO, layout.CMDLINE, layout.memory_map(memory), modules, rsdp)
    pieces += [
        Piece(layout.GDT, table, "GDT", "Code and data of 4 GiB from address 0, so that segments change nothing."),
        Piece(layout.BOOTINFO, information, "hvm_start_info", "Where command line, initrd, ACPI and memory are."),
        Piece(layout.CMDLINE, text, "command line", "hvm_start_info points here."),
    ]
    return Start(
        pieces,
        protected.special_registers32(layout.GDT, len(table)),
        {"rip": entry, "rflags": 1 << 1, "rbx": layout.BOOTINFO},
        irqchip=True,
        why_sregs="PVH: 32-bit protected mode with paging off; the kernel makes its own page tables.",
        why_regs="EIP is the address in the kernel's PVH note, EBX that of hvm_start_info.",
    )
