"""A tar archive as a stream of entries (man 5 tar; POSIX pax; GNU tar manual, "Sparse Formats").

All of it is decoded here, and not by the standard library: tarfile keeps times as floats (no nanoseconds), ends at a
bad header without a word, in Python before 3.11.10 takes quadratic time over a hostile pax record (CVE-2024-6232), and
needs a third of the time that a layer takes for its 512-byte headers.

The caller reads an entry's data with `Archive.copy` before it asks for the next entry; what it leaves
is skipped. Names are bytes, as the kernel's are.
"""

from __future__ import annotations

import os

from minirt.image.compression import PIECE
from minirt.image.errors import BadArchive
from minirt.image.header import GNU_LONG, GNU_SPARSE, KINDS, Entry, Header, apply_pax, decimal, number, pax_records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minirt.image.compression import Reader

__all__ = ["Archive"]

BLOCK = 512
EXTENSION_LIMIT = 1 << 20  # bytes of one entry's extended headers: names, times, xattrs of 64 KiB
GLOBAL_LIMIT = 1 << 14  # bytes of what global extended headers say; git writes 52
SPARSE_LIMIT = 1 << 16  # data segments of one sparse file

_OLD = b"\0"  # a file, or a directory if its name ends in "/": before POSIX there was no type 5
_PAX, _PAX_GLOBAL = (b"x", b"X"), b"g"  # X: Solaris


