"""The walk through a guest's page tables that the processor makes for each address, done by hand and drawn.

    linear address, 4 levels   |63 ... 48 copies of 47|PML4 47-39|PDPT 38-30|PD 29-21|PT 20-12|offset 11-0|
                    5 levels   |63 ... 57 copies of 56|PML5 56-48|PML4 ...
                    PAE        |PDPT 31-30|PD 29-21|PT 20-12|offset|        no paging: linear is physical
                    32 bits    |PD 31-22|PT 21-12|offset|
    entry                      |NX 63| ... |physical address 51-12| ... |G|PS|D|A|PCD|PWT|US|RW|P 0|

Each index chooses one of the 512 entries (1024 in 32 bits) of the table to which the entry above points; CR3 points to the
first. PS in a PDPT's or PD's entry makes it the page itself: 1 GiB or 2 MiB (4 MiB in 32 bits, where bits 20-13 are the
address's 39-32); higher up it is reserved. What the guest may do is the strictest of all levels, but for PAE's PDPT, which says
nothing of it. Intel SDM volume 3A, chapter 4.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    Memory = Callable[[int, int], bytes | memoryview]  # (guest-physical address, length) -> bytes; IndexError

__all__ = ["Entry", "Modes", "Walk", "page_address", "pieces", "walk"]

PRESENT, WRITABLE, USER, ACCESSED, DIRTY, LARGE, GLOBAL, NO_EXECUTE = 1, 2, 4, 1 << 5, 1 << 6, 1 << 7, 1 << 8, 1 << 63
FLAGS = {PRESENT: "P", WRITABLE: "RW", USER: "US", 1 << 3: "PWT", 1 << 4: "PCD", ACCESSED: "A", DIRTY: "D", GLOBAL: "G",
         NO_EXECUTE: "NX"}  # fmt: skip
ADDRESS = 0x000F_FFFF_FFFF_F000
PG, PAE, PSE, LA57, LMA = 1 << 31, 1 << 5, 1 << 4, 1 << 12, 1 << 10  # CR0, CR4, CR4, CR4, EFER
LEVELS = {"PML5": 48, "PML4": 39, "PDPT": 30, "PD": 21, "PT": 12}  # lowest bit of the index


class Modes:
    """The registers that say how addresses are translated."""

    __slots__ = ("cr0", "cr3", "cr4", "efer")

    def __init__(self, cr0: int, cr3: int, cr4: int, efer: int) -> None:
        self.cr0, self.cr3, self.cr4, self.efer = cr0, cr3, cr4, efer

    @classmethod
    def of(cls, sregs: Any) -> Modes:
        """Take them from a struct kvm_sregs, or from anything with these names."""
        return cls(int(sregs.cr0), int(sregs.cr3), int(sregs.cr4), int(sregs.efer))

    def levels(self) -> list[tuple[str, int, int]]:
        """Return the tables from the top: (name, lowest bit of the index, its width); none without paging."""
        if not self.cr0 & PG:
            return []
        if not self.cr4 & PAE:
            return [("PD", 22, 10), ("PT", 12, 10)]
        if not self.efer & LMA:
            return [("PDPT", 30, 2), ("PD", 21, 9), ("PT", 12, 9)]
        names = list(LEVELS) if self.cr4 & LA57 else list(LEVELS)[1:]
        return [(name, LEVELS[name], 9) for name in names]

    def name(self) -> str:
        """Return the mode in words."""
        kinds = {0: "no paging: linear addresses are physical", 2: "32-bit paging, 2 levels", 3: "PAE paging, 3 levels"}
        count = len(self.levels())
        return kinds.get(count, f"{count}-level paging")


class Entry:
    """One entry on the way."""

    __slots__ = ("address", "bits", "index", "large", "level", "shift", "value")

    def __init__(self, level: str, index: int, address: int, value: int, shift: int, bits: int, large: bool) -> None:
        self.level, self.index = level, index
        self.address = address  # where the entry lies, guest-physical
        self.value, self.shift = value, shift
        self.bits = bits  # of the index
        self.large = large  # whether it is the page itself, above the last level

    def flags(self) -> list[str]:
        """Return the names of its bits."""
        return [name for bit, name in FLAGS.items() if self.value & bit] + ["PS"] * self.large


class Walk:
    """One walk: the entries, and where it ended."""

    __slots__ = ("entries", "fault", "linear", "mode", "physical", "root", "size")

    def __init__(self, linear: int, mode: str, root: int | None) -> None:
        self.linear, self.mode = linear, mode
        self.root = root  # where the first table lies, None without paging
        self.entries: list[Entry] = []
        self.physical: int | None = None  # None where there is a fault
        self.size = 0  # of the page, bytes
        self.fault = ""  # why not, in words

    @property
    def rights(self) -> list[str]:
        """What the guest may do there: the strictest of all levels."""
        entries = self.entries[1:] if self.entries[0].bits == 2 else self.entries  # of 2 bits' index is but PAE's PDPT

        def every(bit: int) -> bool:
            return all(entry.value & bit for entry in entries)

        words = ["write"] if every(WRITABLE) else ["read only (unless CR0.WP is 0 and it is ring 0)"]
        words += ["ring 3"] if every(USER) else ["ring 0 to 2 only"]
        if any(entry.value & NO_EXECUTE for entry in self.entries):
            words.append("no execution")
        return words

    def as_dict(self) -> dict[str, Any]:
        """Return it as a JSON object; addresses are numbers."""
        entries = [
            {"level": e.level, "index": e.index, "address": e.address, "value": e.value, "flags": e.flags()} for e in self.entries
        ]
        found = {"physical": self.physical, "page_size": self.size, "rights": self.rights if self.entries else []}
        return {"linear": self.linear, "mode": self.mode, "root": self.root, "entries": entries, "fault": self.fault or None} | (
            found if self.physical is not None else {}
        )

    def draw(self) -> str:
        """Return it as a drawing, a line a table."""
        lines = [f"{self.linear:#018x}  {self.mode}"]
        if self.root is not None:
            lines.append(f"  CR3   -> table at {self.root:#x}")
        for depth, entry in enumerate(self.entries):
            where = f"[{entry.index}]".ljust(6)
            aim = "page " if entry.large or entry.shift == 12 else "table"
            arrow = f"-> {aim} at {_target(entry):#x}" if entry.value & PRESENT else "   (not present)"
            lines.append(f"{'  ' * (depth + 1)}  {entry.level:4} {where} at {entry.address:#x}: {entry.value:016x} {arrow}"
                         f"  {' '.join(entry.flags()) or 'no flags'}")  # fmt: skip
        if self.physical is None:
            lines.append(f"  FAULT  {self.fault}")
        else:
            page = f", in a page of {_size(self.size)}; {', '.join(self.rights)}" if self.entries else ""
            lines.append(f"  = guest-physical {self.physical:#x}{page}")
        return "\n".join(lines)


def _size(size: int) -> str:
    return next(f"{size >> shift} {unit}" for shift, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")) if size >> shift)


def _target(entry: Entry) -> int:
    """Return the physical address to which an entry points: a page's own low bits may hold other flags (PAT)."""
    return page_address(entry.value, entry.shift) if entry.large else entry.value & ADDRESS


