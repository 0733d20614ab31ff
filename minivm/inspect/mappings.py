"""All that a guest's page tables map, as ranges: the walk of paging.py, to everywhere at once."""

from __future__ import annotations

from minivm.inspect.paging import ADDRESS, LARGE, LEVELS, PAE, PRESENT, PSE, page_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minivm.inspect.paging import Memory, Modes

__all__ = ["mappings"]

RESERVED = LEVELS["PML4"]  # from here up an entry is never a page
MOST_TABLES = 1 << 16  # a guest whose tables point to each other in circles has no end


def mappings(modes: Modes, memory: Memory) -> Iterator[tuple[int, int, int]]:
    """Yield (virtual address, guest-physical address, bytes) of each range whose pages follow each other in both.

    Args:
        modes, memory: as for paging.walk. Tables that lie outside the memory map nothing.
    """
    last: tuple[int, int, int] | None = None
    for virtual, physical, size in _pages(modes, memory):
        if last and last[0] + last[2] == virtual and last[1] + last[2] == physical:
            last = last[0], last[1], last[2] + size
            continue
        if last:
            yield last
        last = virtual, physical, size
    if last:
        yield last


def _pages(modes: Modes, memory: Memory) -> Iterator[tuple[int, int, int]]:
    levels = modes.levels()
    if not levels:
        return
    width = 4 if not modes.cr4 & PAE else 8
    seen = 0
    # A stack rather than recursion: (table, level, what the indices above it make of the address, next index)
    stack = [(modes.cr3 & (0xFFFF_FFE0 if len(levels) == 3 else ADDRESS), 0, 0, 0)]
    while stack:
        table, level, above, index = stack.pop()
        _, shift, bits = levels[level]
        try:
            data = memory(table, width << bits)
        except IndexError:
            continue
        entries = memoryview(data).cast("I" if width == 4 else "Q")
        for number in range(index, 1 << bits):
            value = entries[number]
            if not value & PRESENT:
                continue
            virtual = above | number << shift
            if shift >= RESERVED and value & LARGE:
                continue
            large = shift > 12 and value & LARGE and (shift < 30 or len(levels) > 3) and modes.cr4 & (PAE | PSE)
            if large or shift == 12:
                yield _canonical(virtual, levels), page_address(value, shift), 1 << shift
            else:
                seen += 1
                if seen > MOST_TABLES:
                    return
                stack += [(table, level, above, number + 1), (value & ADDRESS, level + 1, virtual, 0)]
                break


def _canonical(virtual: int, levels: list[tuple[str, int, int]]) -> int:
    """Repeat the highest bit that is translated (in 4 and 5 levels)."""
    top = levels[0][1] + levels[0][2]
    return virtual | ((1 << 64) - (1 << top)) if len(levels) > 3 and virtual >> top - 1 & 1 else virtual
