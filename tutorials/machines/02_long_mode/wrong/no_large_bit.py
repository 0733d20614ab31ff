"""_map_page: a page of 2 MiB without the bit that says so: the processor takes it for a table.

The check says: boots: it is not so
"""

from minivm.boot.longmode import ENTRIES, PML4_SHIFT, PRESENT, USER


class PageTables:
    def _map_page(self, virtual: int, physical: int, page: int, flags: int) -> None:
        table, shift = self._tables[0], PML4_SHIFT
        while 1 << shift > page:
            table = self._next(table, virtual >> shift & (ENTRIES - 1), flags & USER, virtual)
            shift -= 9
        index = virtual >> shift & (ENTRIES - 1)
        if table[index]:
            raise ValueError("mapped already")
        table[index] = physical | flags | PRESENT
