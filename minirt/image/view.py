"""Layers as one tree, without a mount: what a path means where an upper layer covers a lower one.

The rules are overlayfs's own (kernel Documentation/filesystems/overlayfs.rst): directories of the same path merge until an
opaque one; a device 0:0 hides a name. A directory of one layer is a view too, of one root.

The layers must not change meanwhile; a store's never do.
"""

from __future__ import annotations

import os
import stat

from minirt.image.errors import ImageError
from minirt.image.whiteouts import is_whiteout, until_opaque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Found", "View"]

LINKS = 40  # symbolic links in one look-up, as in the kernel (man 7 path_resolution)


class Found:
    """What has a name in the topmost layer that has it."""

    __slots__ = ("path", "status")

    def __init__(self, path: bytes, status: os.stat_result) -> None:
        self.path = path  # on the host
        self.status = status

    @property
    def kind(self) -> int:
        """Its S_IFMT bits."""
        return stat.S_IFMT(self.status.st_mode)


class View:
    """The tree that layers make.

    Args: roots, their directories, topmost first. Paths are bytes below the root, without a slash at either end; the root
    itself is b"".
    """

    def __init__(self, roots: list[str]) -> None:
        self._merged: dict[bytes, list[bytes]] = {b"": until_opaque([os.fsencode(root) for root in roots])[0]}

    def directories(self, path: bytes) -> list[bytes]:
        """Return the directories of the host that merge at a path, topmost first; none where it is no directory."""
        known = self._merged.get(path)
        if known is None:
            above, _, name = path.rpartition(b"/")
            found = []
            for directory in self.directories(above):
                status = _lstat(directory + b"/" + name)
                if status is not None and not stat.S_ISDIR(status.st_mode):
                    break
                if status is not None:
                    found.append(directory + b"/" + name)
            known = self._merged[path] = until_opaque(found)[0]
        return known

    def find(self, path: bytes) -> Found | None:
        """Return what has a path, none of whose components is a symbolic link but perhaps the last. None: nothing has."""
        if not path:
            roots = self._merged[b""]
            return Found(roots[0], os.lstat(roots[0])) if roots else None
        above, _, name = path.rpartition(b"/")
        for directory in self.directories(above):
            status = _lstat(directory + b"/" + name)
            if status is not None:
                return None if is_whiteout(status) else Found(directory + b"/" + name, status)
        return None

    def names(self, path: bytes) -> list[bytes]:
        """Return the names in a directory, sorted."""
        seen: dict[bytes, bool] = {}
        for directory in self.directories(path):
            with os.scandir(directory) as entries:
                for entry in entries:
                    if entry.name not in seen:
                        hidden = not entry.is_file(follow_symlinks=False) and is_whiteout(entry.stat(follow_symlinks=False))
                        seen[entry.name] = not hidden
        return sorted(name for name, shown in seen.items() if shown)

    def resolve(self, path: bytes, *, last: bool = True) -> bytes:
        """Follow the symbolic links in a path as chroot would, never above the root.

        Args: path, of any form; last, whether to follow the last component too.
        Returns the path without links; from the first name that does not exist on, it is as given. Raises ImageError.
        """
        here: list[bytes] = []
        todo = [part for part in reversed(path.split(b"/")) if part not in (b"", b".")]
        links = 0
        while todo:
            name = todo.pop()
            if name == b"..":
                del here[-1:]
                continue
            if name == b"." or not name:
                continue
            found = self.find(b"/".join([*here, name]))
            if found is None or found.kind != stat.S_IFLNK or not (todo or last):
                here.append(name)
                continue
            links += 1
            if links > LINKS:
                raise ImageError(f"/{os.fsdecode(path)}: too many levels of symbolic links")
            target = os.readlink(found.path)
            if target.startswith(b"/"):
                here.clear()
            todo += reversed(target.split(b"/"))
        return b"/".join(here)

    def walk(self, path: bytes) -> Iterator[tuple[bytes, Found]]:
        """Yield (path, what is there) for all below a directory, parents first, names in order."""
        for name in self.names(path):
            below = path + b"/" + name if path else name
            found = self.find(below)
            if found is None:
                continue
            yield below, found
            if found.kind == stat.S_IFDIR:
                yield from self.walk(below)

    def read(self, path: str, most: int = 1 << 20) -> str:
        """Return the text of a file, at most so many bytes; nothing where there is none."""
        found = self.find(self.resolve(os.fsencode(path)))
        if found is None or found.kind != stat.S_IFREG:
            return ""
        with open(found.path, "rb") as file:
            return file.read(most).decode(errors="replace")


def _lstat(path: bytes) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
