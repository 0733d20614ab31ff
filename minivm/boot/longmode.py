"""Long mode: the page tables, the GDT and the control registers that make a processor a 64-bit one.

A PC wakes up in 16-bit real mode, and its firmware and boot loader climb from there by a ladder of instructions. A
hypervisor may set all registers at once, so we start at the top. What must then be true is in the Intel SDM,
volume 3A: 9.8.5 "Initializing IA-32e mode", 4.5 "4-level paging", 3.4.5 "Segment descriptors".
"""

from __future__ import annotations

from struct import pack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from minivm.boot.start import Registers

__all__ = ["BOOT_CODE", "BOOT_DATA", "PageTables", "Segment", "boot_gdt", "gdt", "identity_map", "special_registers"]

# --- page tables ------------------------------------------------------------------------------------------
#
# A 64-bit virtual address is five numbers; each of the first four is an index into a table of 512 entries:
#
#     63       48 47     39 38     30 29     21 20     12 11         0
#    |  = bit 47 |  PML4   |  PDPT   |   PD    |   PT    |   offset   |
#
# CR3 holds the physical address of the first table, and an entry that of the next one, or of the page itself.
# An entry:
#
#     63 62       52 51                          12 11  9  8   7   6   5   4   3   2   1   0
#    |XD| ignored   |  physical address, 4 KiB units | ign | G |PS | D | A |PCD|PWT|U/S|R/W| P |

PRESENT = 1 << 0  # P: without it any access is a page fault
WRITABLE = 1 << 1  # R/W: without it writing faults (in ring 0 only while CR0.WP is set)
USER = 1 << 2  # U/S: without it ring 3 faults
WRITE_THROUGH = 1 << 3  # PWT: cache kind, together with PCD
CACHE_DISABLE = 1 << 4  # PCD: for addresses where a device lives
ACCESSED = 1 << 5  # A: the processor sets it when it uses the entry
DIRTY = 1 << 6  # D: the processor sets it at the first write
LARGE = 1 << 7  # PS: this entry maps a page of 1 GiB (in a PDPT) or 2 MiB (in a PD) and no further table
GLOBAL = 1 << 8  # G: stays in the TLB when CR3 changes (while CR4.PGE is set)
NO_EXECUTE = 1 << 63  # XD: fetching instructions faults (while EFER.NXE is set, else the bit is reserved)
ADDRESS = 0x000F_FFFF_FFFF_F000  # bits 51 to 12

KIB4, MIB2, GIB1 = 1 << 12, 1 << 21, 1 << 30
ENTRIES = 512
PML4_SHIFT = 39


