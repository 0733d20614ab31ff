"""Entries -> files: one layer's archive, unpacked into a directory that overlayfs can stack.

Whiteouts become what overlayfs reads (whiteouts.py). Where the file system takes no xattr for an opaque directory (tmpfs:
user.* only since Linux 6.6), a whiteout for each hidden name says the same.

A whiteout only hides what lower layers have. So `.wh.a` beside a directory `a` of the same layer, in any
order, is a directory that hides the lower one's content: an opaque directory.
"""

from __future__ import annotations

import errno
import os
import stat

from minirt.image.attributes import Attributes, Privilege, check_owner, times
from minirt.image.compression import Bounded
from minirt.image.errors import Attempt, BadArchive, ImageError, StoreError
from minirt.image.lower import Lower
from minirt.image.tar import Archive
from minirt.image.tree import Directory, Tree
from minirt.image.whiteouts import META, OPAQUE, WHITEOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minirt.image.compression import Reader
    from minirt.image.header import Entry

__all__ = ["Limits", "unpack"]

OUR_TROUBLE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class Limits:
    """What an archive may cost. Defaults: 64 GiB unpacked, 4 million entries."""

    def __init__(self, size: int = 64 << 30, entries: int = 4_000_000) -> None:
        self.size = size  # bytes of the uncompressed tar
        self.entries = entries


def unpack(
    source: Reader,
    root: str,
    *,
    lower: list[str] | Callable[[], list[str]] | None = None,
    whole: bool = False,
    limits: Limits | None = None,
    privilege: Privilege | None = None,
) -> None:
    """Unpack a layer into an empty directory.

    Args: source, reader of the uncompressed tar, read to its end; root, path of the directory; lower, the
    directories of the layers below, topmost first (a directory that this layer only implies takes its owner
    and mode from there), or a function that returns them when every entry is made, as only then they are looked
    into; whole, as in tar.Archive.
    Raises BadArchive; what was unpacked by then is the caller's to remove.
    """
    limits = limits or Limits()
    archive = Archive(Bounded(source, limits.size), whole=whole)
    writer = _Writer(root, privilege or Privilege())
    try:
        for count, entry in enumerate(archive, 1):
            if count > limits.entries:
                raise BadArchive(f"it has more than {limits.entries} entries, the limit for a layer")
            writer.add(entry, archive)
        writer.finish(lower() if callable(lower) else lower or [])
    finally:
        writer.tree.close()


