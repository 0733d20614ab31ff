"""Entries -> a tar: always the same bytes for the same entries (POSIX pax, "ustar Interchange Format"; man 5 tar).

What the 512-byte header cannot say goes into an extended header before it: names and links of more than 100 bytes, times
with nanoseconds, large numbers, extended attributes, the holes of a sparse file (GNU tar manual, "PAX Format, Version 1.0").
Nothing of where or when it was packed is in it: no user names, no access times.
"""

from __future__ import annotations

import os

from minirt.image.compression import PIECE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minirt.image.header import Entry

__all__ = ["END", "HardLinks", "Pieces", "data_of", "find_holes", "header", "map_holes"]

BLOCK = 512
END = bytes(2 * BLOCK)  # the end of an archive
HOLE = 1 << 16  # bytes of zeros, aligned, that are left out as a hole
SPARSE_FROM = 1 << 20  # bytes: smaller files are written as they are
_KINDS = {"file": b"0", "hardlink": b"1", "symlink": b"2", "char": b"3", "block": b"4", "directory": b"5", "fifo": b"6"}


def header(entry: Entry) -> bytes:
    """Return the blocks before an entry's data. For a sparse file they include the map of what follows."""
    records: list[tuple[bytes, bytes]] = []
    name = entry.name + b"/" if entry.kind == "directory" and not entry.name.endswith(b"/") else entry.name
    size, table = entry.stored if entry.kind == "file" else 0, b""
    if entry.segments is not None:
        table = _sparse_map(entry.segments)
        size += len(table)
        records += [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.name", name),
                    (b"GNU.sparse.realsize", b"%d" % entry.size)]  # fmt: skip
        name = b"GNUSparseFile.0/" + name[-80:]  # for readers that know nothing of holes
    seconds, nanoseconds = divmod(entry.mtime, 10**9)
    if nanoseconds or not 0 <= seconds < 1 << 33:
        records.append((b"mtime", _decimal_time(entry.mtime)))
    for key, text in ((b"path", name), (b"linkpath", entry.link)):
        if len(text) > 100:
            records.append((key, text))
    for key, number, bits in ((b"uid", entry.uid, 21), (b"gid", entry.gid, 21), (b"size", size, 33)):
        if number >> bits:
            records.append((key, b"%d" % number))
    records += [(b"SCHILY.xattr." + key.encode("utf-8", "surrogateescape"), entry.xattrs[key]) for key in entry.xattrs]
    return _extended(records) + _block(entry, name, size, max(seconds, 0)) + table


def _block(entry: Entry, name: bytes, size: int, seconds: int) -> bytes:
    """Return the header block itself; what does not fit is said by the extended header."""
    fields = (
        (name[:100], 100), (_octal(entry.mode, 8), 8), (_octal(entry.uid, 8), 8), (_octal(entry.gid, 8), 8),
        (_octal(size, 12), 12), (_octal(seconds, 12), 12), (b" " * 8, 8), (_KINDS[entry.kind], 1), (entry.link[:100], 100),
        (b"ustar\x0000", 8), (b"", 32), (b"", 32), (_octal(entry.device[0], 8), 8), (_octal(entry.device[1], 8), 8),
        (b"", 155), (b"", 12),
    )  # fmt: skip
    return _summed(b"".join(text.ljust(width, b"\0") for text, width in fields))


def _summed(block: bytes) -> bytes:
    """Put the sum of all bytes where eight blanks stand for it."""
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _extended(records: list[tuple[bytes, bytes]]) -> bytes:
    """Return an extended header with these records, or nothing for none: sorted, as their order means nothing."""
    if not records:
        return b""
    data = b"".join(_record(key, value) for key, value in sorted(records))
    block = b"PaxHeaders.0/entry".ljust(100, b"\0") + b"0000644\x000000000\x000000000\0" + b"%011o\0" % len(data)
    block += b"00000000000\0" + b" " * 8 + b"x" + bytes(100) + b"ustar\x0000" + bytes(247)
    return _summed(block) + data + bytes(-len(data) % BLOCK)