class Archive:
    """Reads entries from a reader.

    Args: source, of the uncompressed tar; whole, whether the two zero blocks at the end are required
    (where no digest tells that the data is complete).
    Iterating raises BadArchive.
    """

    def __init__(self, source: Reader, *, whole: bool = False) -> None:
        self._source = source
        self._whole = whole
        self._piece = memoryview(b"")
        self._left = 0  # bytes of the current entry's data not read yet, with padding after them
        self._padding = 0
        self._budget = 0  # bytes of extended headers that this entry may still have
        self._any = False  # a header was seen
        self._pax: dict[bytes, bytes] = {}  # global pax records

    def __iter__(self) -> Iterator[Entry]:
        while (entry := self._next()) is not None:
            yield entry
            self._skip(self._left + self._padding)
        while self._more():  # a hash of the stream wants all of it
            self._piece = memoryview(b"")

    def write(self, fd: int, entry: Entry) -> None:
        """Write a regular file's content to `fd`, which is empty, with its holes. Raises as `copy` does."""
        if entry.segments is None:
            self.copy(fd, entry.stored)
        else:
            os.ftruncate(fd, entry.size)
            for offset, count in entry.segments:
                os.lseek(fd, offset, os.SEEK_SET)
                self.copy(fd, count)

    def copy(self, fd: int, count: int) -> None:
        """Write the next `count` bytes of the current entry's data to fd. Raises BadArchive, OSError."""
        for piece in self.data(count):
            while piece:
                piece = piece[os.write(fd, piece) :]

    def data(self, count: int) -> Iterator[memoryview]:
        """Yield the next `count` bytes of the current entry's data, in pieces. Raises BadArchive."""
        if count > self._left:
            raise BadArchive("a sparse file's map is longer than its data")
        self._left -= count
        while count:
            piece = self._take(count)
            count -= len(piece)
            yield piece

    # -- bytes

    def _more(self) -> bool:
        """Make the current piece not empty. Returns False at the end."""
        if not self._piece:
            self._piece = memoryview(self._source.read(PIECE))
        return bool(self._piece)

    def _take(self, count: int) -> memoryview:
        """Return between 1 and count bytes."""
        if not self._more():
            raise BadArchive("it is truncated")
        piece, self._piece = self._piece[:count], self._piece[count:]
        return piece

    def _read(self, count: int) -> bytes:
        """Return exactly count bytes of header."""
        if len(self._piece) >= count:
            return bytes(self._take(count))
        parts = []
        while count:
            parts.append(self._take(count))
            count -= len(parts[-1])
        return b"".join(parts)

    def _skip(self, count: int) -> None:
        while count:
            count -= len(self._take(count))

    def _extension(self, count: int) -> bytes:
        """Return the data of an extended header, without its padding."""
        self._budget -= count + BLOCK
        if count < 0 or self._budget < 0:
            raise BadArchive(f"an entry has more than {EXTENSION_LIMIT >> 10} KiB of extended headers")
        data = self._read(count)
        self._skip(-count % BLOCK)
        return data

    # -- entries

    def _next(self) -> Entry | None:
        """Return the next entry, or None at the end of the archive."""
        self._budget = EXTENSION_LIMIT
        records: dict[bytes, bytes] = {}
        sparse: list[tuple[bytes, bytes]] = []
        while (header := self._header()) is not None:
            if header.type in GNU_LONG:
                records[GNU_LONG[header.type]] = self._extension(header.size).split(b"\0")[0]
            elif header.type == _PAX_GLOBAL:
                self._global(pax_records(self._extension(header.size)))
            elif header.type in _PAX:
                pairs = pax_records(self._extension(header.size))
                records.update(pairs)
                sparse += [pair for pair in pairs if pair[0] in (b"GNU.sparse.offset", b"GNU.sparse.numbytes")]
            elif header.type in KINDS:
                return self._entry(header, {**self._pax, **records}, sparse)
            else:
                raise BadArchive(f"{header.name!r} is of an unknown type {header.type!r}")
        if records:
            raise BadArchive("it ends after an extended header")
        return None

    def _global(self, records: list[tuple[bytes, bytes]]) -> None:
        """Take records that hold for all entries that follow: they are looked at for each, and so are bounded together."""
        self._pax.update(records)
        if sum(len(key) + len(value) for key, value in self._pax.items()) > GLOBAL_LIMIT:
            raise BadArchive(f"it has more than {GLOBAL_LIMIT >> 10} KiB of global extended headers")

    def _header(self) -> Header | None:
        """Return the next header block, decoded, or None at the end."""
        if not self._more():
            if self._whole:
                raise BadArchive("it is truncated: no end-of-archive block" if self._any else "it is empty")
            return None
        try:
            block = self._block = self._read(BLOCK)
            if not any(block):
                return None
            header = Header(block)
        except BadArchive:
            if self._any:
                raise
            raise BadArchive("it is not a tar archive") from None
        except ValueError:
            if self._any:
                raise BadArchive("a header's checksum is wrong: it is damaged") from None
            raise BadArchive("it is not a tar archive") from None
        self._any = True
        return header

    def _entry(self, header: Header, pax: dict[bytes, bytes], sparse: list[tuple[bytes, bytes]]) -> Entry:
        entry = header.entry(KINDS[header.type])
        entry.stored = header.size if entry.kind == "file" else 0
        if pax:
            apply_pax(entry, pax)
        if header.type == _OLD:
            # The oldest tars wrote a directory as a file whose name ends in "/". Only the full name counts:
            # a long one is cut in the header block, perhaps after a "/".
            entry.kind = "directory" if entry.name.endswith(b"/") else "file"
            entry.stored = 0 if entry.kind == "directory" else header.size
        entry.size = entry.stored
        self._left, self._padding = entry.stored, -entry.stored % BLOCK
        if entry.stored < 0:
            raise BadArchive(f"{entry.name!r} has a negative size")
        if header.type == GNU_SPARSE:
            entry.size, entry.segments = self._old_sparse()
        elif entry.kind == "file" and any(key.startswith(b"GNU.sparse.") for key in pax):
            self._pax_sparse(entry, pax, sparse)
        if entry.segments is not None:
            _check_segments(entry)
        return entry

    # -- sparse files: three ways that GNU tar has had to say where the data is

    def _old_sparse(self) -> tuple[int, list[tuple[int, int]]]:
        """The GNU format: four segments in the header, more in blocks after it."""
        block = self._block
        size = number(block[483:495])
        segments = _old_segments(block[386:482])
        more = block[482]
        while more:
            block = self._extension(BLOCK)
            segments += _old_segments(block[:504])
            more = block[504]
            if len(segments) > SPARSE_LIMIT:
                raise BadArchive("a sparse file has too many segments")
        return size, segments

    def _pax_sparse(self, entry: Entry, pax: dict[bytes, bytes], pairs: list[tuple[bytes, bytes]]) -> None:
        """The pax formats 0.0 (repeated records), 0.1 (one record) and 1.0 (before the data)."""
        size = pax.get(b"GNU.sparse.realsize", pax.get(b"GNU.sparse.size"))
        if size is None:
            raise BadArchive(f"{entry.name!r} is sparse and has no size")
        entry.size = decimal(size)
        if pax.get(b"GNU.sparse.major") == b"1":
            numbers = self._sparse_map()
            entry.stored = self._left
        elif b"GNU.sparse.map" in pax:
            numbers = [decimal(text) for text in pax[b"GNU.sparse.map"].split(b",")]
        else:
            numbers = [decimal(value) for _, value in pairs]
        entry.segments = list(zip(numbers[::2], numbers[1::2], strict=False))
        if len(numbers) % 2:
            raise BadArchive(f"{entry.name!r} has half a sparse segment")

    def _sparse_map(self) -> list[int]:
        """Format 1.0: decimal lines in the blocks before the data: the count, then offset and bytes of each."""
        numbers: list[int] = []
        rest, wanted = b"", 1
        while len(numbers) < wanted:
            if b"\n" not in rest:
                if self._left < BLOCK or len(rest) > BLOCK:
                    raise BadArchive("a sparse file's map is cut off")
                self._left -= BLOCK
                rest += self._read(BLOCK)
                continue
            line, rest = rest.split(b"\n", 1)
            numbers.append(decimal(line))
            wanted = 1 + 2 * numbers[0]
            if numbers[0] > SPARSE_LIMIT:
                raise BadArchive("a sparse file has too many segments")
        return numbers[1:]


def _old_segments(data: bytes) -> list[tuple[int, int]]:
    segments = []
    for at in range(0, len(data), 24):
        if not data[at]:
            break
        segments.append((number(data[at : at + 12]), number(data[at + 12 : at + 24])))
    return segments


def _check_segments(entry: Entry) -> None:
    """Segments are in order, apart, inside the file, and as long together as the data in the archive."""
    end = total = 0
    for offset, count in entry.segments or ():
        if offset < end:
            raise BadArchive(f"{entry.name!r} has sparse segments that overlap")
        end = offset + count
        total += count
    if end > entry.size or total != entry.stored:
        raise BadArchive(f"{entry.name!r} has a sparse map that does not fit its data")
