"""Where things lie in guest-physical memory: RAM, its hole, and what minivm puts into the first megabyte.

    0x00000000  not used: a null pointer finds zeroes
    0x00001000  GDT                              (longmode.py)
    0x00002000  boot information: ours (bootinfo.py), Linux's zero page (bzimage.py), PVH's or Multiboot's
    0x00003000  command line, up to 4 KiB
    0x00004000  Linux's setup_data               (setup_data.py); or a Multiboot kernel that is linked so low, up to 0x9ffff
    0x00007c00  a 16-bit flat guest              (flat.py)
    0x00010000  page tables, up to 0x9ffff       (longmode.py)
    0x000a0000  on a PC: video memory and BIOS; reserved
    0x000e0000  ACPI tables                      (acpi.py)
    0x000f0000  MP table                         (mptable.py); 0x000ffff0 code that resets the machine (reset.py)
    0x00100000  kernels                          (elf.py); an initrd as high as it may lie
    0xc0000000  no RAM up to 4 GiB: the addresses of devices: 0xcffff000 debug-exit, 0xd0000000 virtio-mmio,
                0xfec00000 IOAPIC, 0xfee00000 local APIC
    0x100000000 the rest of RAM
"""

from __future__ import annotations

import sys

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
    "HIGH_START",
    "IDENTITY_MAP",
    "LOW_END",
    "MULTIBOOT_LOW",
    "PAGE_TABLES",
    "RAM",
    "RESERVED",
    "SETUP_DATA",
    "TSS",
    "check_fit",
    "check_room",
    "cmdline_bytes",
    "hotplug_address",
    "memory_map",
    "place_high",
    "ram_ranges",
    "virtio_slots",
]

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

GDT = 0x1000
BOOTINFO = 0x2000
CMDLINE, CMDLINE_MAX = 0x3000, 0x1000
SETUP_DATA = MULTIBOOT_LOW = 0x4000
FLAT16 = 0x7C00
PAGE_TABLES = 0x10000
LOW_END = 0xA0000  # end of the RAM below 1 MiB that a PC's software may use
HIGH_START = 1 * MIB
HOLE_START, HOLE_END = 3 * GIB, 4 * GIB
ACPI = 0xE0000  # here a kernel that was told nothing looks for the RSDP (ACPI specification 5.2.5.1)
MP_TABLE = 0xF0000  # and here for the MP table

DEBUG_EXIT = 0xCFFF_F000  # the page of its register in memory
VIRTIO, VIRTIO_SIZE = 0xD000_0000, 0x1000  # the registers of each virtio-mmio device, one behind the other
# Inputs of the IOAPIC that no device of a PC uses; 0, 1, 2, 4, 8 and 13 are timer, keyboard, cascade, UART, clock, FPU.
VIRTIO_INTERRUPTS = (5, 6, 7, 9, 10, 11, 12, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23)
EVENT_GSI = 3  # of ACPI events, as a press of the power button: a PC's second serial port, which there is not

# For KVM itself, on Intel processors that need it: anywhere in the hole where no device is.
IDENTITY_MAP = 0xFFFBC000
TSS = 0xFFFBD000

HOTPLUG_ALIGNMENT = 2 * GIB  # Linux adds memory in blocks of 128 MiB, and on large machines of up to 2 GiB

RAM, RESERVED = 1, 2  # types of a range, numbered as in a PC's E820 map (ACPI specification 15.1)


def ram_ranges(size: int) -> list[tuple[int, int]]:
    """Say where `size` bytes of RAM lie: (address, length) of each memory slot."""
    low = min(size, HOLE_START)
    return [(0, low), (HOLE_END, size - low)] if size > low else [(0, low)]


def hotplug_address(size: int) -> int:
    """Return where memory begins that comes while the guest runs: behind all RAM, at what Linux may take for one block.

    Args:
        size: of the RAM that is there from the start, in bytes.
    """
    address, length = ram_ranges(size)[-1]
    return max(HOLE_END, -(-(address + length) // HOTPLUG_ALIGNMENT) * HOTPLUG_ALIGNMENT)


def memory_map(size: int) -> list[tuple[int, int, int]]:
    """Return what the guest is told of memory: (address, length, type), in order, not overlapping."""
    (_, low), *rest = ram_ranges(size)
    told = [(0, min(low, LOW_END), RAM)]
    if low > LOW_END:
        told.append((LOW_END, min(low, HIGH_START) - LOW_END, RESERVED))
    if low > HIGH_START:
        told.append((HIGH_START, low - HIGH_START, RAM))
    return told + [(address, length, RAM) for address, length in rest]


def virtio_slots(count: int) -> list[tuple[int, int]]:
    """Return (guest-physical address, interrupt) for so many virtio-mmio devices. Raises BootError for too many."""
    if count > len(VIRTIO_INTERRUPTS):
        raise BootError(f"{count} virtio devices are too many: {len(VIRTIO_INTERRUPTS)} have an interrupt of their own")
    return [(VIRTIO + VIRTIO_SIZE * number, VIRTIO_INTERRUPTS[number]) for number in range(count)]


def cmdline_bytes(cmdline: str, most: int = CMDLINE_MAX - 1) -> bytes:
    """Return a command line as a string of C.

    Args:
        most: bytes that the kernel takes, the final zero not counted.

    Raises BootError where it is longer.
    """
    text = cmdline.encode(sys.getfilesystemencoding(), sys.getfilesystemencodeerrors())  # os.fsencode, without the rest of os
    most = min(most, CMDLINE_MAX - 1)
    if len(text) > most:
        raise BootError(f"the command line has {len(text)} bytes; {most} is the most")
    return text + b"\0"


def check_room(address: int, size: int, memory: int, what: str, low: int = LOW_END) -> None:
    """Raise BootError where [address, address + size) does not lie in RAM above the first MiB.

    Args:
        memory: bytes of RAM.
        low: from here on to LOW_END it may lie too.
    """
    if address < HIGH_START and not low <= address <= address + size <= LOW_END:
        raise BootError(f"{what} is linked at {address:#x}: link the kernel at {HIGH_START:#x} or above")
    if not any(start <= address and address + size <= start + length for start, length in ram_ranges(memory)):
        need = f"{address:#x} to {address + size:#x}"
        raise BootError(f"{what} needs guest memory at {need}, and the machine has {memory >> 10} KiB: see --memory")


def place_high(size: int, memory: int, above: int, highest: int, what: str) -> int:
    """Find the highest multiple of 4096 in the RAM below the hole from which `size` bytes fit.

    Args:
        above: the first address that is free.
        highest: the last address that may be used.

    Raises BootError where there is no room.
    """
    end = min(ram_ranges(memory)[0][1], highest + 1)
    address = (end - size) & ~0xFFF
    if address < above:
        free = max(0, end - above)
        raise BootError(f"{what} has {-(-size >> 10)} KiB and {free >> 10} KiB are free above the kernel: see --memory")
    return address


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
