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

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minirt.image.compression import Reader

__all__ = ["Archive", "Entry"]

BLOCK = 512
EXTENSION_LIMIT = 1 << 20  # bytes of one entry's extended headers: names, times, xattrs of 64 KiB
GLOBAL_LIMIT = 1 << 14  # bytes of what global extended headers say; git writes 52
SPARSE_LIMIT = 1 << 16  # data segments of one sparse file

_KINDS = {
    b"0": "file", b"\0": "file", b"7": "file", b"S": "file", b"1": "hardlink", b"2": "symlink", b"3": "char", b"4": "block",
    b"5": "directory", b"6": "fifo",
}  # fmt: skip
_OLD = b"\0"  # a file, or a directory if its name ends in "/": before POSIX there was no type 5
_GNU_SPARSE = b"S"
_GNU_LONG = {b"L": b"path", b"K": b"linkpath"}
_PAX, _PAX_GLOBAL = (b"x", b"X"), b"g"  # X: Solaris
_XATTR = b"SCHILY.xattr."


class Entry:
    """One thing in an archive."""

    __slots__ = (
        "device", "gid", "kind", "link", "mode", "mtime", "name", "segments", "size", "stored", "uid", "xattrs",
    )  # fmt: skip

    def __init__(self, name: bytes, kind: str) -> None:
        self.name = name  # as it stands in the archive: not to be trusted
        self.kind = kind  # file, directory, symlink, hardlink, char, block, fifo
        self.mode = 0o644  # permission bits, setuid, setgid, sticky
        self.uid = 0
        self.gid = 0
        self.mtime = 0  # ns since the epoch
        self.size = 0  # bytes as seen by stat
        self.stored = 0  # bytes of data in the archive: fewer where the file is sparse
        self.segments: list[tuple[int, int]] | None = None  # (offset, bytes) of a sparse file's data
        self.link = b""  # a symbolic link's text, or the name that a hard link is another of
        self.device = (0, 0)  # major, minor
        self.xattrs: dict[str, bytes] = {}

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name!r}>"


class _Header:
    """The fields of a header block. Raises ValueError for a number or a checksum that is none."""

    __slots__ = ("block", "name", "size", "type")

    def __init__(self, block: bytes) -> None:
        have = _number(block[148:156])
        total = sum(block) - sum(block[148:156]) + 8 * 32
        if have != total and have != total - 256 * sum(byte > 127 for byte in block[:148] + block[156:]):
            raise ValueError("checksum")  # the second sum is of signed bytes, as some old tars had it
        self.block = block
        self.type = block[156:157]
        self.size = _number(block[124:136])
        self.name = _text(block[:100])
        prefix = _text(block[345:500])
        if prefix and self.type not in (*_GNU_LONG, _GNU_SPARSE):
            self.name = prefix + b"/" + self.name

    def entry(self, kind: str) -> Entry:
        """Return the entry that the block alone describes."""
        block = self.block
        entry = Entry(self.name, kind)
        entry.mode = _number(block[100:108]) & 0o7777
        entry.uid, entry.gid = _number(block[108:116]), _number(block[116:124])
        entry.mtime = _number(block[136:148]) * 10**9
        entry.link = _text(block[157:257])
        if kind in ("char", "block"):
            entry.device = (_number(block[329:337]), _number(block[337:345]))
        return entry


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
            if header.type in _GNU_LONG:
                records[_GNU_LONG[header.type]] = self._extension(header.size).split(b"\0")[0]
            elif header.type == _PAX_GLOBAL:
                self._global(_pax_records(self._extension(header.size)))
            elif header.type in _PAX:
                pairs = _pax_records(self._extension(header.size))
                records.update(pairs)
                sparse += [pair for pair in pairs if pair[0] in (b"GNU.sparse.offset", b"GNU.sparse.numbytes")]
            elif header.type in _KINDS:
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

    def _header(self) -> _Header | None:
        """Return the next header block, decoded, or None at the end."""
        if not self._more():
            if self._whole:
                raise BadArchive("it is truncated: no end-of-archive block" if self._any else "it is empty")
            return None
        try:
            block = self._block = self._read(BLOCK)
            if not any(block):
                return None
            header = _Header(block)
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

    def _entry(self, header: _Header, pax: dict[bytes, bytes], sparse: list[tuple[bytes, bytes]]) -> Entry:
        entry = header.entry(_KINDS[header.type])
        entry.stored = header.size if entry.kind == "file" else 0
        if pax:
            _apply_pax(entry, pax)
        if header.type == _OLD:
            # The oldest tars wrote a directory as a file whose name ends in "/". Only the full name counts:
            # a long one is cut in the header block, perhaps after a "/".
            entry.kind = "directory" if entry.name.endswith(b"/") else "file"
            entry.stored = 0 if entry.kind == "directory" else header.size
        entry.size = entry.stored
        self._left, self._padding = entry.stored, -entry.stored % BLOCK
        if entry.stored < 0:
            raise BadArchive(f"{entry.name!r} has a negative size")
        if header.type == _GNU_SPARSE:
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
        size = _number(block[483:495])
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
        entry.size = _decimal(size)
        if pax.get(b"GNU.sparse.major") == b"1":
            numbers = self._sparse_map()
            entry.stored = self._left
        elif b"GNU.sparse.map" in pax:
            numbers = [_decimal(text) for text in pax[b"GNU.sparse.map"].split(b",")]
        else:
            numbers = [_decimal(value) for _, value in pairs]
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
            numbers.append(_decimal(line))
            wanted = 1 + 2 * numbers[0]
            if numbers[0] > SPARSE_LIMIT:
                raise BadArchive("a sparse file has too many segments")
        return numbers[1:]


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _pax_records(data: bytes) -> list[tuple[bytes, bytes]]:
    """Parse `LENGTH KEY=VALUE newline` records, LENGTH counting the whole record (man 5 tar, pax)."""
    records = []
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 20)
        length = _decimal(data[at:space]) if space > at else 0
        record = data[space + 1 : at + length]
        key, equals, value = record.partition(b"=")
        if space < 0 or at + length > len(data) or record[-1:] != b"\n" or not equals:
            raise BadArchive("an extended header is malformed")
        records.append((key, value[:-1]))
        at += length
    return records


