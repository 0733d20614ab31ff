"""A path inside a root, and never outside it.

An archive may hold `a -> /etc` and then `a/passwd`. Every name is walked one component at a time from a
directory's fd, a symbolic link on the way is followed as if the root were `/` (what chroot would do, and
what `RESOLVE_IN_ROOT` of man 2 openat2 does), and the last component is never followed. The result is a
directory fd and one plain name, for the *at system calls.

The caller owns the root while it writes: nobody else may change it meanwhile.
"""

from __future__ import annotations

import errno
import os

from minirt.image.errors import BadArchive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Directory", "Tree", "components"]

DEPTH_LIMIT = 256  # directories below each other; more is a trap for whoever has to delete them
LINK_LIMIT = 40  # symbolic links in one look-up, as in the kernel (man 7 path_resolution)
OPEN_LIMIT = 100  # directories kept open: entries come a directory at a time

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Directory:
    """An open directory below the root."""

    __slots__ = ("fd", "path")

    def __init__(self, fd: int, path: bytes) -> None:
        self.fd = fd
        self.path = path  # below the root, no "/" before or after, no symbolic link in it; b"" is the root

    def below(self, name: bytes) -> bytes:
        """Return the path of something in it."""
        return self.path + b"/" + name if self.path else name


def components(name: bytes) -> list[bytes]:
    """Part an entry's name. An absolute name is taken as below the root, as docker and tar do.

    Returns the components; none for the root itself. Raises BadArchive for `..`, NUL and the empty name.
    """
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if not name or b"\0" in name:
        raise BadArchive(f"an entry has the name {name!r}")
    if b".." in parts:
        raise BadArchive(f"{name!r} climbs out with '..'")
    if len(parts) > DEPTH_LIMIT:
        raise BadArchive(f"{name[:60]!r}… is nested deeper than {DEPTH_LIMIT} directories")
    return parts


class Tree:
    """The root.

    Args: root, path of an existing directory; made, called with the Directory above and the name for each
    directory that had to be made on the way; blocked, called likewise for what is neither a directory nor a
    link and in the way: it returns whether it removed it.
    Close it after use.
    """

    def __init__(
        self,
        root: str,
        made: Callable[[Directory, bytes], None],
        blocked: Callable[[Directory, bytes], bool],
    ) -> None:
        self.root = Directory(os.open(root, _DIRECTORY), b"")
        self._made = made
        self._blocked = blocked
        self._open: dict[bytes, Directory] = {b"": self.root}  # by canonical path
        self._known: dict[bytes, Directory] = {}  # by the name that an archive used

    def close(self) -> None:
        """Close all directories."""
        self.forget()
        os.close(self.root.fd)

    def forget(self) -> None:
        """Close what is cached: a directory or a link has gone, or there are too many."""
        for directory in self._open.values():
            if directory is not self.root:
                os.close(directory.fd)
        self._open = {b"": self.root}
        self._known.clear()

    def parent(self, name: bytes) -> tuple[Directory, bytes]:
        """Find, or make, the directory that a name is in.

        Returns it and the last component; (root, b"") for the root itself. The Directory is valid until
        `forget` or `trim`. Raises BadArchive, OSError.
        """
        above, _, last = name.rpartition(b"/")
        known = self._known.get(above)
        if known is not None and last not in (b"", b".", b"..") and b"\0" not in last:
            return known, last
        parts = components(name)
        if not parts:
            return self.root, b""
        directory = self._walk(parts[:-1])
        if last == parts[-1]:  # not for `a/b/`, whose directory is a and not a/b
            self._known[above] = directory
        return directory, parts[-1]

    def trim(self) -> None:
        """Close cached directories if there are many. Call it between entries."""
        if len(self._open) > OPEN_LIMIT:
            self.forget()

    def canonical(self, path: bytes) -> Directory:
        """Open a directory by its canonical path, as in Directory.path. Raises OSError."""
        return self._walk(path.split(b"/") if path else [])

    def _walk(self, parts: list[bytes]) -> Directory:
        here, links = self.root, 0
        todo = [(part, True) for part in reversed(parts)]  # and whether it may be made
        while todo:
            name, make = todo.pop()
            if name in (b"", b"."):
                continue
            if name == b"..":  # only from a link's text; at the root it stays there
                here = self._child_of_path(here.path.rpartition(b"/")[0])
                continue
            child = self._enter(here, name, make)
            if child is not None:
                here = child
                continue
            links += 1
            target = os.readlink(name, dir_fd=here.fd)
            if links > LINK_LIMIT:
                raise BadArchive(f"{here.below(name)!r} is a symbolic link in a loop")
            if target.startswith(b"/"):
                here = self.root
            todo += [(part, False) for part in reversed(target.split(b"/"))]
        return here

    def _child_of_path(self, path: bytes) -> Directory:
        """Open a canonical path again."""
        found = self._open.get(path)
        return found if found is not None else self.canonical(path)

    def _enter(self, here: Directory, name: bytes, make: bool) -> Directory | None:
        """Open a subdirectory, made if absent. Returns None where a symbolic link is in its place."""
        path = here.below(name)
        found = self._open.get(path)
        if found is not None:
            return found
        if path.count(b"/") >= DEPTH_LIMIT:
            raise BadArchive(f"{path[:60]!r}… is nested deeper than {DEPTH_LIMIT} directories")
        try:
            fd = os.open(name, _DIRECTORY, dir_fd=here.fd)
        except FileNotFoundError:
            if not make:  # through a dangling link no tar makes directories, and it is never meant
                raise BadArchive(f"{path!r} is where a symbolic link leads, and it does not exist") from None
            os.mkdir(name, 0o700, dir_fd=here.fd)
            self._made(here, name)
            fd = os.open(name, _DIRECTORY, dir_fd=here.fd)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                raise
            if _is_link(here, name):
                return None
            if not self._blocked(here, name):
                raise BadArchive(f"{path!r} is used as a directory and is none") from None
            return self._enter(here, name, make)
        directory = self._open[path] = Directory(fd, path)
        return directory


def _is_link(here: Directory, name: bytes) -> bool:
    from stat import S_ISLNK

    return S_ISLNK(os.stat(name, dir_fd=here.fd, follow_symlinks=False).st_mode)
