"""What a machine's console said, in a file of bounded length with another before it."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["LONGEST", "ConsoleLog", "opened", "tail"]

LONGEST = 4 << 20  # bytes; a guest that prints without end fills twice that and no more
CHUNK = 1 << 16
FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC


class ConsoleLog:
    """The log as its one writer sees it.

    Args:
        path: of the file; the one before it has ".1" behind its name.
    """

    def __init__(self, path: str, longest: int = LONGEST) -> None:
        self._longest = longest
        # Both are opened now, and none is renamed later: in a jail there are no names (machine/jail.py).
        self._fd, self._before = (opened(name, longest) for name in (path, path + ".1"))
        self._began = self._size = os.fstat(self._fd).st_size  # where in the file this run's output begins

    def write(self, data: bytes) -> None:
        """Add to it. A full disk loses the output, not the machine."""
        try:
            if self._size + len(data) > self._longest and self._size:
                self._turn_over()
            self._size += os.write(self._fd, data)
        except OSError:
            pass

    def _turn_over(self) -> None:
        """What is in the file becomes what was before it, and the file begins anew."""
        os.ftruncate(self._before, 0)
        for piece in self._pieces(0):
            os.write(self._before, piece)
        os.ftruncate(self._fd, 0)
        self._began = self._size = 0

    def _pieces(self, place: int) -> Iterator[bytes]:
        while data := os.pread(self._fd, CHUNK, place):
            yield data
            place += len(data)

    def replay(self) -> Iterator[bytes]:
        """Yield what this run has written, as far as it is in the file."""
        return self._pieces(self._began)

    def close(self) -> None:
        """Close the files."""
        os.close(self._fd)
        os.close(self._before)


def opened(path: str, longest: int = LONGEST) -> int:
    """Return the descriptor of a log to add to. One that is too long begins anew: a process that was broken into has filled it.

    Args:
        longest: bytes.
    """
    fd = os.open(path, FLAGS, 0o600)
    if os.fstat(fd).st_size > longest:
        os.ftruncate(fd, 0)
    return fd


def tail(path: str, lines: int | None) -> bytes:
    """Return the last lines of a log, those before a change of the file too; None is all of it."""
    text = b""
    for name in (path + ".1", path):
        try:
            with open(name, "rb") as file:
                text += file.read()
        except FileNotFoundError:
            continue
    if lines is None:
        return text
    if not lines:
        return b""
    return b"".join(text.splitlines(keepends=True)[-lines:])
