"""`cp` both ways, by docker's rules of which name means what (docs.docker.com/reference/cli/docker/container/cp).

    a file       to nothing           becomes that file; with a slash at the end it is an error
                 to a file            replaces it
                 to a directory       goes into it
    a directory  to nothing           becomes that directory
                 to a file            is an error
                 to a directory       goes into it; of DIRECTORY/. only what is in it does

    archive_stat, archive_get, archive_put   the same for the Engine API's HEAD, GET and PUT of an archive
"""

from __future__ import annotations

import os
import posixpath
import stat
from contextlib import contextmanager

from minirt.engine.files.pack import pack
from minirt.engine.files.root import FileError, Root, clean, opened, told
from minirt.engine.files.unpack import unpack
from minirt.image.pack import Pieces
from minirt.linux.files import open_in_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from typing import Any

    from minirt.engine.container import Container
    from minirt.image.compression import Reader
    from minirt.image.header import Entry

__all__ = ["archive_get", "archive_put", "archive_stat", "copy_in", "copy_out", "read_out", "take_away", "write_in"]


# -- whose files --------------------------------------------------------------------------------------------------------


def inside(maps: list[dict[str, int]], id: int) -> int:
    """Return a container's id for one of the host's; who has none there is nobody (65534)."""
    if not maps:
        return id
    found = (m["containerID"] + id - m["hostID"] for m in maps if m["hostID"] <= id < m["hostID"] + m["size"])
    return next(found, 65534)


def as_inside(root: Root) -> Callable[[Entry], None]:
    """Return what gives a tar's entries the owners that the container sees."""

    def change(entry: Entry) -> None:
        entry.uid, entry.gid = inside(root.uids, entry.uid), inside(root.gids, entry.gid)

    return change


def as_ours(root: Root) -> Callable[[Entry], None]:
    """Return what also takes from a tar's entries the rights that are another's to give: they become ours on the host.

    A program that was to run as a user of the container would run as us, whoever starts it (man 7 capabilities, man 2 chmod), and
    a device that all may open in there leads past the files' modes here. cp(1) does the same without -p.
    """
    inner = as_inside(root)

    def change(entry: Entry) -> None:
        inner(entry)
        if entry.kind in ("char", "block"):
            entry.mode &= 0o600
        entry.mode &= 0o1777
        entry.xattrs.pop("security.capability", None)

    return change


def as_outside(root: Root, keep: bool) -> Callable[[Entry], tuple[int, int] | None]:
    """Return what gives the host's ids for an entry's, or for the container's root. Raises: FileError for ids without a place."""
    from minirt.linux.userns import outside

    def owner(entry: Entry) -> tuple[int, int] | None:
        if os.geteuid() != 0:
            return None
        uid, gid = (entry.uid, entry.gid) if keep else (0, 0)
        if not root.uids:
            return uid, gid
        try:
            return outside(root.uids, uid), outside(root.gids, gid)
        except ValueError:
            raise FileError(f"{entry.name.decode(errors='replace')}: user {uid}:{gid} has no id in the container") from None

    return owner


def maker(root: Root) -> Callable[[tuple[int, int]], AbstractContextManager[None]] | None:
    """Return what makes files as somebody else, where the container has a user namespace."""
    if not root.uids or os.geteuid() != 0:
        return None
    from minirt.linux.fsid import as_owner

    return lambda owner: as_owner(*owner)


# -- the API's archive --------------------------------------------------------------------------------------------------


def archive_stat(container: Container, path: str) -> dict[str, Any]:
    """Return what is at a path, as the header X-Docker-Container-Path-Stat has it. Raises: FileError, ContainerError."""
    with opened(container) as root:
        return root.stat(path)


@contextmanager
def archive_get(container: Container, path: str, follow: bool = False) -> Iterator[tuple[dict[str, Any], Iterator[bytes]]]:
    """Give (what is at a path, its tar) for the body.

    Args:
        container: running or not.
        path: in it; DIRECTORY/. is what is in a directory.
        follow: a link at the end of the path too.

    Raises: FileError, ContainerError.
    """
    with opened(container) as root:
        found = root.stat(path)
        fd = root.open(path, follow)
        try:
            yield found, pack(fd, "." if is_content(path) else name_of(path), as_inside(root))
        finally:
            os.close(fd)


def archive_put(container: Container, path: str, source: Reader, *, keep_kinds: bool = False, keep_owners: bool = True) -> None:
    """Unpack a tar, compressed or not, into a directory of a container.

    Args:
        container: running or not.
        path: of a directory; links are followed, inside.
        source: of the tar.
        keep_kinds: noOverwriteDirNonDir of the API.
        keep_owners: files belong to whom the tar says; else to the container's root.

    Raises: FileError, ContainerError, BadArchive.
    """
    with opened(container) as root:
        put(root, path, source, keep_kinds, keep_owners)


