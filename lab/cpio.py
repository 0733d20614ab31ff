"""A newc cpio archive: what the kernel unpacks into its first root file system.

The kernel takes several such archives one behind the other, compressed or not, and unpacks them
all before it starts /init. So each run of the lab can bring its own files with no disk image to
make: a header of 110 ASCII digits, the name, the bytes, and padding to four.

Source: Documentation/driver-api/early-userspace/buffer-format.rst
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container
    from typing import BinaryIO

__all__ = ["CpioWriter"]


class CpioWriter:
    """Write files, directories and links, owned by root, to a stream; close with `finish`."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._made: set[str] = set()  # directories already in the archive
        self._count = 0

    def file(self, name: str, data: bytes, mode: int = 0o644) -> None:
        """Add a regular file and the directories above it."""
        self._parents(name)
        self._entry(name, stat.S_IFREG | mode, data)

    def link(self, name: str, target: str) -> None:
        """Add a symbolic link and the directories above it."""
        self._parents(name)
        self._entry(name, stat.S_IFLNK | 0o777, os.fsencode(target))

    def directory(self, name: str, mode: int = 0o755) -> None:
        """Add a directory, once, and the directories above it."""
        if name and name not in self._made:
            self._parents(name)
            self._made.add(name)
            self._entry(name, stat.S_IFDIR | mode, b"")

    def tree(self, source: str, name: str, without: Container[str] = ()) -> None:
        """Add a whole directory of the host; devices, sockets and FIFOs are left out.

        Args:
            source: the host's directory.
            name: what it is called in the archive.
            without: base names that are left out, at any depth.
        """
        self.directory(name)
        with os.scandir(source) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.name not in without:
                    self._copy(entry, f"{name}/{entry.name}", without)

    def finish(self) -> None:
        """Write the record that ends an archive, padded to 512 bytes so that another can follow."""
        self._entry("TRAILER!!!", 0, b"")
        self._stream.write(bytes(-self._stream.tell() % 512))

    def _copy(self, entry: os.DirEntry[str], name: str, without: Container[str]) -> None:
        try:
            if entry.is_symlink():
                self.link(name, os.readlink(entry.path))
            elif entry.is_dir():
                self.tree(entry.path, name, without)
            elif entry.is_file():
                with open(entry.path, "rb") as file:
                    self.file(name, file.read(), stat.S_IMODE(entry.stat().st_mode))
        except FileNotFoundError:
            pass  # an editor's or compiler's temporary file, gone between scandir and open

    def _parents(self, name: str) -> None:
        self.directory(name.rpartition("/")[0])

    def _entry(self, name: str, mode: int, data: bytes) -> None:
        self._count += 1
        raw = os.fsencode(name) + b"\0"
        # ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
        fields = (self._count, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(raw), 0)
        header = b"070701" + b"".join(b"%08X" % field for field in fields)
        self._stream.write(header + raw + bytes(-(len(header) + len(raw)) % 4))
        self._stream.write(data + bytes(-len(data) % 4))
