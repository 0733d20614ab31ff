"""The symbols that a Linux kernel carries in itself, for its own stack traces: of a stripped vmlinux the only ones.

Debian's System.map holds one line that says so and its vmlinux of 900 MB is another package's. scripts/kallsyms.c of the kernel's
source writes these tables into .rodata, each aligned to 8 bytes, in one of four forms:

    6.1         offsets | relative_base | num_syms | names | markers |        token_table | token_index
    6.2 (and 6.1 as it is kept)               the same               | seqs | the same
    from 6.4    num_syms | names | markers | token_table | token_index | offsets | relative_base | seqs
    7.3         num_syms | the same, aligned to 4 bytes                 | offsets | seqs

    token_table   256 strings, each ended by NUL; token_index their places (u16): common pieces of names
    names         a symbol: length (a byte, or two where the first has bit 7), then so many tokens; the text that comes
                  of it is the type, as nm writes it, and the name
    markers       where in `names` each 256th symbol begins (u32)
    offsets       a symbol's address (s32): below zero it is relative_base - 1 - offset, else absolute (a per-CPU variable's).
                  Without a relative_base: its distance from the place of its own offset

The digits from 0 to 9 are tokens of their own in every kernel, one behind the other: there the tables are found.
"""

from __future__ import annotations

import re
from itertools import pairwise
from struct import unpack_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["kallsyms"]

DIGITS = b"".join(b"%d\0" % digit for digit in range(10))
ZERO = ord("0")  # the token's number
BLOCK = 256  # symbols a marker
KERNEL = 0xFFFF_8000_0000_0000  # where its half of the addresses begins
NAME_BYTES = 160  # of a symbol in `names`, far more than is met
MOST, FARTHEST = 1 << 21, 1 << 25  # symbols; bytes from their number to the tokens
# An address of the kernel at a whole page, a number of four bytes, and padding.
PAGE = b"".join(rb"\x%02x" % high for high in range(0, 256, 16))  # second byte of such an address
BASE_AND_NUMBER = re.compile(rb"(?=\x00[%b].[\x80-\xff]\xff{4}(..[\x00-\x1f]\x00)\x00{4})" % PAGE, re.DOTALL)


def kallsyms(image: bytes) -> list[tuple[int, str, str]]:
    """Return (address, type as nm writes it, name) of each symbol, in the order of their addresses.

    Args:
        image: an uncompressed kernel: its ELF file, or memory that holds it.

    Raises ValueError where no such tables are found.
    """
    for at in _all(image, DIGITS):
        for read in (_read, _read_close):
            try:
                return read(image, at)
            except (ValueError, IndexError, OverflowError, StopIteration):
                continue
            except Exception as error:
                if type(error).__name__ != "error":  # struct.error: a table that would go beyond the image
                    raise
    raise ValueError("no kallsyms tables (a kernel without CONFIG_KALLSYMS, or no kernel)")


def _all(image: bytes, wanted: bytes) -> Iterator[int]:
    at = image.find(wanted)
    while at >= 0:
        yield at
        at = image.find(wanted, at + 1)


def _read(image: bytes, digits: int) -> list[tuple[int, str, str]]:
    start, tokens, index = _tokens(image, digits)
    try:
        number, names = _names(image, *_markers(image, start))
    except ValueError:
        number, names = _names_behind_base(image, start)
    addresses = _addresses(image, number, names - 8, index + 512)
    return sorted(zip(addresses, *_expand(image, names, number, tokens), strict=True))


def _read_close(image: bytes, digits: int) -> list[tuple[int, str, str]]:
    """Read the newest form, in which nothing has more than four bytes: addresses are distances from where they stand."""
    start, tokens, index = _tokens(image, digits, 4)
    number, names = _names(image, *_markers(image, start), 4)
    offsets = index + 512
    here = _loaded_at(image, offsets)
    addresses = [here + 4 * n + value for n, value in enumerate(unpack_from(f"<{number}i", image, offsets))]
    if not all(address >= KERNEL for address in addresses):
        raise ValueError("addresses that are not the kernel's")
    return sorted(zip(addresses, *_expand(image, names, number, tokens), strict=True))


def _loaded_at(image: bytes, place: int) -> int:
    """Return the address at which a byte of an ELF file lies: its program headers say so (man 5 elf)."""
    if image[:5] != b"\x7fELF\x02":
        raise ValueError("the addresses need the headers of an ELF file")
    (table,), (size, count) = unpack_from("<Q", image, 32), unpack_from("<2H", image, 54)
    for number in range(count):
        kind, _, offset, address, _, length = unpack_from("<IIQQQQ", image, table + size * number)
        if kind == 1 and offset <= place < offset + length:
            return int(address + place - offset)
    raise ValueError("no segment holds the addresses")


