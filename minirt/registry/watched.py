"""A file that says who may do what, read again when it changes: users.py and rules.py are about such ones.

One that cannot be read while we serve leaves everything as it was when this process read it last: a slip of who edits it is
told in the log, and locks nobody out.
"""

from __future__ import annotations

import logging
import os
from typing import Generic, TypeVar

from minirt.registry.errors import ServeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Watched"]

T = TypeVar("T")
LOG = logging.getLogger("minirt.registry")


class Watched(Generic[T]):
    """A file.

    Args: path; read, called with the path, returns what it says; what, a word for it. Raises ServeError where it cannot be read.
    """

    def __init__(self, path: str, read: Callable[[str], T], what: str) -> None:
        self._path = path
        self._read = read
        self._what = what
        self._stamp = _stamp(path)
        self._value = self._try()

    def now(self) -> T:
        """Return what it says now, or said when it could be read last: the same object, as long as it has not changed."""
        before, self._stamp = self._stamp, _stamp(self._path)
        if before != self._stamp:
            try:
                self._value = self._try()
            except ServeError as error:
                LOG.error("%s: the %s stay as they were", error, self._what)
        return self._value

    def _try(self) -> T:
        try:
            return self._read(self._path)
        except OSError as error:
            raise ServeError(f"cannot read {self._path}: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise ServeError(f"cannot read {self._path}: it is not UTF-8 ({error.reason})") from None


def _stamp(path: str) -> tuple[int, int, int]:
    """Return what is another for another content."""
    try:
        found = os.stat(path)
    except OSError:
        return 0, 0, 0
    return found.st_mtime_ns, found.st_ino, found.st_size
