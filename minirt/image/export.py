"""An image's file tree as one tar: what `docker export` gives of a container, before it changed anything."""

from __future__ import annotations

import os
import stat

from minirt.image.diff import entry_of, xattrs_of
from minirt.image.pack import END, HardLinks, data_of, header, map_holes
from minirt.image.view import View

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minirt.image.header import Entry
    from minirt.image.view import Found

__all__ = ["export"]


def export(layers: list[str]) -> Iterator[bytes]:
    """Yield the tar of the tree that layers make; the same layers give the same bytes.

    Args: layers, their directories, topmost first. Raises OSError.
    """
    view = View(layers)
    links = HardLinks()
    root = view.find(b"")
    if root is not None:
        yield header(_entry(root, b"."))
    for path, found in view.walk(b""):
        if found.kind == stat.S_IFSOCK:
            continue
        entry = _entry(found, path)
        if not links.join(entry, found.status) and entry.kind == "file":
            yield from _file(found, entry)
        else:
            yield header(entry)
    yield END


def _entry(found: Found, name: bytes) -> Entry:
    entry = entry_of(found.status, name, xattrs_of(found.path))
    if entry.kind == "symlink":
        entry.link = os.readlink(found.path)
    return entry


def _file(found: Found, entry: Entry) -> Iterator[bytes]:
    fd = os.open(found.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        map_holes(entry, fd)
        yield header(entry)
        yield from data_of(fd, entry)
    finally:
        os.close(fd)