def _align(place: int, unit: int = 8) -> int:
    return place + unit - 1 & -unit


def _tokens(image: bytes, digits: int, unit: int = 8) -> tuple[int, list[bytes], int]:
    """Return where the tokens begin, the 256 of them, and where their index begins, aligned to so many bytes.

    Where the first one begins only the index tells: what stands before it need not end with NUL.
    """
    second = digits
    for _ in range(ZERO - 1):
        second = image.rindex(b"\0", 0, second - 1) + 1
    tokens = image[second : second + (1 << 14)].split(b"\0", 255)[:255]
    index = _align(second + sum(len(token) + 1 for token in tokens), unit)
    places = unpack_from("<256H", image, index)
    start = second - places[1]
    tokens.insert(0, image[start : second - 1])
    if places[0] or start < 0 or any(b - a != len(token) + 1 for (a, b), token in zip(pairwise(places), tokens, strict=False)):
        raise ValueError("the index is of other tokens")
    return start, tokens, index


def _markers(image: bytes, end: int) -> tuple[int, list[int]]:
    """Return where the markers begin, read backwards from the tokens to the 0 of the first one, and the markers."""
    place = end - 4
    found: list[int] = []
    (value,) = unpack_from("<I", image, place)
    if not value:  # padding
        place -= 4
    while True:
        (value,) = unpack_from("<I", image, place)
        if found and value >= found[-1]:
            raise ValueError("markers are to rise")
        found.append(value)
        if not value:
            return place, found[::-1]
        place -= 4


def _names(image: bytes, end: int, markers: list[int], unit: int = 8) -> tuple[int, int]:
    """Return how many symbols there are, and where their names begin: the number, of `unit` bytes, is right before them."""
    most = len(markers) * BLOCK
    last = end - markers[-1]
    for place in range(_align(last, unit) - unit, last - BLOCK * NAME_BYTES, -unit):
        number, names = int.from_bytes(image[place : place + unit], "little"), place + unit
        if most - BLOCK < number <= most and all(_block(image, names + a, BLOCK) == names + b for a, b in pairwise(markers[:3])):
            return number, names
    raise ValueError("the names are not found")


def _names_behind_base(image: bytes, end: int) -> tuple[int, int]:
    """Return the same where other tables lie between: the number is behind an address of the kernel, and before the names."""
    for found in BASE_AND_NUMBER.finditer(image, max(0, end - FARTHEST), end):
        place, number = found.start() + 16, int.from_bytes(found[1], "little")
        if found.start() % 8 or not BLOCK < number < MOST:
            continue
        behind = _block(image, place, BLOCK) - place
        last = _align(_block(image, place, number))
        if unpack_from("<2I", image, last) == (0, behind):
            return number, place
    raise ValueError("the names are not found")


def _block(image: bytes, place: int, count: int) -> int:
    """Return where so many names end."""
    for _ in range(count):
        length, place = _length(image, place)
        place += length
    return place


def _length(image: bytes, place: int) -> tuple[int, int]:
    length = image[place]
    if length & 0x80:
        return length & 0x7F | image[place + 1] << 7, place + 2
    return length, place + 1


def _expand(image: bytes, place: int, number: int, tokens: list[bytes]) -> tuple[list[str], list[str]]:
    """Return the types and the names."""
    kinds, names = [], []
    texts = [token.decode("latin-1") for token in tokens]
    for _ in range(number):
        length, place = _length(image, place)
        text = "".join([texts[byte] for byte in image[place : place + length]])
        kinds.append(text[:1])
        names.append(text[1:])
        place += length
    return kinds, names


def _addresses(image: bytes, number: int, before: int, after: int) -> list[int]:
    """Return the addresses, in the order of the names.

    Args:
        before: where num_syms is: in old kernels the base is right before it.
        after: where the index of the tokens ends: in new ones the offsets are right behind it.
    """
    behind = after + _align(4 * number)
    base = int.from_bytes(image[behind : behind + 8], "little")
    offsets = after
    if not _is_base(base):
        (base,) = unpack_from("<Q", image, before - 8)
        offsets = before - 8 - _align(4 * number)
    if not _is_base(base):
        raise ValueError("the base of the addresses is not found")
    values = unpack_from(f"<{number}i", image, offsets)
    if any(value < 0 for value in values):
        return [base - 1 - value if value < 0 else value for value in values]
    return [base + value for value in values]


def _is_base(value: int) -> bool:
    return value >= KERNEL and value & 0xFFF == 0
