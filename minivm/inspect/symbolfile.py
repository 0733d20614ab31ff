"""An ELF file that holds symbols and nothing else, for gdb's `file` where the kernel's own was stripped (man 5 elf).

    header | section headers: none, .text and .data in runs, .symtab, .strtab, .shstrtab | the last three's contents

Sections of the type NOBITS say which addresses are code and which data, without a byte of either.
"""

from __future__ import annotations

from itertools import groupby
from struct import pack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from minivm.inspect.symbols import Symbol

__all__ = ["symbol_file"]

CODE = "TtWw"
HEADER, SECTION, SYMBOL = 64, 64, 24  # bytes of each
SYMTAB, STRTAB, NOBITS = 2, 3, 8
WRITE, ALLOC, EXECUTE = 1, 2, 4
LOCAL, GLOBAL = 0, 1 << 4
OBJECT, FUNCTION = 1, 2
RUN = 1 << 12  # bytes that are taken for the last symbol's own


def symbol_file(symbols: Sequence[Symbol]) -> bytes:
    """Return the file.

    Args:
        symbols: (address, type as nm writes it, name), in the order of their addresses; absolute ones are left out.
    """
    known = [symbol for symbol in symbols if symbol[1] not in "AaU?"]
    known = sorted(known, key=lambda symbol: symbol[1].isupper())  # local ones come first (man 5 elf, sh_info)
    runs = _runs(sorted(known))
    strings, table = bytearray(b"\0"), bytearray(SYMBOL)
    places = [(first, last, number) for number, (first, last, _) in enumerate(runs, 1)]
    for address, kind, name in known:
        section = next(number for first, last, number in reversed(places) if first <= address <= last)
        info = (GLOBAL if kind.isupper() else LOCAL) | (FUNCTION if kind in CODE else OBJECT)
        table += pack("<IBBHQQ", len(strings), info, 0, section, address, 0)
        strings += name.encode() + b"\0"
    local = 1 + sum(not kind.isupper() for _, kind, _ in known)
    return _file(runs, bytes(table), bytes(strings), local)


def _runs(symbols: Sequence[Symbol]) -> list[tuple[int, int, bool]]:
    """Return (first address, last, whether it is code) of each run of symbols of one kind."""
    groups = [list(group) for _, group in groupby(symbols, key=lambda symbol: symbol[1] in CODE)]
    return [(group[0][0], group[-1][0], group[0][1] in CODE) for group in groups]


def _file(runs: list[tuple[int, int, bool]], table: bytes, strings: bytes, local: int) -> bytes:
    names = b"\0.text\0.data\0.symtab\0.strtab\0.shstrtab\0"
    count = len(runs) + 4
    place = HEADER + SECTION * count
    sections = [bytes(SECTION)]
    for number, (first, last, code) in enumerate(runs):
        end = runs[number + 1][0] if number + 1 < len(runs) else last + RUN
        name, flags = (names.index(b".text"), ALLOC | EXECUTE) if code else (names.index(b".data"), ALLOC | WRITE)
        sections.append(pack("<IIQQQQIIQQ", name, NOBITS, flags, first, place, end - first, 0, 0, 1, 0))
    for name, kind, data, link, info, size in (
        (names.index(b".symtab"), SYMTAB, table, len(runs) + 2, local, SYMBOL),
        (names.index(b".strtab"), STRTAB, strings, 0, 0, 0),
        (names.index(b".shstrtab"), STRTAB, names, 0, 0, 0),
    ):
        sections.append(pack("<IIQQQQIIQQ", name, kind, 0, 0, place, len(data), link, info, 8 if size else 1, size))
        place += len(data)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = ident + pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 0, HEADER, 0, HEADER, 56, 0, SECTION, count, count - 1)
    return header + b"".join(sections) + table + strings + names
