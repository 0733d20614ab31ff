"""Archives that are contexts, or that ADD finds: unpacked as the image's layers are, safely, then copied.

An archive is told by its content, never by its name (docs.docker.com/reference/dockerfile, "ADD").
"""

from __future__ import annotations

import os
import stat

from minirt.build.errors import BuildError
from minirt.image.errors import BadArchive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.build.changes import Changes
    from minirt.build.copying import How
    from minirt.image.compression import Reader

__all__ = ["is_archive", "open_tar", "put_archive", "unpack_archive"]

MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz"}


class _File:
    """A file object of the standard library as a reader."""

    def __init__(self, file: object) -> None:
        self._file = file

    def read(self, size: int, /) -> bytes:
        try:
            return bytes(self._file.read(size))  # type: ignore[attr-defined]
        except (OSError, EOFError, ValueError) as error:
            raise BadArchive(f"its compressed data is damaged ({error})") from None


def open_tar(path: bytes) -> Reader:
    """Return a reader of the tar in a file, whatever it is compressed with. Raises OSError."""
    with open(path, "rb") as file:
        first = file.read(6)
    kind = next((kind for magic, kind in MAGIC.items() if first.startswith(magic)), "")
    if kind == "bzip2":
        import bz2

        return _File(bz2.open(path))
    if kind == "xz":
        import lzma

        return _File(lzma.open(path))
    from minirt.image.compression import decompressed

    return decompressed(kind, _File(open(path, "rb")))


def is_archive(path: bytes) -> bool:
    """Say whether a file is a tar: its first block has the right sum. Raises OSError."""
    import tarfile

    try:
        block, reader = b"", open_tar(path)
        while len(block) < 512 and (piece := reader.read(512 - len(block))):
            block += piece
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        return True
    except (BadArchive, tarfile.HeaderError, EOFError):
        return False


def unpack_archive(path: bytes, place: str) -> dict[bytes, str]:
    """Unpack an archive into an empty directory.

    Returns what its entries are, by canonical path (a directory may be only implied). Raises BuildError, OSError.
    """
    from minirt.image.attributes import Privilege
    from minirt.image.compression import Bounded
    from minirt.image.layer import Limits, unpack
    from minirt.image.tar import Archive

    name = os.fsdecode(path.rpartition(b"/")[2])
    try:
        named = {b"/".join(part for part in entry.name.split(b"/") if part not in (b"", b".")): entry.kind
                 for entry in Archive(Bounded(open_tar(path), Limits().size))}  # fmt: skip
        if any(part.startswith(b".wh.") for one in named for part in one.split(b"/")):
            raise BuildError(f"{name}: it has a name that begins with .wh., which a layer takes for a whiteout")
        unpack(open_tar(path), place, privilege=Privilege())
    except BadArchive as error:
        raise BuildError(f"{name}: {error}") from None
    return named


def put_archive(changes: Changes, path: bytes, top: bytes, how: How) -> None:
    """Put an archive's content below a directory.

    Args: changes, the layer; path, the archive's on the host; top, without links. Raises BuildError, ImageError, OSError.
    """
    from minirt.image.view import View

    assert changes.scratch is not None
    place = changes.scratch()
    named = unpack_archive(path, place)
    for inner, found in View([place]).walk(b""):
        target = top + b"/" + inner if top else inner
        if found.kind == stat.S_IFDIR and inner not in named:
            target = changes.resolve(target)  # only implied: it may be a link to a directory in the image
            if not changes.is_directory(target):
                changes.make_directories(target)
            continue
        above = changes.resolve(target.rpartition(b"/")[0])
        last = target.rpartition(b"/")[2]
        changes.put(above + b"/" + last if above else last, found, how.owner, how.mode_of(found.status.st_mode), force=True)
