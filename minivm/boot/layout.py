"""Where things lie in guest-physical memory: RAM, its hole, and what minivm puts into the first megabyte.

    0x00000000  not used: a null pointer finds zeroes
    0x00001000  GDT                              (longmode.py)
    0x00002000  boot information                 (bootinfo.py)
    0x00003000  command line, up to 4 KiB
    0x00007c00  a 16-bit flat guest              (flat.py)
    0x00010000  page tables, up to 0x9ffff       (longmode.py)
    0x000a0000  on a PC: video memory and BIOS; reserved
    0x00100000  kernels                          (elf.py)
    0xc0000000  no RAM up to 4 GiB: the addresses of devices, IOAPIC and local APIC among them
    0x100000000 the rest of RAM
"""

from __future__ import annotations

from minivm.errors import BootError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minivm.boot.start import Piece

__all__ = [
    "BOOTINFO",
    "CMDLINE",
    "CMDLINE_MAX",
    "FLAT16",
    "GDT",
    "IDENTITY_MAP",
    "LOW_END",
    "PAGE_TABLES",
    "RAM",
    "RESERVED",
    "TSS",
    "check_fit",
    "memory_map",
    "ram_ranges",
]

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

GDT = 0x1000
BOOTINFO = 0x2000
CMDLINE, CMDLINE_MAX = 0x3000, 0x1000
FLAT16 = 0x7C00
PAGE_TABLES = 0x10000
LOW_END = 0xA0000  # end of the RAM below 1 MiB that a PC's software may use
HIGH_START = 1 * MIB
HOLE_START, HOLE_END = 3 * GIB, 4 * GIB

# For KVM itself, on Intel processors that need it: anywhere in the hole where no device is.
IDENTITY_MAP = 0xFFFBC000
TSS = 0xFFFBD000

RAM, RESERVED = 1, 2  # types of a range, numbered as in a PC's E820 map (ACPI specification 15.1)


def ram_ranges(size: int) -> list[tuple[int, int]]:
    """Say where `size` bytes of RAM lie: (address, length) of each memory slot."""
    low = min(size, HOLE_START)
    return [(0, low), (HOLE_END, size - low)] if size > low else [(0, low)]


def memory_map(size: int) -> list[tuple[int, int, int]]:
    """Return what the guest is told of memory: (address, length, type), in order, not overlapping."""
    (_, low), *rest = ram_ranges(size)
    told = [(0, min(low, LOW_END), RAM)]
    if low > LOW_END:
        told.append((LOW_END, min(low, HIGH_START) - LOW_END, RESERVED))
    if low > HIGH_START:
        told.append((HIGH_START, low - HIGH_START, RAM))
    return told + [(address, length, RAM) for address, length in rest]


def check_fit(pieces: list[Piece], size: int) -> None:
    """Raise BootError where a piece lies outside of RAM, or two overlap.

    Args:
        size: of RAM, in bytes.
    """
    end, previous = 0, ""
    for piece in sorted(pieces, key=lambda piece: piece.address):
        start, stop = piece.address, piece.address + len(piece.data)
        if not any(base <= start and stop <= base + length for base, length in ram_ranges(size)):
            raise BootError(
                f"{piece.what} needs guest memory at {start:#x} to {stop:#x}, and the machine has {size // KIB} KiB:"
                " give it more with --memory"
            )
        if start < end:
            raise BootError(f"{piece.what} at {start:#x} would overwrite {previous}, which ends at {end:#x}")
        end, previous = stop, piece.what
