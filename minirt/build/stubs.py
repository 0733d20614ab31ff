"""Mount points that had to be made for a step, and that are none of its layer: taken away again.

A mount needs something to lie on. Where the image has nothing there, the container's birth makes a directory or an empty
file, in the upper directory like any other change. docker's layers have none of these, and neither have ours.
"""

from __future__ import annotations

import os
import stat
from errno import ENOTEMPTY

from minirt.image.diff import xattrs_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.image.view import View

__all__ = ["Stubs"]


class Stubs:
    """What will be made for mounts.

    Args: view, the image; targets, where something is mounted.
    """

    def __init__(self, view: View, targets: list[str]) -> None:
        self._view = view
        self._missing: set[bytes] = set()
        self._parents: set[bytes] = set()  # directories of the image in which something is made
        for target in targets:
            path = view.resolve(os.fsencode(target))
            while path and view.find(path) is None:
                self._missing.add(path)
                path = path.rpartition(b"/")[0]
                self._parents.add(path)

    def remove(self, upper: str) -> None:
        """Remove from an upper directory what nobody has put anything in. Raises OSError."""
        for path in sorted(self._missing, key=len, reverse=True):
            here = os.fsencode(upper) + b"/" + path
            try:
                status = os.lstat(here)
                if stat.S_ISDIR(status.st_mode):
                    os.rmdir(here)
                elif stat.S_ISREG(status.st_mode) and status.st_size == 0:
                    os.unlink(here)
            except FileNotFoundError:
                pass
            except OSError as error:
                if error.errno != ENOTEMPTY:
                    raise
        for path in sorted(self._parents - self._missing, key=len, reverse=True):
            self._drop(upper, path)

    def _drop(self, upper: str, path: bytes) -> None:
        """Remove a directory, and those above it, if it is there only because of a stub: empty, and as the image has it."""
        while path:
            found = self._view.find(path)
            here = os.fsencode(upper) + b"/" + path
            try:
                if found is None or _attributes(here) != _attributes(found.path):
                    return
                os.rmdir(here)
            except OSError:  # it was never copied up, or it is not empty
                return
            path = path.rpartition(b"/")[0]


def _attributes(path: bytes) -> tuple[object, ...]:
    status = os.lstat(path)
    opaque = any(name.endswith(".overlay.opaque") for name in os.listxattr(path, follow_symlinks=False))
    return status.st_mode, status.st_uid, status.st_gid, xattrs_of(path), opaque
