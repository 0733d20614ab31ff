"""What a COPY, an ADD or a WORKDIR puts into a layer: entries by path, above what the layers below have.

It is a view of the result (`resolve`, `find`), so that what is put later finds what was put before; and an archive of what
was put, in which every directory on the way is named with the attributes that it has below: who unpacks a layer by itself
(containers/storage, moby) would make it up otherwise.
"""

from __future__ import annotations

import os
import stat

from minirt.image.diff import entry_of, xattrs_of
from minirt.image.errors import ImageError
from minirt.image.header import Entry
from minirt.image.pack import END, data_of, header, map_holes
from minirt.image.view import Found, View
from minirt.image.whiteouts import WHITEOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Changes"]


class _Put:
    """One path of the layer: its entry, and where its content is."""

    __slots__ = ("data", "entry", "found")

    def __init__(self, entry: Entry, found: Found, data: bytes | None) -> None:
        self.entry = entry
        self.found = found
        self.data = data  # its content, where no file of the host has it


class Changes(View):
    """A layer being put together.

    Args: roots, directories of the layers below, topmost first; now, ns since the epoch for what has no other time; latest,
    that no time may exceed.
    """

    def __init__(self, roots: list[str], now: int, latest: int | None = None) -> None:
        super().__init__(roots)
        self._now = now
        self._latest = latest
        self._puts: dict[bytes, _Put] = {}  # parents before children
        self._covered: set[bytes] = set()  # what was at these paths has another kind, and is hidden
        self.scratch: Callable[[], str] | None = None  # returns an empty directory that stays until the layer is written
        self._links: dict[tuple[int, int], bytes] = {}  # files with several names: the first of them here

    # -- looking

    def find(self, path: bytes) -> Found | None:
        put = self._puts.get(path)
        if put is not None:
            return put.found
        above = path
        while above:
            above = above.rpartition(b"/")[0]
            put = self._puts.get(above)
            if put is not None and put.found.kind != stat.S_IFDIR:
                return None  # what was below is covered now
        return super().find(path)

    def is_directory(self, path: bytes) -> bool:
        """Say whether a path is a directory; no link is followed."""
        found = self.find(path)
        return not path or (found is not None and found.kind == stat.S_IFDIR)

    def __len__(self) -> int:
        return len(self._puts)

    # -- putting

    def make_directories(self, path: bytes, owner: tuple[int, int] = (0, 0), mode: int = 0o755) -> bytes:
        """Make a directory and those above it that are missing, as mkdir -p does.

        Args: path, whose links are followed; owner, of what is made. Returns the path without links. Raises ImageError.
        """
        path = self.resolve(path)
        parts = path.split(b"/") if path else []
        for count in range(1, len(parts) + 1):
            here = b"/".join(parts[:count])
            found = self.find(here)
            if found is None:
                self._put_directory(here, mode, owner, self._now, {})
            elif found.kind != stat.S_IFDIR:
                raise ImageError(f"/{os.fsdecode(here)} is no directory")
        return path

    def put_data(self, path: bytes, data: bytes, mode: int, owner: tuple[int, int], mtime: int | None = None) -> None:
        """Put a file that no file of the host is. Raises ImageError."""
        entry = Entry(path, "file")
        entry.mode, (entry.uid, entry.gid), entry.mtime = mode, owner, self._now if mtime is None else mtime
        entry.size = entry.stored = len(data)
        self._put(path, entry, Found(b"", _status(stat.S_IFREG | mode, owner)), data)

    def put(
        self, path: bytes, found: Found, owner: tuple[int, int] | None, mode: int | None, *, force: bool = False
    ) -> None:
        """Put what is on the host; of a directory itself alone.

        Args: path, without links; owner and mode, in place of its own; force, take the place of a directory, or with one
        that of something else, as an archive's entries do. Raises ImageError, OSError.
        """
        if force:
            self._make_way(path, found.kind == stat.S_IFDIR)
        entry = entry_of(found.status, path, xattrs_of(found.path))
        if owner is not None:
            entry.uid, entry.gid = owner
            entry.xattrs.pop("security.capability", None)  # as chown does (man 7 capabilities)
        if mode is not None and entry.kind != "symlink":
            entry.mode = mode
        status = found.status
        if entry.kind == "directory":
            self._put_directory(path, entry.mode, (entry.uid, entry.gid), entry.mtime, entry.xattrs)
            return
        if entry.kind == "symlink":
            entry.link = os.readlink(found.path)
        if status.st_nlink > 1:
            first = self._links.setdefault((status.st_dev, status.st_ino), path)
            if first is not path and first in self._puts:
                entry.kind, entry.link, entry.size, entry.stored, entry.xattrs = "hardlink", first, 0, 0, {}
        self._put(path, entry, found, None)

    def _make_way(self, path: bytes, directory: bool) -> None:
        """Cover what is at a path, if it is of another kind: an upper layer's name hides the lower's."""
        before = self.find(path)
        if before is None or (before.kind == stat.S_IFDIR) == directory:
            return
        for one in [one for one in self._puts if one == path or one.startswith(path + b"/")]:
            del self._puts[one]
        self._covered.add(path)

    def _put_directory(self, path: bytes, mode: int, owner: tuple[int, int], mtime: int, xattrs: dict[str, bytes]) -> None:
        entry = Entry(path, "directory")
        entry.mode, (entry.uid, entry.gid), entry.mtime, entry.xattrs = mode, owner, mtime, xattrs
        self._put(path, entry, Found(b"", _status(stat.S_IFDIR | mode, owner)), None)

    def _put(self, path: bytes, entry: Entry, found: Found, data: bytes | None) -> None:
        name = path.rpartition(b"/")[2]
        if name.startswith(WHITEOUT):
            raise ImageError(f"/{os.fsdecode(path)}: a layer takes a name that begins with .wh. for a whiteout")
        before = self.find(path) if path not in self._covered else None
        if before is not None and entry.kind != "directory" and before.kind == stat.S_IFDIR:
            raise ImageError(f"/{os.fsdecode(path)} is a directory, and cannot be replaced by a {entry.kind}")
        if before is not None and entry.kind == "directory" and before.kind != stat.S_IFDIR:
            raise ImageError(f"/{os.fsdecode(path)} is there and is no directory")
        self._puts[path] = _Put(entry, found, data)

    # -- the archive

    def pieces(self) -> Iterator[bytes]:
        """Yield the layer's tar. Raises OSError."""
        named: set[bytes] = set()
        for path, put in self._puts.items():
            yield from self._above(path, named)
            named.add(path)
            entry = put.entry
            if self._latest is not None:
                entry.mtime = min(entry.mtime, self._latest)
            if entry.kind == "file" and put.data is None:
                yield from _file(entry, put.found.path)
            else:
                yield header(entry)
                if put.data is not None:
                    yield put.data + bytes(-len(put.data) % 512)
        yield END

    def _above(self, path: bytes, named: set[bytes]) -> Iterator[bytes]:
        """Yield the directories on the way to a path that have not been named, as the layers below have them."""
        parts = path.split(b"/")[:-1]
        for count in range(1, len(parts) + 1):
            above = b"/".join(parts[:count])
            if above in named:
                continue
            named.add(above)
            found = self._puts[above].found if above in self._puts else View.find(self, above)
            if found is not None and above not in self._puts:
                yield header(entry_of(found.status, above, xattrs_of(found.path)))


def _file(entry: Entry, path: bytes) -> Iterator[bytes]:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        entry.size = entry.stored = os.fstat(fd).st_size
        map_holes(entry, fd)
        yield header(entry)
        yield from data_of(fd, entry)
    finally:
        os.close(fd)


def _status(mode: int, owner: tuple[int, int]) -> os.stat_result:
    return os.stat_result((mode, 0, 0, 1, *owner, 0, 0, 0, 0))