def page_address(value: int, shift: int) -> int:
    """Return the physical address of the page that an entry is; `shift`: the lowest bit of its index."""
    high = value >> 13 & 0xFF if shift == 22 else 0  # a PD's of 32 bits: PSE-36, SDM 3A, table 4-4
    return high << 32 | value & ADDRESS & -1 << shift


def walk(linear: int, modes: Modes, memory: Memory) -> Walk:
    """Walk.

    Args:
        linear: the address (uint64_t).
        modes: how, and from which CR3.
        memory: reads guest-physical memory; raises IndexError where there is none.

    Nothing is raised: where the walk ends in a fault, `fault` says why.
    """
    levels = modes.levels()
    width = 4 if levels and not modes.cr4 & PAE else 8
    table = modes.cr3 & (0xFFFF_FFE0 if len(levels) == 3 else ADDRESS)
    result = Walk(linear, modes.name(), table if levels else None)
    if not levels:
        result.physical = linear
        return result
    top = levels[0][1] + levels[0][2]
    if len(levels) > 3 and linear >> top - 1 not in (0, (1 << 65 - top) - 1):
        result.fault = f"not canonical: bits 63 to {top - 1} are not all alike (general protection fault, not page fault)"
        return result
    if len(levels) <= 3 and linear >> 32:
        result.fault = "more than 32 bits, and this mode has no more"
        return result
    for level, shift, bits in levels:
        index = linear >> shift & (1 << bits) - 1
        address = table + index * width
        try:
            value = int.from_bytes(memory(address, width), "little")
        except IndexError:
            result.fault = f"the {level} lies outside the guest's memory"
            return result
        large = shift > 12 and level in ("PD", "PDPT") and bool(value & LARGE) and _has_large(level, modes)
        entry = Entry(level, index, address, value, shift, bits, large)
        result.entries.append(entry)
        if not value & PRESENT:
            result.fault = f"page fault: the {level} entry is not present"
            return result
        if shift >= LEVELS["PML4"] and value & LARGE:
            result.fault = f"page fault: a reserved bit is set, PS in the {level} entry"
            return result
        table = _target(entry)
        if large or shift == 12:
            result.size = 1 << shift
            result.physical = table | linear & result.size - 1
            break
    return result


def _has_large(level: str, modes: Modes) -> bool:
    """Say whether PS means something: in a PD of 32 bits only with CR4.PSE, in the 4 entries of PAE's PDPT never."""
    if level == "PDPT":
        return bool(modes.efer & LMA)
    return bool(modes.cr4 & (PAE | PSE))


def pieces(linear: int, length: int, modes: Modes, memory: Memory) -> Iterator[tuple[int, int]]:
    """Yield (guest-physical address, length) for each part of a range that lies in one page. Raises IndexError at a fault."""
    while length > 0:
        found = walk(linear, modes, memory)
        if found.physical is None:
            raise IndexError(f"{linear:#x}: {found.fault}")
        size = found.size or 0x1000
        part = min(length, size - (linear & size - 1))
        yield found.physical, part
        linear, length = linear + part & (1 << 64) - 1, length - part
