"""What is at a path, as a tar: of a container, or of the host.

The names in it begin with the name that is asked for, or with "." where the content of a directory is wanted.
"""

from __future__ import annotations

import os
import stat

from minirt.engine.files.root import FileError, told
from minirt.image.diff import entry_of, xattrs_of
from minirt.image.pack import END, data_of, header, map_holes
from minirt.linux.files import open_exactly, open_regular

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from minirt.image.header import Entry

__all__ = ["pack"]


def pack(top: int, name: str, owner: Callable[[Entry], None] | None = None) -> Iterator[bytes]:
    """Yield the tar of what an O_PATH descriptor stands for; sockets are left out. The descriptor stays the caller's.

    Args:
        top: int fd.
        name: what it is called there.
        owner: changes an entry's owner.

    Raises: FileError.
    """
    packer = Packer(top, owner or (lambda entry: None))
    try:
        if stat.S_ISDIR(os.fstat(top).st_mode):
            yield from packer.tree(os.fsencode(name))
        else:
            yield from packer.one(os.dup(top), os.fsencode(name))
    except OSError as error:
        raise FileError(f"{name}: {told(error)}") from None
    yield END


class Packer:
    """One tar being made."""

    def __init__(self, top: int, owner: Callable[[Entry], None]) -> None:
        self.top = top
        self.owner = owner
        self.first: dict[tuple[int, int], bytes] = {}  # files with several names -> the one that has the data

    def tree(self, name: bytes) -> Iterator[bytes]:
        """Yield a directory and all below it, parents first.

        Directories wait by their path and are found again by it, with no link on the way: so a tree may be deep, and one that
        is exchanged for a link meanwhile is an error.
        """
        waiting = [b""]
        while waiting:
            below = waiting.pop()
            fd = open_exactly(self.top, os.fsdecode(below) or ".", os.O_RDONLY | os.O_DIRECTORY)
            try:
                yield self.head(fd, os.fstat(fd), name + b"/" + below if below else name)
                directories = []
                for entry in sorted(os.listdir(fd)):
                    inner = os.fsencode(entry)
                    path = below + b"/" + inner if below else inner
                    try:
                        child = os.open(inner, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
                    except FileNotFoundError:
                        continue  # it has been removed meanwhile
                    if stat.S_ISDIR(os.fstat(child).st_mode):
                        os.close(child)
                        directories.append(path)
                    else:
                        yield from self.one(child, name + b"/" + path)
                waiting += reversed(directories)
            finally:
                os.close(fd)

    def head(self, target: int, status: os.stat_result, name: bytes, link: bytes = b"") -> bytes:
        """Return an entry's blocks."""
        entry = entry_of(status, name, xattrs_of(target) if stat.S_ISDIR(status.st_mode) else {})
        entry.link = link
        self.owner(entry)
        return header(entry)

    def one(self, fd: int, name: bytes) -> Iterator[bytes]:
        """Yield what is no directory; its O_PATH descriptor is closed."""
        try:
            status = os.fstat(fd)
            kind = stat.S_IFMT(status.st_mode)
            if kind == stat.S_IFSOCK:
                return
            first = self.first.setdefault((status.st_dev, status.st_ino), name) if status.st_nlink > 1 else name
            if first is not name:
                entry = entry_of(status, name, {})
                entry.kind, entry.link, entry.size, entry.stored = "hardlink", first, 0, 0
                self.owner(entry)
                yield header(entry)
            elif kind == stat.S_IFREG:
                yield from self.file(fd, status, name)
            else:
                yield self.head(fd, status, name, os.readlink(b"", dir_fd=fd) if kind == stat.S_IFLNK else b"")
        finally:
            os.close(fd)

    def file(self, fd: int, status: os.stat_result, name: bytes) -> Iterator[bytes]:
        """Yield a regular file with its content."""
        opened = open_regular(fd)
        try:
            entry = entry_of(status, name, xattrs_of(opened))
            self.owner(entry)
            map_holes(entry, opened)
            yield header(entry)
            yield from data_of(opened, entry)
        finally:
            os.close(opened)

