"""_map_page: what was mapped is mapped over.

The check says: twice: 1
"""

from minivm.boot.longmode import ENTRIES, KIB4, LARGE, PML4_SHIFT, PRESENT, USER


class PageTables:
    def _map_page(self, virtual: int, physical: int, page: int, flags: int) -> None:
        table, shift = self._tables[0], PML4_SHIFT
        while 1 << shift > page:
            table = self._next(table, virtual >> shift & (ENTRIES - 1), flags & USER, virtual)
            shift -= 9
        table[virtual >> shift & (ENTRIES - 1)] = physical | flags | PRESENT | (LARGE if page > KIB4 else 0)
