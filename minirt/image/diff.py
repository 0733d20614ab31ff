"""What a container changed -> a layer: overlayfs's upper directory as the tar of image-spec layer.md.

The other direction of layer.py: a device 0:0 becomes `.wh.NAME`, an opaque directory gets `.wh..wh..opq`, the extended
attributes that overlayfs keeps for itself stay behind. The same directory gives the same bytes: names in order, the first of a
file's names holds its data, nothing tells when it was packed.
"""

from __future__ import annotations

import os
import stat
from errno import ENODATA, ENOTSUP

from minirt.image.errors import ImageError
from minirt.image.header import Entry
from minirt.image.pack import END, HardLinks, data_of, header, map_holes
from minirt.image.whiteouts import OVERLAY_XATTRS, WHITEOUT, is_opaque, is_whiteout
from minirt.image.whiteouts import entry as whiteout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["entry_of", "layer_of", "xattrs_of"]

DEPTH_LIMIT = 256  # as tree.py has it: a deeper layer could not be unpacked
BORROWED = ("redirect", "metacopy")  # with these a directory or a file has its content in a lower layer
LABELS = ("security.selinux",)  # the host's policy, not the image's content
_KINDS = {
    stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink", stat.S_IFCHR: "char", stat.S_IFBLK: "block",
    stat.S_IFIFO: "fifo",
}  # fmt: skip


def layer_of(upper: str, lower: list[str], *, latest: int | None = None) -> Iterator[bytes]:
    """Yield the tar of what an upper directory adds to, changes in and hides from its lower ones.

    Args: upper, path of the directory, which nobody changes meanwhile; lower, as `lowerdir=` has it, topmost first; latest,
    ns since the epoch that no time may exceed (reproducible-builds.org, SOURCE_DATE_EPOCH).
    Raises ImageError for what no layer can say, OSError.
    """
    packer = _Packer(latest)
    fd = os.open(upper, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _root_differs(fd, lower):
            yield packer.header(entry_of(os.fstat(fd), b".", xattrs_of(fd)))
        if is_opaque(fd):
            yield whiteout(b"")
        yield from packer.content(fd, b"", 0)
    finally:
        os.close(fd)
    yield END


def entry_of(status: os.stat_result, name: bytes, xattrs: dict[str, bytes]) -> Entry:
    """Return the entry of what stat describes; without its data's map or a link's text."""
    entry = Entry(name, _KINDS[stat.S_IFMT(status.st_mode)])
    entry.mode, entry.uid, entry.gid = stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid
    if os.geteuid() != 0:  # then all files are the caller's, who is root in the container
        entry.uid = entry.gid = 0
    entry.mtime, entry.xattrs = status.st_mtime_ns, xattrs
    if entry.kind == "file":
        entry.size = entry.stored = status.st_size
    elif entry.kind in ("char", "block"):
        entry.device = (os.major(status.st_rdev), os.minor(status.st_rdev))
    return entry


class _Packer:
    def __init__(self, latest: int | None) -> None:
        self._latest = latest
        self._links = HardLinks()

    def content(self, folder: int, path: bytes, depth: int) -> Iterator[bytes]:
        """Yield what is in a directory."""
        if depth > DEPTH_LIMIT:
            raise ImageError(f"/{os.fsdecode(path[:60])}… is nested deeper than {DEPTH_LIMIT} directories")
        for name in sorted(map(os.fsencode, os.listdir(folder))):
            below = path + b"/" + name if path else name
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            kind = stat.S_IFMT(status.st_mode)
            if is_whiteout(status):
                yield whiteout(path, name)
            elif name.startswith(WHITEOUT):
                raise ImageError(f"/{os.fsdecode(below)}: a layer takes a name that begins with .wh. for a whiteout")
            elif kind == stat.S_IFDIR:
                yield from self.directory(folder, name, below, depth)
            elif kind == stat.S_IFREG:
                yield from self.file(folder, name, below)
            elif kind != stat.S_IFSOCK:  # a socket is of use only to the process that made it
                yield self.special(folder, name, below, status)

    def directory(self, folder: int, name: bytes, below: bytes, depth: int) -> Iterator[bytes]:
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            _refuse_borrowed(fd, below)
            yield self.header(entry_of(os.fstat(fd), below, xattrs_of(fd)))
            if is_opaque(fd):
                yield whiteout(below)
            yield from self.content(fd, below, depth + 1)
        finally:
            os.close(fd)

    def file(self, folder: int, name: bytes, below: bytes) -> Iterator[bytes]:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        try:
            status = os.fstat(fd)
            entry = entry_of(status, below, xattrs_of(fd))
            if self._links.join(entry, status):
                yield self.header(entry)
                return
            _refuse_borrowed(fd, below)
            map_holes(entry, fd)
            yield self.header(entry)
            yield from data_of(fd, entry)
        finally:
            os.close(fd)

    def special(self, folder: int, name: bytes, below: bytes, status: os.stat_result) -> bytes:
        """Return the header of a link, a device or a FIFO."""
        entry = entry_of(status, below, xattrs_of(f"/proc/self/fd/{folder}/".encode() + name))
        if not self._links.join(entry, status) and entry.kind == "symlink":
            entry.link = os.readlink(name, dir_fd=folder)
        return self.header(entry)

    def header(self, entry: Entry) -> bytes:
        if self._latest is not None:
            entry.mtime = min(entry.mtime, self._latest)
        return header(entry)


def xattrs_of(target: int | bytes) -> dict[str, bytes]:
    """Return the extended attributes that are the image's, in order of their names: of an open file, or of a path's last."""
    follow = isinstance(target, int)
    try:
        names = sorted(os.listxattr(target, follow_symlinks=follow))
        kept = [name for name in names if not name.startswith(OVERLAY_XATTRS) and name not in LABELS]
        return {name: os.getxattr(target, name, follow_symlinks=follow) for name in kept}
    except OSError as error:
        if error.errno not in (ENOTSUP, ENODATA):
            raise
        return {}


def _refuse_borrowed(fd: int, path: bytes) -> None:
    """Refuse what is not all in this directory (overlayfs.rst, redirect_dir and metacopy; both are off by default)."""
    for name in os.listxattr(fd):
        if name.startswith(OVERLAY_XATTRS) and name.rpartition(".")[2] in BORROWED:
            raise ImageError(
                f"/{os.fsdecode(path)} has its content in a lower layer ({name}): this kernel's overlayfs has redirect_dir or "
                "metacopy on: echo N > /sys/module/overlay/parameters/redirect_dir (and metacopy)"
            )


def _root_differs(fd: int, lower: list[str]) -> bool:
    """Say whether the root directory itself was changed: its time is no change, as every container's upper has its own."""
    mine, status = os.fstat(fd), os.stat(lower[0]) if lower else None
    have = (stat.S_IMODE(mine.st_mode), mine.st_uid, mine.st_gid, xattrs_of(fd))
    if status is None:
        return have != (0o755, 0, 0, {})
    below = os.open(lower[0], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return have != (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, xattrs_of(below))
    finally:
        os.close(below)
