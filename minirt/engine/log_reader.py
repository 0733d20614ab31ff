"""A detached container's log files, read as one: from the beginning and as they grow, or so many lines from the end.

Each line is a JSON object of Docker's json-file driver (csrc/monitor/log.c). `log` is the newest file; `log.1` is older.
"""

from __future__ import annotations

import json
import os
from itertools import islice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO

__all__ = ["Line", "Reader"]

BLOCK = 1 << 16  # bytes that are read at once from the end
TRIES = 100  # to open the files before one is moved on: a program that fills them faster than that loses lines anyway


class Line:
    """A line, or a piece of a long one."""

    __slots__ = ("stream", "text", "time")

    def __init__(self, text: str, stream: str, time: str) -> None:
        self.text = text  # with its "\n", if it has one
        self.stream = stream  # stdout or stderr
        self.time = time  # RFC 3339, UTC, nanoseconds: such texts sort as the moments do


class Reader:
    """Reads what is there, and each time it is asked what has come since; the files may be moved on meanwhile.

    Args:
        folder: the container's directory.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.inode = 0  # of the file that was read last
        self.at = 0  # how far
        self.held: IO[bytes] | None = None  # that file, so that a container's removal takes no line from who follows
        self.ended = False

    def files(self) -> list[str]:
        """Return the paths of the files, the oldest first; none where the container was removed, which is noted."""
        try:
            names = [name for name in os.listdir(self.folder) if name.startswith("log.") and name[4:].isdigit()]
        except FileNotFoundError:
            self.ended = True
            return []
        return [f"{self.folder}/{name}" for name in sorted(names, key=lambda name: -int(name[4:]))] + [f"{self.folder}/log"]

    def opened(self) -> list[IO[bytes]]:
        """Return the files, the oldest first, as they were at one moment.

        One that is moved on while they are opened one after another would be missed, or found twice: then it is done again.
        """
        for tries in range(TRIES, 0, -1):
            files = [file for path in self.files() if (file := there(path)) is not None]
            now = [number for path in self.files() if (number := inode(path))]
            if self.ended or tries == 1 or now == [os.fstat(file.fileno()).st_ino for file in files]:
                break
            for file in files:
                file.close()
        return files

    def tail(self, count: int, chosen: Callable[[Line], bool]) -> list[Line]:
        """Return the last so many lines that are chosen, in their order; `read` goes on after them.

        The files are read from their end, block by block, and only so far as it takes.
        """
        found: list[Line] = []
        for file in reversed(self.opened()):
            end = end_of_lines(file)
            lines = filter(None, map(parsed, backwards(file, end)))
            found += islice(filter(chosen, lines), count - len(found))
            if self.held is None:
                self.held, self.inode, self.at = file, os.fstat(file.fileno()).st_ino, end
            else:
                file.close()
        return found[::-1]

    def read(self) -> Iterator[Line]:
        """Yield the whole lines that were not read yet."""
        opened = self.opened()
        inodes = [os.fstat(file.fileno()).st_ino for file in opened]
        if self.held is not None and self.inode not in inodes:
            yield from self.rest(self.held)  # it has no name any more, and its last lines are still there
        first = inodes.index(self.inode) if self.inode in inodes else 0
        for i, file in enumerate(opened):
            if i >= first:
                if inodes[i] != self.inode:
                    self.inode, self.at = inodes[i], 0
                yield from self.rest(file)
            if file is not opened[-1]:
                file.close()
                continue
            if self.held is not None:
                self.held.close()
            self.held = file

    def rest(self, file: IO[bytes]) -> Iterator[Line]:
        """Yield the whole lines of a file that were not read yet."""
        file.seek(self.at)
        for text in file:
            if not text.endswith(b"\n"):
                break  # it is being written
            self.at += len(text)
            if (line := parsed(text)) is not None:
                yield line


def there(path: str) -> IO[bytes] | None:
    """Return a file, opened to be read; None where it has gone."""
    try:
        return open(path, "rb")
    except FileNotFoundError:
        return None


def inode(path: str) -> int:
    """Return the number of a file, 0 where it has gone."""
    try:
        return os.stat(path).st_ino
    except FileNotFoundError:
        return 0


def parsed(text: bytes) -> Line | None:
    """Return a line; None for what a killed monitor, or a machine that lost its power, has left of one."""
    try:
        entry = json.loads(text)
        return Line(entry["log"], entry["stream"], entry["time"])
    except (ValueError, KeyError, TypeError):
        return None


def end_of_lines(file: IO[bytes]) -> int:
    """Return where the last whole line of a file ends: what comes after it is being written."""
    at = os.fstat(file.fileno()).st_size
    while at > 0:
        begin = max(0, at - BLOCK)
        last = os.pread(file.fileno(), at - begin, begin).rfind(b"\n")
        if last >= 0:
            return begin + last + 1
        at = begin
    return 0


def backwards(file: IO[bytes], end: int) -> Iterator[bytes]:
    """Yield the lines of a file, the last first, each without its newline. Args: end, where the last one ends."""
    pieces: list[bytes] = []  # of the line whose beginning is still to be found, the last piece first
    at = end - 1  # all from its newline on is yielded, or is in the pieces
    while at > 0:
        begin = max(0, at - BLOCK)
        parts = os.pread(file.fileno(), at - begin, begin).split(b"\n")
        while len(parts) > 1:
            pieces.append(parts.pop())
            yield b"".join(reversed(pieces))
            pieces.clear()
        pieces.append(parts[0])
        at = begin
    if end > 0:
        yield b"".join(reversed(pieces))
