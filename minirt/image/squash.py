"""Several layers -> one that changes what lies below as they do together.

    topmost first: [whiteout of a] [file b] [file a, directory d]   ─▶   whiteout of a, file b, directory d

As diff.py packs one directory, this packs the directories that merge at each path (view.py); what any of them hides of the
layers below stays hidden.
"""

from __future__ import annotations

import os
import stat

from minirt.image.diff import entry_of, xattrs_of
from minirt.image.pack import END, HardLinks, data_of, header, map_holes
from minirt.image.view import View
from minirt.image.whiteouts import entry as whiteout
from minirt.image.whiteouts import is_whiteout, until_opaque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minirt.image.header import Entry

__all__ = ["joined"]


def joined(layers: list[str], lower: list[str], *, latest: int | None = None) -> Iterator[bytes]:
    """Yield the tar of layers as one.

    Args: layers, their directories, topmost first; lower, those below them, likewise; latest, as in diff.layer_of.
    Raises OSError.
    """
    return _Joiner(lower, latest).all([os.fsencode(layer) for layer in layers])


class _Joiner:
    def __init__(self, lower: list[str], latest: int | None) -> None:
        self._below = View(lower)
        self._latest = latest
        self._links = HardLinks()

    def all(self, roots: list[bytes]) -> Iterator[bytes]:
        kept, opaque = until_opaque(roots)
        below = self._below.find(b"")
        top = os.lstat(kept[0])
        have = (top.st_mode, top.st_uid, top.st_gid)
        if below is None or have != (below.status.st_mode, below.status.st_uid, below.status.st_gid):
            yield self._header(entry_of(top, b".", xattrs_of(kept[0])))
        if opaque:
            yield whiteout(b"")
        yield from self._content(kept, b"")
        yield END

    def _content(self, folders: list[bytes], path: bytes) -> Iterator[bytes]:
        """Yield what is in the directories that merge at a path."""
        for name in sorted({name for folder in folders for name in os.listdir(folder)}):
            below = path + b"/" + name if path else name
            there = [folder + b"/" + name for folder in folders if os.path.lexists(folder + b"/" + name)]
            status = os.lstat(there[0])
            if is_whiteout(status):
                if self._below.find(below) is not None:
                    yield whiteout(path, name)
            elif stat.S_ISDIR(status.st_mode):
                yield from self._directory(there, below, status)
            else:
                yield from self._file(there[0], below, status)

    def _directory(self, there: list[bytes], below: bytes, status: os.stat_result) -> Iterator[bytes]:
        merged = [one for one in there if os.path.isdir(one) and not os.path.islink(one)]
        whole = next((i for i, one in enumerate(there) if os.path.islink(one) or not os.path.isdir(one)), len(there))
        kept, opaque = until_opaque(merged[:whole])
        yield self._header(entry_of(status, below, xattrs_of(there[0])))
        if (opaque or whole < len(there)) and self._below.find(below) is not None:
            yield whiteout(below)
        yield from self._content(kept, below)

    def _file(self, path: bytes, below: bytes, status: os.stat_result) -> Iterator[bytes]:
        entry = entry_of(status, below, xattrs_of(path))
        self._links.join(entry, status)
        if entry.kind == "symlink":
            entry.link = os.readlink(path)
        if entry.kind != "file":
            yield self._header(entry)
            return
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            map_holes(entry, fd)
            yield self._header(entry)
            yield from data_of(fd, entry)
        finally:
            os.close(fd)

    def _header(self, entry: Entry) -> bytes:
        if self._latest is not None:
            entry.mtime = min(entry.mtime, self._latest)
        return header(entry)
