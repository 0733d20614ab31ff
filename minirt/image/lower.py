"""What lies below a layer that is being unpacked: its lower layers, merged as overlayfs will merge them.

A layer may name only a file of a directory, which then is as the layers below have it (an unpacker that writes
each layer over the one before has this for nothing), and a whiteout counts only where there is something to hide.
"""

from __future__ import annotations

import os
import stat

from minirt.image.attributes import Attributes
from minirt.image.whiteouts import is_opaque

__all__ = ["Lower"]


class Lower:
    """The layers below.

    Args: roots, their directories, topmost first.
    """

    def __init__(self, roots: list[str]) -> None:
        self._roots = roots

    def attributes(self, path: bytes) -> Attributes | None:
        """Return what a directory has, or None where there is none. Raises OSError."""
        for root in self._roots:
            fd, hides = self._open(root, path)
            if fd >= 0:
                try:
                    return _attributes(fd)
                finally:
                    os.close(fd)
            if hides:
                break
        return None

    def names(self, path: bytes) -> set[bytes]:
        """Return the names in a directory, perhaps with some that are whiteouts. Raises OSError."""
        names: set[bytes] = set()
        for root in self._roots:
            fd, hides = self._open(root, path)
            if fd >= 0:
                names.update(map(os.fsencode, os.listdir(fd)))
                os.close(fd)
            if hides:
                break
        return names

    def _open(self, root: str, path: bytes) -> tuple[int, bool]:
        """Open a directory in one layer. Returns an fd, -1 where it has none, and whether it hides those below."""
        fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        hides = is_opaque(fd)
        for name in path.split(b"/") if path else []:
            try:
                inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            except FileNotFoundError:
                return -1, hides
            except OSError:
                return -1, True  # a whiteout, a file or a link
            finally:
                os.close(fd)
            fd = inner
            hides = hides or is_opaque(fd)
        return fd, hides


def _attributes(fd: int) -> Attributes:
    status = os.fstat(fd)
    xattrs = {name: os.getxattr(fd, name) for name in os.listxattr(fd)}
    return Attributes(stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns, xattrs)