def _apply_pax(entry: Entry, pax: dict[bytes, bytes]) -> None:
    """Let extended records replace what the header block says."""
    for key, value in pax.items():
        if key == b"path":
            if b"GNU.sparse.name" not in pax:  # else it is a made-up name for tars that know no sparse files
                entry.name = value
        elif key == b"GNU.sparse.name":
            entry.name = value
        elif key == b"linkpath":
            entry.link = value
        elif key == b"size":
            entry.stored = _decimal(value) if entry.kind == "file" else 0
        elif key == b"uid":
            entry.uid = _decimal(value)
        elif key == b"gid":
            entry.gid = _decimal(value)
        elif key == b"mtime":
            entry.mtime = _nanoseconds(value)
        elif key.startswith(_XATTR):
            entry.xattrs[key[len(_XATTR) :].decode("utf-8", "surrogateescape")] = value


def _decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > 20:
        raise BadArchive(f"{text[:30]!r} stands where a number should")
    return int(text)


def _number(field: bytes) -> int:
    """A number of a header field: octal text, or base 256 after a byte 0x80, which 0xff makes negative."""
    if field[0] in (0x80, 0xFF):
        return int.from_bytes(field[1:], "big") - (1 << 8 * (len(field) - 1) if field[0] == 0xFF else 0)
    text = _text(field).strip()
    try:
        return int(text or b"0", 8)
    except ValueError:
        raise BadArchive(f"{text!r} stands where an octal number should") from None


def _nanoseconds(text: bytes) -> int:
    """Seconds as a decimal fraction, exactly: a float has not enough digits for nanoseconds."""
    whole, _, fraction = text.removeprefix(b"-").partition(b".")
    value = _decimal(whole or b"0") * 10**9 + _decimal((fraction + b"0" * 9)[:9])
    return -value if text.startswith(b"-") else value


def _old_segments(data: bytes) -> list[tuple[int, int]]:
    segments = []
    for at in range(0, len(data), 24):
        if not data[at]:
            break
        segments.append((_number(data[at : at + 12]), _number(data[at + 12 : at + 24])))
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