def _record(key: bytes, value: bytes) -> bytes:
    """Return `LENGTH KEY=VALUE newline`, LENGTH counting itself too."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    if len(str(length)) > len(str(rest)):
        length += 1
    return b"%d %s=%s\n" % (length, key, value)


def _octal(number: int, width: int) -> bytes:
    """Return a number for a field; zero where it does not fit, as then an extended record says it."""
    text = b"%0*o" % (width - 1, number)
    return text if len(text) < width else b"0" * (width - 1)


def _decimal_time(nanoseconds: int) -> bytes:
    sign, (seconds, rest) = b"-" if nanoseconds < 0 else b"", divmod(abs(nanoseconds), 10**9)
    return sign + (b"%d.%09d" % (seconds, rest)).rstrip(b"0").rstrip(b".")


# -- data


def data_of(fd: int, entry: Entry) -> Iterator[bytes]:
    """Yield a file's data and the padding after it; of a sparse one its segments."""
    for offset, count in entry.segments if entry.segments is not None else [(0, entry.size)]:
        end = offset + count
        while offset < end:
            piece = os.pread(fd, min(PIECE, end - offset), offset)
            if not piece:  # it became shorter meanwhile: the header has promised more
                piece = bytes(min(PIECE, end - offset))
            offset += len(piece)
            yield piece
    if padding := -entry.stored % BLOCK:
        yield bytes(padding)


def map_holes(entry: Entry, fd: int) -> None:
    """Note in an entry, whose size is known, the segments that its file holds between holes, and how many bytes they are."""
    entry.segments = find_holes(fd, entry.size)
    if entry.segments is not None:
        entry.stored = sum(count for _, count in entry.segments)


def find_holes(fd: int, size: int) -> list[tuple[int, int]] | None:
    """Return the (offset, bytes) of what is not zeros in a file, or None where there is no hole worth a map.

    Told by the content, not by what the file system has allocated: the same content gives the same archive. What the file
    system knows to be a hole is not read (man 2 lseek, SEEK_DATA).
    """
    if size < SPARSE_FROM:
        return None
    segments: list[tuple[int, int]] = []
    at = 0
    zeros = bytes(HOLE)
    while at < size:
        try:
            at = max(at, os.lseek(fd, at, os.SEEK_DATA) // HOLE * HOLE)
        except OSError:  # ENXIO: a hole up to the end
            break
        piece = os.pread(fd, min(HOLE, size - at), at)
        if piece and piece != zeros[: len(piece)]:
            if segments and sum(segments[-1]) == at:
                segments[-1] = (segments[-1][0], segments[-1][1] + len(piece))
            else:
                segments.append((at, len(piece)))
        at += HOLE
    if sum(count for _, count in segments) == size:
        return None
    if not segments or sum(segments[-1]) < size:
        segments.append((size, 0))  # else GNU tar ends the file with its last data
    return segments


def _sparse_map(segments: list[tuple[int, int]]) -> bytes:
    text = b"%d\n" % len(segments) + b"".join(b"%d\n%d\n" % pair for pair in segments)
    return text + bytes(-len(text) % BLOCK)


class HardLinks:
    """Files with several names in what is packed: the first name has the content, the others are links to it."""

    def __init__(self) -> None:
        self._first: dict[tuple[int, int], bytes] = {}  # (device, inode) -> the name

    def join(self, entry: Entry, status: os.stat_result) -> bool:
        """Make an entry a hard link, if its file was packed already. Returns whether it was."""
        if status.st_nlink < 2 or entry.kind == "directory":
            return False
        first = self._first.setdefault((status.st_dev, status.st_ino), entry.name)
        if first is entry.name:
            return False
        entry.kind, entry.link, entry.xattrs, entry.size, entry.stored = "hardlink", first, {}, 0, 0
        return True


class Pieces:
    """An iterator of bytes as a reader (compression.py)."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def read(self, size: int, /) -> bytes:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = piece
        data, self._rest = self._rest[:size], self._rest[size:]
        return data
