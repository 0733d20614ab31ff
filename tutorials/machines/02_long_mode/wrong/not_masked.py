"""_map_page: the index of the first table is all that is left of it, also the copies of bit 47.

The check says: raised: IndexError
"""

from minivm.boot.longmode import ENTRIES, KIB4, LARGE, PML4_SHIFT, PRESENT, USER


class PageTables:
    def _map_page(self, virtual: int, physical: int, page: int, flags: int) -> None:
        table, shift = self._tables[0], PML4_SHIFT
        while 1 << shift > page:
            index = virtual >> shift if shift == PML4_SHIFT else virtual >> shift & (ENTRIES - 1)
            table = self._next(table, index, flags & USER, virtual)
            shift -= 9
        index = virtual >> shift & (ENTRIES - 1)
        if table[index]:
            raise ValueError("mapped already")
        table[index] = physical | flags | PRESENT | (LARGE if page > KIB4 else 0)
