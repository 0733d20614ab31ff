"""Make page tables with minivm's PageTables, and print them: words are BASE, and then VIRTUAL:PHYSICAL:SIZE:FLAGS each."""

import sys

from minivm.boot.longmode import PageTables

base, *wanted = sys.argv[1:]
tables = PageTables(int(base))
for word in wanted:
    virtual, physical, size, flags = map(int, word.split(":"))
    try:
        tables.map(virtual, physical, size, flags)
    except ValueError as error:
        print(f"refused: {error}")
print(tables.tobytes().hex())
