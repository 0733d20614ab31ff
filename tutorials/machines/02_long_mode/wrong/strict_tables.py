"""_next: a table's entry gets what its first page wants, and later ones do not open it.

The check says: ring-3: it is not so
"""

from minivm.boot.longmode import ADDRESS, ENTRIES, KIB4, LARGE, PRESENT, WRITABLE


class PageTables:
    def _next(self, table: list[int], index: int, user: int, virtual: int) -> list[int]:
        if table[index] & LARGE:
            raise ValueError("mapped already")
        if not table[index]:
            table[index] = self.base + len(self._tables) * KIB4 | PRESENT | WRITABLE | user
            self._tables.append([0] * ENTRIES)
        return self._tables[((table[index] & ADDRESS) - self.base) // KIB4]