def take_away(container: Container, path: str) -> None:
    """Remove what is at a path of a container, with all below it; nothing there is no error. Raises: FileError, ContainerError."""
    from errno import ENOENT, ENOTDIR

    from minirt.linux.rmtree import remove_tree

    plain = clean(path)
    if plain == "/":
        raise FileError("/ in the container is not removed")
    with opened(container) as root:
        try:
            above = open_in_root(root.fd, posixpath.dirname(plain), os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            if error.errno in (ENOENT, ENOTDIR):
                return
            raise FileError(f"{path} in the container: {told(error)}") from None
        try:
            name = posixpath.basename(plain)
            if stat.S_ISDIR(os.lstat(name, dir_fd=above).st_mode):
                remove_tree(f"/proc/self/fd/{above}/{name}")
            else:
                os.unlink(name, dir_fd=above)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise FileError(f"{path} in the container: {told(error)}") from None
        finally:
            os.close(above)


def put(root: Root, path: str, source: Reader, keep_kinds: bool, keep_owners: bool) -> None:
    """Unpack a tar into a directory of an open root."""
    top = root.open(path, follow=True)
    try:
        if not stat.S_ISDIR(os.fstat(top).st_mode):
            raise FileError(f"{path} in the container: no directory, so nothing can be unpacked into it")
        place = clean(path)

        def find(below: str) -> int:  # a link that leads to a directory inside is as good as the directory
            return open_in_root(root.fd, posixpath.join(place, below), os.O_RDONLY | os.O_DIRECTORY)

        unpack(top, source, as_outside(root, keep_owners), keep_kinds=keep_kinds, mapped=maker(root), find=find)
    finally:
        os.close(top)


# -- which name means what ----------------------------------------------------------------------------------------------


def is_content(path: str) -> bool:
    """Say whether a path means what is in a directory, and not the directory."""
    return path in (".", "/") or path.endswith("/.") or clean(path) == "/"


def name_of(path: str) -> str:
    """Return what a path's last part is called."""
    return posixpath.basename(clean(path)) or "."


def place_for(source_is_directory: bool, source: str, target: str, kind: int, where: str) -> tuple[str, str]:
    """Return the directory that a copy goes into, and the name that it has there ("." for what is in a directory).

    Args:
        source_is_directory: what is copied.
        source, target: as written.
        kind: what is at the target (S_IFMT), links followed; 0 for nothing.
        where: of whom the target is, for messages.

    Raises: FileError.
    """
    slash = target.endswith(("/", "/."))
    plain = target.rstrip("/") or "/"
    if kind == stat.S_IFDIR:
        return target, "." if source_is_directory and is_content(source) else name_of(source)
    if kind:
        if source_is_directory:
            raise FileError(f"{target} {where} is no directory, and a directory cannot become a file")
        if slash:
            raise FileError(f"{target} {where} is no directory")
    elif slash and not source_is_directory:
        raise FileError(f"{target} {where}: there is no such directory; make it, or leave out the slash for a file of that name")
    plain = plain.removesuffix("/.")
    return posixpath.dirname(plain) or ".", posixpath.basename(plain)


def copy_out(container: Container, source: str, target: str, follow: bool = False, archive: bool = False) -> int:
    """Copy from a container to the host.

    Args:
        container: running or not.
        source: path in it.
        target: path of the host.
        follow: -L: a link at the end of `source` too.
        archive: -a: keep owners; else all is ours.

    Returns: bytes of the tar that went over. Raises: FileError, ContainerError.
    """
    with opened(container) as root:
        fd = root.open(source, follow)
        try:
            is_directory = stat.S_ISDIR(os.fstat(fd).st_mode)
            there = target.rstrip("/") or "/"
            kind = stat.S_IFMT(os.stat(there).st_mode) if os.path.exists(there) else 0
            folder, name = place_for(is_directory, source, target, kind, "here")
            top = open_here(folder)
            try:
                counted = Counted(pack(fd, name, as_inside(root) if archive else as_ours(root)))
                unpack(top, Pieces(iter(counted)), lambda entry: (entry.uid, entry.gid) if archive else None)
                return counted.count
            finally:
                os.close(top)
        finally:
            os.close(fd)


def copy_in(container: Container, source: str, target: str, follow: bool = False, archive: bool = False) -> int:
    """Copy from the host to a container.

    Args:
        container: running or not.
        source: path of the host.
        target: path in the container.
        follow: -L: a link at the end of `source` too.
        archive: -a: keep owners; else all is the container's root's.

    Returns: bytes of the tar that went over. Raises: FileError, ContainerError.
    """
    try:
        last = 0 if follow or source.endswith(("/", "/.")) or source in (".", "..") else os.O_NOFOLLOW
        fd = os.open(source, os.O_PATH | last | os.O_CLOEXEC)
    except OSError as error:
        raise FileError(f"{source}: {error.strerror}") from None
    try:
        is_directory = stat.S_ISDIR(os.fstat(fd).st_mode)
        named = os.path.abspath(source) if posixpath.basename(source.rstrip("/")) == ".." else source
        with opened(container) as root:
            folder, name = place_for(is_directory, named, target, kind_in(root, target), "in the container")
            counted = Counted(pack(fd, name))
            put(root, folder, Pieces(iter(counted)), True, archive)
            return counted.count
    finally:
        os.close(fd)


def kind_in(root: Root, path: str) -> int:
    """Return what is at a path, links followed (S_IFMT); 0 for nothing."""
    try:
        fd = root.open(path.rstrip("/").removesuffix("/.") or "/", follow=True)
    except FileError:
        return 0
    try:
        return stat.S_IFMT(os.fstat(fd).st_mode)
    finally:
        os.close(fd)


def open_here(folder: str) -> int:
    """Open a directory of the host. Raises: FileError."""
    try:
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise FileError(f"{folder}: {error.strerror}") from None


def read_out(container: Container, source: str, follow: bool, write: Callable[[bytes], object]) -> None:
    """Write what is at a path of a container as a tar. Raises: FileError, ContainerError."""
    with archive_get(container, source, follow) as (_, pieces):
        for piece in pieces:
            write(piece)


def write_in(container: Container, target: str, source: Reader) -> None:
    """Unpack a tar into a directory of a container; files belong to whom the tar says. Raises: FileError, ContainerError."""
    archive_put(container, target, source, keep_kinds=True)


class Counted:
    """Pieces, and how many bytes they were."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self.pieces = pieces
        self.count = 0

    def __iter__(self) -> Iterator[bytes]:
        for piece in self.pieces:
            self.count += len(piece)
            yield piece