class _Writer:
    def __init__(self, root: str, privilege: Privilege) -> None:
        self.tree = Tree(root, self._made, self._blocked)
        self._lower = Lower([])
        self._may = privilege
        self._entry: Entry | None = None
        self._directories: dict[bytes, Attributes] = {}  # by canonical path
        self._implied: set[bytes] = set()  # those without an entry of their own
        self._opaque: set[bytes] = set()
        self._whiteouts: set[bytes] = set()

    # -- one entry

    def add(self, entry: Entry, archive: Archive) -> None:
        """Make what an entry says."""
        try:
            self._add(entry, archive)
        except ImageError:
            raise
        except (OSError, OverflowError, ValueError) as error:
            _blame_store(error)
            reason = getattr(error, "strerror", None) or error
            raise BadArchive(f"{entry.name.decode(errors='replace')!r} cannot be made: {reason}") from error

    def _add(self, entry: Entry, archive: Archive) -> None:
        self._entry = entry
        self.tree.trim()
        if WHITEOUT in entry.name and self._add_whiteout(entry.name):
            return
        if entry.kind == "directory":
            self._directory(entry)
        elif entry.kind == "hardlink":
            self._hard_link(entry)
        elif entry.kind == "file":
            directory, name = self._place(entry)
            self._file(entry, directory, name, archive)
        elif self._may.full or entry.kind not in ("char", "block"):
            directory, name = self._place(entry)
            self._special(entry, directory, name)

    def _add_whiteout(self, name: bytes) -> bool:
        """Make a whiteout, if the name is one. Returns whether it was, or was aufs's private matter."""
        above, _, last = name.rstrip(b"/").rpartition(b"/")
        if last == OPAQUE:
            directory, _ = self.tree.parent(above + b"/x")
            self._opaque.add(directory.path)
            return True
        if last.startswith(META) or any(c.startswith(META) for c in above.split(b"/")):
            return True
        if not last.startswith(WHITEOUT):
            return False
        hidden = last[len(WHITEOUT) :]
        if hidden in (b"", b".", b".."):
            raise BadArchive(f"{name!r} is a whiteout of nothing")
        directory, hidden = self.tree.parent((above + b"/" if above else b"") + hidden)
        kind = _kind(directory, hidden)
        if kind == stat.S_IFDIR:
            self._opaque.add(directory.below(hidden))
            self._implied.discard(directory.below(hidden))
        elif not kind:
            os.mknod(hidden, stat.S_IFCHR, 0, dir_fd=directory.fd)
            self._whiteouts.add(directory.below(hidden))
        return True

    def _place(self, entry: Entry) -> tuple[Directory, bytes]:
        """Find where an entry goes, and remove what it replaces."""
        directory, name = self.tree.parent(entry.name)
        if not name:
            raise BadArchive(f"the root itself is a {entry.kind}")
        if self._clear(directory, name):
            directory, name = self.tree.parent(entry.name)
        return directory, name

    def _directory(self, entry: Entry) -> None:
        """Make a directory, or merge with the one that is there."""
        check_owner(entry)
        directory, name = self.tree.parent(entry.name)
        path = directory.below(name) if name else b""
        if name and _kind(directory, name) != stat.S_IFDIR:
            if path in self._whiteouts:
                self._opaque.add(path)
            directory, name = self._place(entry)
            os.mkdir(name, 0o700, dir_fd=directory.fd)
        self._directories[path] = Attributes(entry.mode, entry.uid, entry.gid, entry.mtime, entry.xattrs)
        self._implied.discard(path)

    def _file(self, entry: Entry, directory: Directory, name: bytes, archive: Archive) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, 0o600, dir_fd=directory.fd)
        try:
            archive.write(fd, entry)
            self._may.give_owner(entry, fd)
            os.fchmod(fd, entry.mode)  # after chown, which clears setuid
            self._may.set_xattrs(fd, entry.xattrs)  # after chown, which clears security.capability
            os.utime(fd, ns=times(entry.mtime))
        finally:
            os.close(fd)

    def _special(self, entry: Entry, directory: Directory, name: bytes) -> None:
        """Make a symbolic link, a device or a FIFO."""
        fd = directory.fd
        if entry.kind == "symlink":
            os.symlink(entry.link, name, dir_fd=fd)
        elif entry.kind == "fifo":
            os.mkfifo(name, 0o600, dir_fd=fd)
        else:
            kind = stat.S_IFCHR if entry.kind == "char" else stat.S_IFBLK
            os.mknod(name, kind | 0o600, os.makedev(*entry.device), dir_fd=fd)
        if self._may.full:
            check_owner(entry)
            os.chown(name, entry.uid, entry.gid, dir_fd=fd, follow_symlinks=False)
        if entry.kind != "symlink":
            os.chmod(name, entry.mode, dir_fd=fd)
        self._may.set_xattrs(f"/proc/self/fd/{fd}/".encode() + name, entry.xattrs)  # there is no setxattrat: by the magic link
        os.utime(name, ns=times(entry.mtime), dir_fd=fd, follow_symlinks=False)

    def _hard_link(self, entry: Entry) -> None:
        """Give a file of this layer, and so of this root, another name."""
        source, last = self._link_source(entry)
        directory, name = self.tree.parent(entry.name)
        if (source.path, last) == (directory.path, name):
            raise BadArchive(f"{entry.name!r} is a hard link to itself")
        directory, name = self._place(entry)
        source, last = self._link_source(entry)  # again: _place may have removed it, or closed its directory
        os.link(last, name, src_dir_fd=source.fd, dst_dir_fd=directory.fd, follow_symlinks=False)

    def _link_source(self, entry: Entry) -> tuple[Directory, bytes]:
        source, last = self.tree.parent(entry.link)
        if _kind(source, last) in (0, stat.S_IFDIR) or source.below(last) in self._whiteouts:
            raise BadArchive(f"{entry.name!r} is a hard link to {entry.link!r}, which is no file of this layer")
        return source, last

    # -- what is there already

    def _clear(self, directory: Directory, name: bytes) -> bool:
        """Remove what an entry replaces. Returns whether directories have to be looked up again."""
        kind = _kind(directory, name)
        path = directory.below(name)
        if kind == stat.S_IFDIR:
            import shutil

            shutil.rmtree(name, dir_fd=directory.fd)
            self._directories = {p: a for p, a in self._directories.items() if not _is_below(p, path)}
            for paths in (self._opaque, self._whiteouts, self._implied):
                paths -= {p for p in paths if _is_below(p, path)}
        elif kind:
            os.unlink(name, dir_fd=directory.fd)
            self._whiteouts.discard(path)
        if kind not in (stat.S_IFDIR, stat.S_IFLNK):
            return False
        self.tree.forget()
        return True

    def _made(self, directory: Directory, name: bytes) -> None:
        """Tree made a directory that the archive only implies."""
        mtime = self._entry.mtime if self._entry else 0
        path = directory.below(name)
        self._directories[path] = Attributes(0o755, 0, 0, mtime, {})
        self._implied.add(path)

    def _blocked(self, directory: Directory, name: bytes) -> bool:
        """A whiteout is in the way of a directory: the directory wins, and hides what the whiteout hid."""
        path = directory.below(name)
        if path not in self._whiteouts:
            return False
        self._clear(directory, name)
        os.mkdir(name, 0o700, dir_fd=directory.fd)
        self._made(directory, name)
        self._opaque.add(path)
        self._implied.discard(path)
        return True

    # -- what lies below

    def _covered(self, path: bytes) -> bool:
        """Return whether a directory, or one above it, is opaque: nothing below this layer shows there."""
        while path not in self._opaque:
            if not path:
                return False
            path = path.rpartition(b"/")[0]
        return True

    def _inherit(self, path: bytes) -> None:
        """A directory that the archive only implies is as the layers below have it, unless it is hidden there."""
        if not path or not self._covered(path.rpartition(b"/")[0]):
            self._directories[path] = self._lower.attributes(path) or self._directories[path]

    def _drop_idle_whiteouts(self) -> None:
        """Remove whiteouts of what no layer below has: overlayfs lists one in a directory that is not merged."""
        names: dict[bytes, set[bytes]] = {}
        for path in self._whiteouts:
            above, _, name = path.rpartition(b"/")
            if above not in names:
                names[above] = set() if self._covered(above) else self._lower.names(above)
            if name not in names[above]:
                self.tree.trim()
                os.unlink(name, dir_fd=self.tree.canonical(above).fd)

    def _mark_opaque(self, directory: Directory) -> None:
        """Hide what the layers below have in this directory."""
        try:
            for mark in self._may.marks:
                os.setxattr(directory.fd, mark, b"y")
        except OSError as error:
            if error.errno != errno.ENOTSUP:
                raise
            for name in self._lower.names(directory.path):
                kind = _kind(directory, name)
                if kind == stat.S_IFDIR:
                    self._opaque.add(directory.below(name))  # its turn comes: it is finished after this one
                elif not kind:
                    os.mknod(name, stat.S_IFCHR, 0, dir_fd=directory.fd)

    # -- the end

    def finish(self, lower: list[str]) -> None:
        """Give directories their attributes, now that nothing changes their times any more.

        Args: lower, the directories of the layers below, topmost first.
        """
        self._lower = Lower(lower)
        if b"" not in self._directories:
            self._directories[b""] = Attributes(0o755, 0, 0, 0, {})
            self._implied.add(b"")
        with Attempt("look into the layers below"):
            for path in self._implied:
                self._inherit(path)
            self._drop_idle_whiteouts()
        for path in sorted(self._directories):
            self.tree.trim()
            self._finish(path, self._directories[path])

    def _finish(self, path: bytes, attributes: Attributes) -> None:
        try:
            directory = self.tree.canonical(path)
            fd = directory.fd
            if path in self._opaque:
                self._mark_opaque(directory)
            self._may.set_xattrs(fd, attributes.xattrs)
            self._may.give_owner(attributes, fd)
            os.fchmod(fd, attributes.mode)
            os.utime(fd, ns=times(attributes.mtime))
        except (OSError, OverflowError) as error:
            _blame_store(error)
            reason = getattr(error, "strerror", None) or error
            raise BadArchive(f"{path.decode(errors='replace')!r} cannot be finished: {reason}") from error


def _blame_store(error: Exception) -> None:
    """Raise StoreError for what no archive is to blame for."""
    if isinstance(error, OSError) and error.errno in OUR_TROUBLE:
        raise StoreError(f"cannot unpack the layer: {error.strerror}") from error


def _kind(directory: Directory, name: bytes) -> int:
    """Return the S_IFMT bits of what has this name, or 0 for nothing."""
    try:
        return stat.S_IFMT(os.stat(name, dir_fd=directory.fd, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return 0


def _is_below(path: bytes, top: bytes) -> bool:
    return path == top or path.startswith(top + b"/")
