"""A container's root as a descriptor.

    running     /proc/PID/root: with its volumes and all else that it sees mounted
    not         a process of our own mounts the same in namespaces of its own, waits there, and ends with us; meanwhile the
                container is ours, so that nobody starts it
"""

from __future__ import annotations

import json
import os
import posixpath
import stat
from contextlib import ExitStack, contextmanager

from minirt.engine.container import Container, ContainerError
from minirt.errors import KernelError
from minirt.linux.files import open_in_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["FileError", "Root", "opened"]

MODES = {  # Go's FileMode (pkg.go.dev/io/fs#FileMode), as docker's clients read it
    stat.S_IFDIR: 1 << 31, stat.S_IFLNK: 1 << 27, stat.S_IFIFO: 1 << 25, stat.S_IFSOCK: 1 << 24, stat.S_IFBLK: 1 << 26,
    stat.S_IFCHR: 1 << 26 | 1 << 21, stat.S_IFREG: 0,
}  # fmt: skip
BITS = ((stat.S_ISUID, 1 << 23), (stat.S_ISGID, 1 << 22), (stat.S_ISVTX, 1 << 20))


class FileError(ContainerError):
    """A path in a container that is not there, or cannot be copied."""


class Root:
    """A container's root.

    Args: fd, int, of the directory; uids, gids, config.json's maps, empty without a user namespace.
    """

    __slots__ = ("fd", "gids", "uids")

    def __init__(self, fd: int, uids: list[dict[str, int]], gids: list[dict[str, int]]) -> None:
        self.fd = fd
        self.uids = uids
        self.gids = gids

    def open(self, path: str, follow: bool = False) -> int:
        """Return an O_PATH descriptor of what is at a path.

        Args:
            path: absolute, or counted from /; links on the way are followed inside the root.
            follow: the last part too; else only where the path ends with a slash or a dot.

        Raises: FileError.
        """
        plain = clean(path)
        try:
            if follow or plain == "/" or path.endswith(("/", "/.")):
                wanted = os.O_PATH | (os.O_DIRECTORY if path.endswith(("/", "/.")) else 0)
                return open_in_root(self.fd, plain, wanted)
            above = open_in_root(self.fd, posixpath.dirname(plain), os.O_PATH | os.O_DIRECTORY)
            try:
                return os.open(posixpath.basename(plain), os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
            finally:
                os.close(above)
        except OSError as error:
            raise FileError(f"{path} in the container: {os.strerror(error.errno or 0)}") from None

    def stat(self, path: str) -> dict[str, Any]:
        """Return what docker's API tells of a path (X-Docker-Container-Path-Stat). Raises: FileError."""
        from minirt.engine.inspect import moment

        fd = self.open(path)
        try:
            found, link = os.fstat(fd), ""
            if stat.S_ISLNK(found.st_mode):
                link = posixpath.normpath(posixpath.join(posixpath.dirname(clean(path)), os.readlink("", dir_fd=fd)))
        finally:
            os.close(fd)
        mode = MODES.get(stat.S_IFMT(found.st_mode), 0) | found.st_mode & 0o777
        for bit, theirs in BITS:
            mode |= theirs if found.st_mode & bit else 0
        name = posixpath.basename(clean(path)) or "/"
        return {"name": name, "size": found.st_size, "mode": mode, "mtime": moment(found.st_mtime), "linkTarget": link}


def clean(path: str) -> str:
    """Return a path from the root in its plain form; ".." never leads above it."""
    return "/" + posixpath.normpath("/" + path).strip("/")


@contextmanager
def opened(container: Container) -> Iterator[Root]:
    """Give a container's root, running or not, for the body. Raises: ContainerError, MinirtError."""
    with ExitStack() as undo:
        runs, pid = container.running, container.state.get("pid") or 0
        if runs:
            spec = read_spec(container)
        else:
            from minirt.engine.files.mounted import mounted

            pid, spec = undo.enter_context(mounted(container))
        try:
            fd = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            undo.callback(os.close, fd)
        except (FileNotFoundError, ProcessLookupError):
            fd = -1
        if fd < 0 or (runs and not container.running):  # still: so the number was its own when the root was opened
            raise ContainerError(f"container {container.label} is just ending: try again")
        linux = spec["linux"]
        yield Root(fd, linux.get("uidMappings") or [], linux.get("gidMappings") or [])


def read_spec(container: Container) -> dict[str, Any]:
    """Return a container's config.json. Raises: ContainerError where it has none."""
    try:
        with open(f"{container.path}/config.json", encoding="utf-8") as file:
            spec: dict[str, Any] = json.load(file)
            return spec
    except FileNotFoundError:
        raise ContainerError(f"container {container.label} has no config.json") from None


def told(error: OSError) -> str:
    """Return what went wrong, in words."""
    return error.text if isinstance(error, KernelError) else os.strerror(error.errno or 0)
