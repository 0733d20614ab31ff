"""What hides a lower layer's content: as archives of layers say it, and as overlayfs reads it.

    image-spec layer.md#whiteouts    kernel Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories"
    d/.wh.NAME                       d/NAME, a character device 0:0, which any user may make since Linux 5.8
    d/.wh..wh..opq                   an xattr on d, which is then opaque

The xattr has another name where the mount is made in a user namespace (`userxattr`), and one layer serves both kinds of
mounts: so it gets both.
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    T = TypeVar("T", str, bytes)

__all__ = ["MARKS", "META", "OPAQUE", "OVERLAY_XATTRS", "WHITEOUT", "entry", "is_opaque", "is_whiteout", "until_opaque"]

WHITEOUT = b".wh."
META = b".wh..wh."  # aufs's own files, of which only the opaque mark means something to others
OPAQUE = b".wh..wh..opq"
MARKS = ("trusted.overlay.opaque", "user.overlay.opaque")
OVERLAY_XATTRS = ("trusted.overlay.", "user.overlay.")  # overlayfs's own: never an archive's


def is_whiteout(status: os.stat_result) -> bool:
    """Return whether what has this status hides a name."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_opaque(directory: int | str | bytes) -> bool:
    """Return whether a directory hides what those below it have. Raises OSError."""
    return any(name in MARKS for name in os.listxattr(directory))


def until_opaque(directories: list[T]) -> tuple[list[T], bool]:
    """Return the directories, topmost first, of which anything is seen, and whether the last of them is opaque."""
    for count, directory in enumerate(directories, 1):
        if is_opaque(directory):
            return directories[:count], True
    return directories, False


def entry(folder: bytes, name: bytes = b"") -> bytes:
    """Return what an archive says to hide a name in a directory, or without a name all that lies below it.

    It has no owner and no time of its own.
    """
    from minirt.image.header import Entry
    from minirt.image.pack import header

    last = WHITEOUT + name if name else OPAQUE
    made = Entry(folder + b"/" + last if folder else last, "file")
    made.mode = 0o600
    return header(made)
