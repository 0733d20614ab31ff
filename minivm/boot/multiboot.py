"""Multiboot 1: entered in 32 bits with 0x2BADB002 in EAX and the boot information at EBX.

The Multiboot Specification version 0.6.96, section 3. A kernel says that it wants it by a header somewhere in
its first 8192 bytes, at a multiple of four: magic, flags, and a checksum that makes the three add up to 0 modulo 2^32.

    flags  bit 0   modules begin at page boundaries
           bit 1   memory information is wanted
           bit 2   a video mode is wanted: refused, for there is none
           bit 16  five addresses follow in the header, and the file need not be ELF

    struct multiboot_info (section 3.3), as far as it is filled in here:
        offset  0  flags: 1 memory, 4 command line, 8 modules, 0x40 memory map, 0x200 name of the loader
                4  mem_lower, mem_upper: KiB from 0 and from 1 MiB on
               16  cmdline
               20  mods_count, mods_addr: of 16 bytes each (start, end, string, 0)
               44  mmap_length, mmap_addr: of 24 bytes each (size of the rest: 20, address, length, type)
               64  boot_loader_name
"""

from __future__ import annotations

import os
from struct import pack, pack_into, unpack_from

from minivm.boot import layout, protected
from minivm.boot.elf import MAGIC as ELF_MAGIC
from minivm.boot.elf import load, read_elf
from minivm.boot.start import Piece, Start
from minivm.errors import BootError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from minivm.boot.start import Bytes

__all__ = ["Header", "find_header", "prepare"]

HEADER_MAGIC, LOADER_MAGIC = 0x1BADB002, 0x2BADB002
SEARCH = 8192  # bytes of the file in which the header must lie
VIDEO_MODE, ADDRESSES = 1 << 2, 1 << 16
UNKNOWN = 0xFFFF & ~0b111  # flags 0 to 15 that a loader must refuse where it does not know them
INFO_SIZE = 88
INFO_MEMORY, INFO_CMDLINE, INFO_MODULES, INFO_MAP, INFO_LOADER = 1, 1 << 2, 1 << 3, 1 << 6, 1 << 9
NAME = b"minivm\0"


class Header:
    """A Multiboot header."""

    __slots__ = ("flags", "offset")

    def __init__(self, offset: int, flags: int) -> None:
        self.offset = offset  # in the file, bytes
        self.flags = flags


def find_header(image: Bytes) -> Header | None:
    """Return the header, or None where the file has none."""
    head, magic = bytes(image[:SEARCH]), pack("<I", HEADER_MAGIC)
    offset = head.find(magic)
    while 0 <= offset <= len(head) - 12:
        if offset % 4 == 0 and sum(unpack_from("<III", head, offset)) & 0xFFFF_FFFF == 0:
            return Header(offset, unpack_from("<I", head, offset + 4)[0])
        offset = head.find(magic, offset + 1)
    return None


