"""What a machine's console said, in a file of bounded length with another before it."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ConsoleLog", "tail"]

LONGEST = 4 << 20  # bytes; a guest that prints without end fills twice that and no more
CHUNK = 1 << 16


class ConsoleLog:
    """The log as its one writer sees it.

    Args:
        path: of the file; the one before it has ".1" behind its name.
    """

    def __init__(self, path: str, longest: int = LONGEST) -> None:
        self._path, self._longest = path, longest
        self._open()
        self._began = self._size  # where in the file this run's output begins

    def _open(self) -> None:
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._fd).st_size

    def write(self, data: bytes) -> None:
        """Add to it. A full disk loses the output, not the machine."""
        if self._size + len(data) > self._longest and self._size:
            os.close(self._fd)
            os.rename(self._path, self._path + ".1")
            self._open()
            self._began = 0
        try:
            self._size += os.write(self._fd, data)
        except OSError:
            pass

    def replay(self) -> Iterator[bytes]:
        """Yield what this run has written, as far as it is in the file."""
        with open(self._path, "rb") as file:
            file.seek(self._began)
            while data := file.read(CHUNK):
                yield data

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


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
