"""Newc cpio archives: what Linux unpacks into its first root file system, several one behind the other.

An entry is a header of 110 characters, the name with a zero byte, and the contents; name and contents are padded with
zeroes to a multiple of four. The header is "070701" and thirteen numbers of eight hexadecimal digits. An entry by the
name TRAILER!!! ends an archive. Documentation/driver-api/early-userspace/buffer-format.rst in the kernel's source.
"""

from __future__ import annotations

import os
import stat

from minivm.errors import BootError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from minivm.boot.start import Bytes

__all__ = ["Archive", "Entry", "join", "read_archive"]

MAGIC = b"070701"
DIGITS = frozenset(b"0123456789abcdefABCDEF")
HEADER_SIZE = 110
TRAILER = "TRAILER!!!"


class Entry:
    """One file of an archive."""

    __slots__ = ("data", "device", "mode", "mtime", "name", "owner")

    def __init__(
        self,
        name: str,
        mode: int,
        data: Bytes = b"",
        *,
        owner: tuple[int, int] = (0, 0),
        device: tuple[int, int] = (0, 0),
        mtime: int = 0,
    ) -> None:
        self.name = name  # relative to the root, without a leading slash
        self.mode = mode  # type and permissions, as st_mode of man 2 stat
        self.data = data  # a file's contents, or a link's target
        self.owner = owner  # user, group
        self.device = device  # major, minor, of a device node
        self.mtime = mtime  # seconds since 1970


class Archive:
    """An archive under construction: the directories above a file come by themselves.

    Entries that come twice overwrite each other when Linux unpacks them: the last one counts.
    """

    def __init__(self) -> None:
        self._parts: list[Bytes] = []
        self._made: set[str] = {"", "."}
        self._count = 0

    def directory(self, name: str, mode: int = 0o755) -> None:
        """Add a directory, once."""
        if name not in self._made:
            self.add(Entry(name, stat.S_IFDIR | mode))

    def file(self, name: str, data: Bytes, mode: int = 0o644) -> None:
        """Add a regular file of root's."""
        self.add(Entry(name, stat.S_IFREG | mode, data))

    def link(self, name: str, target: str) -> None:
        """Add a symbolic link."""
        self.add(Entry(name, stat.S_IFLNK | 0o777, os.fsencode(target)))

    def device(self, name: str, kind: int, major: int, minor: int, mode: int = 0o600) -> None:
        """Add a device node; kind is stat.S_IFCHR or stat.S_IFBLK."""
        self.add(Entry(name, kind | mode, device=(major, minor)))

    def tree(self, source: str, name: str = "") -> None:
        """Add a directory of the host with all below it, with its owners and permissions; sockets are left out.

        Raises OSError where something cannot be read, BootError for a file of 4 GiB or more.
        """
        self._copy(os.path.join(source, ""), name.strip("/"))  # with a slash behind it a link is where it leads to

    def add(self, entry: Entry) -> None:
        """Add an entry, after the directories above it."""
        parent = entry.name.rpartition("/")[0]
        self.directory(parent)
        if stat.S_ISDIR(entry.mode):
            self._made.add(entry.name)
        self._write(entry, entry.name)

    def finish(self) -> bytes:
        """Return the archive, padded so that another may follow."""
        self._write(Entry(TRAILER, 0), TRAILER)
        whole = b"".join(self._parts)
        return whole + bytes(-len(whole) % 512)

    def _copy(self, source: str, name: str) -> None:
        """Add what is below a directory: each before what is in it. (A tree may be deeper than calls may be.)"""
        left = [(source, name)]
        while left:
            source, name = left.pop()
            status = os.lstat(source)
            if name and not stat.S_ISSOCK(status.st_mode):
                self.add(_entry(source, name, status))
            if stat.S_ISDIR(status.st_mode):
                left += [(os.path.join(source, child), f"{name}/{child}".strip("/")) for child in sorted(os.listdir(source))[::-1]]

    def _write(self, entry: Entry, name: str) -> None:
        self._count += 1
        raw = os.fsencode(name) + b"\0"
        size = _checked_size(len(entry.data), name)
        numbers = (
            self._count, entry.mode, *entry.owner, 1, entry.mtime & 0xFFFF_FFFF, size, 0, 0, *entry.device, len(raw), 0
        )  # fmt: skip
        header = MAGIC + b"".join(b"%08X" % number for number in numbers)
        self._parts += [header + raw + bytes(-(len(header) + len(raw)) % 4), entry.data, bytes(-size % 4)]


def _entry(source: str, name: str, status: os.stat_result) -> Entry:
    """Return a file of the host as an entry."""
    kind, device, data = stat.S_IFMT(status.st_mode), (0, 0), b""
    if kind == stat.S_IFLNK:
        data = os.fsencode(os.readlink(source))
    elif kind == stat.S_IFREG:
        _checked_size(status.st_size, source)
        # Who may write to the tree may have put something else there since: no link of theirs is followed, no FIFO waited for.
        with open(os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            data = file.read()
    elif kind in (stat.S_IFCHR, stat.S_IFBLK):
        device = os.major(status.st_rdev), os.minor(status.st_rdev)
    owner = status.st_uid, status.st_gid
    return Entry(name, status.st_mode, data, owner=owner, device=device, mtime=int(status.st_mtime))


def _checked_size(size: int, name: str) -> int:
    """Return a file's size. Raises BootError for one that eight hexadecimal digits do not hold."""
    if size >> 32:
        raise BootError(f"{name!r} is too large for an initramfs: a file in a cpio archive has less than 4 GiB")
    return size


def join(archives: Iterable[Bytes]) -> bytes:
    """Return archives one behind the other, compressed or not; each begins at a multiple of four, as Linux wants."""
    return b"".join(bytes(archive) + bytes(-len(archive) % 4) for archive in archives)


def read_archive(data: Bytes) -> Iterator[Entry]:
    """Yield the entries of one or more archives that are not compressed. Raises BootError where they are damaged."""
    place = 0
    while place < len(data):
        if not data[place]:
            place += 1  # zeroes between archives
            continue
        entry, place = _read_entry(data, place)
        if entry.name != TRAILER:
            yield entry


def _read_entry(data: Bytes, place: int) -> tuple[Entry, int]:
    """Return the entry at a place, and where the next one begins."""
    header = bytes(data[place : place + HEADER_SIZE])
    if header[:6] != MAGIC or len(header) < HEADER_SIZE:
        raise BootError(f"damaged cpio archive: no newc header at byte {place}")
    if not DIGITS.issuperset(header):  # int() takes signs, spaces and underscores for a number's too
        raise BootError(f"damaged cpio archive: the header at byte {place} holds something else than digits")
    numbers = [int(header[start : start + 8], 16) for start in range(6, HEADER_SIZE, 8)]
    _, mode, uid, gid, _, mtime, size, _, _, major, minor, name_size, _ = numbers
    start = place + (HEADER_SIZE + name_size + 3 & ~3)
    end = start + (size + 3 & ~3)
    if start + size > len(data) or not name_size:
        raise BootError(f"truncated cpio archive: the entry at byte {place} ends behind the file")
    name = os.fsdecode(bytes(data[place + HEADER_SIZE : place + HEADER_SIZE + name_size - 1]))
    return Entry(name, mode, data[start : start + size], owner=(uid, gid), device=(major, minor), mtime=mtime), end
