"""_map_page: WRITABLE, which the tables above need, on the page, too.

The check says: read-only: 1
"""

from minivm.boot.longmode import ENTRIES, KIB4, LARGE, PML4_SHIFT, PRESENT, USER, WRITABLE


class PageTables:
    def _map_page(self, virtual: int, physical: int, page: int, flags: int) -> None:
        table, shift = self._tables[0], PML4_SHIFT
        while 1 << shift > page:
            table = self._next(table, virtual >> shift & (ENTRIES - 1), flags & USER, virtual)
            shift -= 9
        index = virtual >> shift & (ENTRIES - 1)
        if table[index]:
            raise ValueError("mapped already")
        table[index] = physical | flags | PRESENT | WRITABLE | (LARGE if page > KIB4 else 0)
