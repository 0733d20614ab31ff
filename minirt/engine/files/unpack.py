"""A tar into a directory: of a container, which may change it meanwhile, or of the host.

Each entry's directory is opened below the one that we were given, without following any link; what is there under its name
goes first, and the new one is made where nothing is. So nothing outside can be written to, whatever the tar says and
whoever else is at work there.
"""

from __future__ import annotations

import os
import stat
from contextlib import nullcontext
from errno import EEXIST, ENOENT, ENOTDIR, ENOTSUP, EPERM

from minirt.engine.files.root import FileError, told
from minirt.errors import KernelError
from minirt.image.compression import decompressed, sniff
from minirt.image.tar import Archive
from minirt.linux.files import open_exactly
from minirt.linux.rmtree import remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from minirt.image.compression import Reader
    from minirt.image.header import Entry

__all__ = ["unpack"]

FIRST = 64 << 10  # bytes that tell how it is compressed
Owner = tuple[int, int]
if TYPE_CHECKING:
    Mapped = Callable[[Owner], AbstractContextManager[None]]


def unpack(
    top: int,
    source: Reader,
    owner: Callable[[Entry], Owner | None],
    *,
    keep_kinds: bool = True,
    mapped: Mapped | None = None,
    find: Callable[[str], int] | None = None,
) -> int:
    """Unpack a tar, compressed or not.

    Args:
        top: int fd of the directory.
        source: of the tar.
        owner: returns the host's ids for an entry, None to leave them as they come.
        keep_kinds: a directory is not replaced by something else, nor something else by a directory.
        mapped: gives a body in which files are made as an owner, where they cannot be given to it afterwards.
        find: opens a directory by its path below `top`; by default one to which no link leads.

    Returns: how many entries. Raises: FileError, BadArchive.
    """
    writer = Writer(find or (lambda path: open_exactly(top, path, os.O_RDONLY | os.O_DIRECTORY)), owner, keep_kinds, mapped)
    reader = Peeked(source)
    archive = Archive(decompressed(sniff(reader.first), reader))
    count = 0
    for entry in archive:
        try:
            writer.add(entry, archive)
        except OSError as error:
            raise FileError(f"{entry.name.decode(errors='replace')}: {told(error)}") from None
        count += 1
    writer.finish()
    return count


class Peeked:
    """A reader whose beginning is looked at."""

    def __init__(self, source: Reader) -> None:
        self.source = source
        self.first = b""
        while len(self.first) < 512 and (piece := source.read(FIRST)):
            self.first += piece
        self.rest = self.first

    def read(self, size: int, /) -> bytes:
        """Return at most so many bytes, none at the end."""
        if not self.rest:
            return self.source.read(size)
        data, self.rest = self.rest[:size], self.rest[size:]
        return data