class PageTables:
    """Page tables under construction; they will lie at a physical address of the guest.

    Args:
        base: guest-physical address of the first table (the value for CR3), a multiple of 4096.

    The tables follow each other in memory from there in the order in which they become necessary.
    """

    def __init__(self, base: int) -> None:
        if base % KIB4:
            raise ValueError(f"page tables at {base:#x}: not a multiple of 4096")
        self.base = base
        self._tables = [[0] * ENTRIES]

    def map(self, virtual: int, physical: int, size: int, flags: int = WRITABLE, largest: int = MIB2) -> None:
        """Map [virtual, virtual + size) to physical memory from `physical` on, with the largest pages that fit.

        Args:
            virtual, physical, size: bytes, multiples of 4096 (uint64_t).
            flags: of the pages: WRITABLE, USER, NO_EXECUTE ...; PRESENT is always set.
            largest: the largest page to use: KIB4, MIB2 or GIB1 (which not every processor has).

        Raises ValueError where an address is not aligned, not canonical, or mapped already.
        """
        if (virtual | physical | size) % KIB4 or size <= 0:
            raise ValueError(f"cannot map {size:#x} bytes at {virtual:#x} to {physical:#x}: not multiples of 4096")
        if not (canonical(virtual) and canonical(virtual + size - 1)) or physical + size > ADDRESS + KIB4:
            raise ValueError(f"cannot map {size:#x} bytes at {virtual:#x} to {physical:#x}: no such address")
        while size:
            page = next(p for p in (GIB1, MIB2, KIB4) if p <= min(size, largest) and not (virtual | physical) % p)
            self._map_page(virtual, physical, page, flags)
            virtual, physical, size = virtual + page, physical + page, size - page

    def _map_page(self, virtual: int, physical: int, page: int, flags: int) -> None:
        """Write the one entry that maps a page, making the tables above it where they are missing."""
        table, shift = self._tables[0], PML4_SHIFT
        while 1 << shift > page:
            index = virtual >> shift & (ENTRIES - 1)
            table = self._next(table, index, flags & USER, virtual)
            shift -= 9
        index = virtual >> shift & (ENTRIES - 1)
        if table[index]:
            raise ValueError(f"{virtual:#x} is mapped already")
        table[index] = physical | flags | PRESENT | (LARGE if page > KIB4 else 0)

    def _next(self, table: list[int], index: int, user: int, virtual: int) -> list[int]:
        """Return the table that an entry points to.

        On the way to a page the strictest entry wins, so those above it are permissive: writable always, and
        open to ring 3 where some page below is.
        """
        if table[index] & LARGE:
            raise ValueError(f"{virtual:#x} is mapped already, by a larger page")
        if not table[index]:
            table[index] = self.base + len(self._tables) * KIB4 | PRESENT | WRITABLE
            self._tables.append([0] * ENTRIES)
        table[index] |= user
        return self._tables[((table[index] & ADDRESS) - self.base) // KIB4]

    def tobytes(self) -> bytes:
        """Return all tables, as they must lie in memory from `base` on."""
        return b"".join(pack(f"<{ENTRIES}Q", *table) for table in self._tables)


def canonical(address: int) -> bool:
    """Say whether bits 63 to 48 of a virtual address repeat bit 47, as they must (SDM volume 1, 3.3.7.1)."""
    return address >> 47 in (0, (1 << 17) - 1)


def identity_map(base: int, ranges: Iterable[tuple[int, int]]) -> PageTables:
    """Return tables that map each (address, length) of memory to itself, for ring 0, writable and executable.

    A kernel replaces or refines them; until then virtual and physical addresses are the same. Lengths
    are rounded up to 2 MiB.
    """
    tables = PageTables(base)
    for address, length in ranges:
        tables.map(address, address, -(-length // MIB2) * MIB2)
    return tables


# --- segments ---------------------------------------------------------------------------------------------
#
# In long mode a code segment says little more than "64-bit, ring N", and base and limit are ignored, yet the
# descriptor must be there. Eight bytes:
#
#     63      56 55 54 53 52 51    48 47 46  45 44 43    40 39                16 15         0
#    | base     | G| D| L|AVL| limit  | P| DPL | S| type   | base 23 to 0       | limit 15-0 |

CODE = 0b1011  # the field `type`, execute and read, accessed
DATA = 0b0011  # read and write, accessed
TSS_BUSY = 0b1011  # kind with S = 0: a task state segment in use
PAGES = 1  # G: the limit counts 4 KiB pages, not bytes
LIMIT = 0xFFFFF  # 20 bits


class Segment:
    """One segment, as a descriptor in the GDT and as a segment register."""

    __slots__ = ("base", "db", "dpl", "g", "kind", "l", "limit", "s", "selector")

    def __init__(
        self, selector: int, kind: int, *, ring: int = 0, long: int = 0, base: int = 0, limit: int = LIMIT
    ) -> None:
        self.selector = selector | ring  # byte offset in the GDT; the low two bits ask for a ring
        self.kind = kind  # the field `type`
        self.dpl = ring  # which ring may use it
        self.l = long  # 64-bit code
        self.db = 1 - long  # 32-bit operands; must be 0 where L is 1
        self.s = 1  # code or data, no system segment
        self.g = PAGES
        self.base = base
        self.limit = limit

    def descriptor(self) -> int:
        """Return the eight bytes of the GDT entry, as a number."""
        return (
            self.limit & 0xFFFF
            | (self.base & 0xFFFFFF) << 16
            | self.kind << 40
            | self.s << 44
            | self.dpl << 45
            | 1 << 47  # P: present
            | (self.limit >> 16) << 48
            | self.l << 53
            | self.db << 54
            | self.g << 55
            | (self.base >> 24) << 56
        )

    def register(self) -> dict[str, int]:
        """Return the same as the fields of struct kvm_segment, where the limit is always in bytes."""
        limit = self.limit << 12 | 0xFFF if self.g else self.limit
        return {
            "base": self.base,
            "limit": limit,
            "selector": self.selector,
            "type": self.kind,
            "present": 1,
            "dpl": self.dpl,
            "db": self.db,
            "s": self.s,
            "l": self.l,
            "g": self.g,
        }


KERNEL_CODE = Segment(0x08, CODE, long=1)
KERNEL_DATA = Segment(0x10, DATA)
USER_DATA = Segment(0x18, DATA, ring=3)  # before the code: that is the order in which `sysret` expects them
USER_CODE = Segment(0x20, CODE, ring=3, long=1)
TSS_SELECTOR = 0x28  # 16 bytes, left empty: a kernel that wants to leave ring 0 fills in its own TSS


# A kernel that is started by Linux's boot protocol finds its segments at these selectors.
BOOT_CODE = Segment(0x10, CODE, long=1)
BOOT_DATA = Segment(0x18, DATA)


def boot_gdt() -> bytes:
    """Return the GDT of Linux's 64-bit boot protocol: __BOOT_CS is 0x10, __BOOT_DS 0x18."""
    return pack("<4Q", 0, 0, BOOT_CODE.descriptor(), BOOT_DATA.descriptor())


def gdt() -> bytes:
    """Return the GDT: the null descriptor that must come first, the four segments, and room for a TSS."""
    segments = (KERNEL_CODE, KERNEL_DATA, USER_DATA, USER_CODE)
    return pack("<7Q", 0, *(segment.descriptor() for segment in segments), 0, 0)


# --- control registers ------------------------------------------------------------------------------------

CR0_PE = 1 << 0  # protected mode: segments are descriptors
CR0_MP = 1 << 1  # with ET and NE: the usual settings for the floating-point unit
CR0_ET = 1 << 4
CR0_NE = 1 << 5
CR0_WP = 1 << 16  # ring 0 too obeys read-only pages
CR0_PG = 1 << 31  # paging
CR4_PAE = 1 << 5  # 8-byte page table entries: long mode demands it
CR4_PGE = 1 << 7  # global pages may be used
EFER_LME = 1 << 8  # long mode enable: asked for
EFER_LMA = 1 << 10  # long mode active: the processor sets it when paging goes on; we say that it has
EFER_NXE = 1 << 11  # the XD bit of page tables may be used


def special_registers(
    tables: int, gdt_address: int, gdt_size: int, code: Segment = KERNEL_CODE, data_segment: Segment = KERNEL_DATA
) -> Registers:
    """Return the fields of struct kvm_sregs for long mode in ring 0.

    Args:
        tables: guest-physical address of the first page table.
        gdt_address, gdt_size: where the GDT lies; bytes.
        code, data_segment: what CS and the other segment registers hold; both are in that GDT.
    """
    data = data_segment.register()
    tss = {"base": 0, "limit": 0xFFFF, "selector": 0, "type": TSS_BUSY, "present": 1, "s": 0}
    return {
        "cs": code.register(),
        "ds": data,
        "es": data,
        "fs": data,
        "gs": data,
        "ss": data,
        "tr": tss,  # must be a busy TSS even where none is used (SDM volume 3C, 26.3.1.2)
        "gdt": {"base": gdt_address, "limit": gdt_size - 1},
        "idt": {"base": 0, "limit": 0},  # none: an interrupt now would end the machine, and they are off
        "cr0": CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_PG,
        "cr3": tables,
        "cr4": CR4_PAE | CR4_PGE,
        "efer": EFER_LME | EFER_LMA | EFER_NXE,
    }
