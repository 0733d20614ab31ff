"""Archives for the tests of images, and what a directory holds, as data to compare."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from pathlib import Path
from typing import Any

from minirt.image.compression import FdReader


def member(name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    """One entry for `archive`; fields are TarInfo's (mode, mtime, linkname, pax_headers ...)."""
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mode = kind, len(data), 0o755 if kind == tarfile.DIRTYPE else 0o644
    for field, value in {"uid": os.geteuid(), "gid": os.getegid(), **fields}.items():
        setattr(info, field, value)
    return info, data


def folder(name: str, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, tarfile.DIRTYPE, **fields)


def symlink(name: str, target: str, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, tarfile.SYMTYPE, linkname=target, **fields)


def hardlink(name: str, target: str, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, tarfile.LNKTYPE, linkname=target, **fields)


def archive(*members: tuple[tarfile.TarInfo, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:
    """Return a tar."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=format) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def reader(data: bytes) -> FdReader:
    """A reader of bytes that gives odd pieces, as a pipe may."""

    class Pieces:
        rest = data

        def read(self, size: int, /) -> bytes:
            piece, self.rest = self.rest[: min(size, 10007)], self.rest[min(size, 10007) :]
            return piece

    return Pieces()  # type: ignore[return-value]


def snapshot(root: Path) -> dict[str, tuple[Any, ...]]:
    """Return all that stat, readlink and getxattr say of a directory and what is in it."""
    found: dict[str, tuple[Any, ...]] = {}
    for above, folders, files in os.walk(root):
        for name in ["", *folders, *files] if above == str(root) else [*folders, *files]:
            path = os.path.join(above, name) if name else above
            status = os.lstat(path)
            kind = stat.S_IFMT(status.st_mode)
            content: Any = None
            if kind == stat.S_IFREG:
                content = Path(path).read_bytes()
            elif kind == stat.S_IFLNK:
                content = os.readlink(path)
            elif kind in (stat.S_IFCHR, stat.S_IFBLK):
                content = (os.major(status.st_rdev), os.minor(status.st_rdev))
            xattrs = {x: os.getxattr(path, x, follow_symlinks=False) for x in os.listxattr(path, follow_symlinks=False)}
            key = os.path.relpath(path, root)
            found[key] = (
                oct(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns, content,
                status.st_nlink if kind != stat.S_IFDIR else 0, tuple(sorted(xattrs.items())),
            )  # fmt: skip
    return found