def prepare(image: Bytes, memory: int, cmdline: str, modules: Sequence[tuple[str, Bytes]] = (), name: str = "") -> Start:
    """Say how to start a Multiboot kernel.

    Args:
        image: the file, 32-bit or 64-bit ELF, or anything with addresses in its header.
        memory: bytes of RAM.
        cmdline: the kernel's.
        modules: (string, contents) of each.
        name: the kernel's file. The command line begins with it, as QEMU's and GRUB's first version give it, and as a module's
            string does: many kernels take their first word for that. (The specification leaves it open, 3.3; GRUB 2 leaves it out.)

    Raises BootError.
    """
    header = find_header(image)
    if header is None:
        raise BootError(f"no Multiboot header in the first {SEARCH} bytes")
    if header.flags & UNKNOWN:
        raise BootError(f"the Multiboot header demands features that do not exist (flags {header.flags:#x})")
    if header.flags & VIDEO_MODE:
        raise BootError("the Multiboot header demands a video mode, and this machine has no video")
    pieces, entry, end = _kernel(image, header, memory)
    if max(entry, end) > layout.HOLE_END:
        raise BootError("a Multiboot kernel is entered in 32 bits: link it below 4 GiB")
    placed = []
    for string, contents in modules:
        at = max(end + 0xFFF & ~0xFFF, layout.HIGH_START)
        layout.check_room(at, len(contents), memory, f"module {string!r}")
        pieces.append(Piece(at, contents, f"module {string!r}", "Modules follow the kernel, each on a page of its own."))
        placed.append((at, at + len(contents), string))
        end = at + len(contents)
    table, text = protected.gdt32(), layout.cmdline_bytes(f"{name} {cmdline}" if name else cmdline)
    information = _information(memory, placed)
    if layout.BOOTINFO + len(information) > layout.CMDLINE:
        raise BootError("the modules' strings do not fit into the page of the Multiboot information")
    pieces += [
        Piece(layout.GDT, table, "GDT", "The specification leaves it open; code and data of 4 GiB are what it demands."),
        Piece(layout.BOOTINFO, information, "Multiboot information", "Where memory, command line and modules are."),
        Piece(layout.CMDLINE, text, "command line", "The Multiboot information points here."),
    ]
    return Start(
        pieces,
        protected.special_registers32(layout.GDT, len(table)),
        {"rip": entry, "rflags": 1 << 1, "rax": LOADER_MAGIC, "rbx": layout.BOOTINFO},
        irqchip=True,
        why_sregs="Multiboot 3.2: 32-bit protected mode with paging off, flat segments, the A20 gate open.",
        why_regs="EAX says that a Multiboot loader was here, EBX is the address of its information.",
    )


def _kernel(image: Bytes, header: Header, memory: int) -> tuple[list[Piece], int, int]:
    """Return the kernel's pieces, its entry point, and the first address behind it."""
    if not header.flags & ADDRESSES:
        if image[:4] != ELF_MAGIC:
            raise BootError("the Multiboot header has no addresses (bit 16 of its flags), and the file is no ELF")
        elf = read_elf(image, both=True)
        return load(elf, memory, layout.MULTIBOOT_LOW), elf.entry, max(start + size for start, _, size in elf.segments)
    if header.offset + 32 > len(image):
        raise BootError("the file ends within its Multiboot header")
    at, load_start, load_end, bss_end, entry = unpack_from("<IIIII", image, header.offset + 12)
    start = header.offset - (at - load_start)  # in the file
    size = load_end - load_start if load_end else len(image) - start
    if at < load_start or start < 0 or size < 0 or start + size > len(image):
        raise BootError("the addresses in the Multiboot header do not lie in the file")
    end = max(load_start + size, bss_end)
    layout.check_room(load_start, end - load_start, memory, "the kernel", layout.MULTIBOOT_LOW)
    if not load_start <= entry < end:
        raise BootError(f"the entry point {entry:#x} in the Multiboot header lies outside of the kernel")
    why = "Where the addresses in the Multiboot header say."
    return [Piece(load_start, image[start : start + size], "kernel", why)], entry, end


def _information(memory: int, modules: Sequence[tuple[int, int, str]]) -> bytes:
    """Return struct multiboot_info with what it points to behind it: map, modules, strings."""
    ranges = layout.memory_map(memory)
    low = layout.ram_ranges(memory)[0][1]
    mmap_at = layout.BOOTINFO + INFO_SIZE
    mmap = b"".join(pack("<IQQI", 20, address, length, kind) for address, length, kind in ranges)
    mods_at = mmap_at + len(mmap)
    strings_at = mods_at + 16 * len(modules) + len(NAME)
    mods, strings = b"", NAME
    for start, end, string in modules:
        mods += pack("<IIII", start, end, strings_at + len(strings) - len(NAME), 0)
        strings += os.fsencode(string) + b"\0"
    info = bytearray(INFO_SIZE)
    flags = INFO_MEMORY | INFO_CMDLINE | INFO_MODULES | INFO_MAP | INFO_LOADER
    pack_into("<III", info, 0, flags, min(low, layout.LOW_END) >> 10, max(0, low - layout.HIGH_START) >> 10)
    pack_into("<III", info, 16, layout.CMDLINE, len(modules), mods_at)
    pack_into("<II", info, 44, len(mmap), mmap_at)
    pack_into("<I", info, 64, strings_at - len(NAME))
    return bytes(info) + mmap + mods + strings