class Writer:
    """One tar being unpacked."""

    def __init__(
        self, find: Callable[[str], int], owner: Callable[[Entry], Owner | None], keep_kinds: bool, mapped: Mapped | None
    ) -> None:  # fmt: skip
        self.find = find
        self.owner = owner
        self.keep_kinds = keep_kinds
        self.mapped = mapped
        self.directories: list[tuple[bytes, Entry]] = []

    def add(self, entry: Entry, archive: Archive) -> None:
        """Make what an entry says. Raises: FileError, OSError."""
        parts = [part for part in entry.name.split(b"/") if part not in (b"", b".")]
        if b".." in parts:
            raise FileError(f"{entry.name.decode(errors='replace')}: a name with .. in it is not unpacked")
        if not parts:  # the directory itself, which stays as it is
            return
        as_owner = self.owner(entry)
        with self.mapped(as_owner) if self.mapped and as_owner else nullcontext():
            folder = self.folder(parts[:-1])
            try:
                self.make(folder, parts[-1], entry, archive)
                if entry.kind == "directory":
                    self.directories.append((b"/".join(parts), entry))
            finally:
                os.close(folder)

    def folder(self, parts: list[bytes]) -> int:
        """Return a descriptor of the directory that names lead to, made where it is missing."""
        path = b"/".join(parts) or b"."
        try:
            return self.find(os.fsdecode(path))
        except KernelError as error:
            if error.errno != ENOENT:
                raise
        above = self.folder(parts[:-1])
        try:
            os.mkdir(parts[-1], 0o755, dir_fd=above)
        except FileExistsError:
            pass
        finally:
            os.close(above)
        return self.find(os.fsdecode(path))

    def make(self, folder: int, name: bytes, entry: Entry, archive: Archive) -> None:
        """Make one entry in its directory."""
        there = kind_of(folder, name)
        if there == stat.S_IFDIR and entry.kind == "directory":
            return
        if there and self.keep_kinds and (there == stat.S_IFDIR) != (entry.kind == "directory"):
            what = "a directory would replace what is none" if entry.kind == "directory" else "it would replace a directory"
            raise FileError(f"{entry.name.decode(errors='replace')}: {what}")
        if there == stat.S_IFDIR:
            clear_directory(folder, name)
        elif there:
            os.unlink(name, dir_fd=folder)
        if entry.kind == "directory":
            os.mkdir(name, 0o700, dir_fd=folder)
        elif entry.kind == "hardlink":
            self.link(folder, name, entry)
        elif entry.kind == "file":
            self.file(folder, name, entry, archive)
        else:
            self.special(folder, name, entry)

    def link(self, folder: int, name: bytes, entry: Entry) -> None:
        """Give a file of this tar, or one that is there, another name."""
        parts = [part for part in entry.link.split(b"/") if part not in (b"", b".")]
        if not parts or b".." in parts:
            raise FileError(f"{entry.name.decode(errors='replace')}: a link to {entry.link!r} is not unpacked")
        source = self.folder(parts[:-1])
        try:
            if kind_of(source, parts[-1]) == stat.S_IFDIR:
                raise OSError(EPERM, os.strerror(EPERM))
            os.link(parts[-1], name, src_dir_fd=source, dst_dir_fd=folder, follow_symlinks=False)
        finally:
            os.close(source)

    def file(self, folder: int, name: bytes, entry: Entry, archive: Archive) -> None:
        """Make a regular file with its content."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, 0o600, dir_fd=folder)
        try:
            archive.write(fd, entry)
            self.dress(fd, entry)
        finally:
            os.close(fd)

    def special(self, folder: int, name: bytes, entry: Entry) -> None:
        """Make a symbolic link, a FIFO or a device; without root devices are left out."""
        if entry.kind == "symlink":
            os.symlink(entry.link, name, dir_fd=folder)
        elif entry.kind == "fifo":
            os.mkfifo(name, 0o600, dir_fd=folder)
        elif os.geteuid() == 0:
            kind = stat.S_IFCHR if entry.kind == "char" else stat.S_IFBLK
            os.mknod(name, kind | 0o600, os.makedev(*entry.device), dir_fd=folder)
        else:
            return
        owner = self.owner(entry)
        if owner and not self.mapped:
            os.chown(name, *owner, dir_fd=folder, follow_symlinks=False)
        if entry.kind != "symlink":
            fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            try:
                if not stat.S_ISLNK(os.fstat(fd).st_mode):
                    os.chmod(f"/proc/self/fd/{fd}", entry.mode)
            finally:
                os.close(fd)
        os.utime(name, ns=(entry.mtime, entry.mtime), dir_fd=folder, follow_symlinks=False)

    def dress(self, fd: int, entry: Entry) -> None:
        """Give an open file what the entry has beside content: owner first, as a change of it takes the others away."""
        owner = self.owner(entry)
        if owner and not self.mapped:
            os.fchown(fd, *owner)
        os.fchmod(fd, entry.mode)
        for name, value in entry.xattrs.items():
            if name == "security.capability" or name.startswith("user."):
                try:
                    os.setxattr(fd, name, value)
                except OSError as error:
                    if error.errno not in (ENOTSUP, EPERM):
                        raise
        os.utime(fd, ns=(entry.mtime, entry.mtime))

    def finish(self) -> None:
        """Give directories what is theirs, the innermost first: what is put into one changes its time."""
        for path, entry in reversed(self.directories):
            as_owner = self.owner(entry)
            try:
                with self.mapped(as_owner) if self.mapped and as_owner else nullcontext():
                    fd = self.find(os.fsdecode(path))
                    try:
                        self.dress(fd, entry)
                    finally:
                        os.close(fd)
            except OSError as error:
                if error.errno not in (ENOENT, ENOTDIR):
                    raise FileError(f"{entry.name.decode(errors='replace')}: {told(error)}") from None


def kind_of(folder: int, name: bytes) -> int:
    """Return what has a name (S_IFMT), 0 for nothing."""
    try:
        return stat.S_IFMT(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return 0


def clear_directory(folder: int, name: bytes) -> None:
    """Remove a directory with all that is in it: moved to a name that nobody knows, and taken apart there."""
    hidden = b".minirt-" + os.urandom(8).hex().encode()
    os.rename(name, hidden, src_dir_fd=folder, dst_dir_fd=folder)
    try:
        remove_tree(f"/proc/self/fd/{folder}/{hidden.decode()}")
    except OSError as error:
        if error.errno != EEXIST:
            raise
