"""What two images differ in: their configurations, and their file trees as a container would see them."""

from __future__ import annotations

import os
import stat

from minirt.image.diff import xattrs_of
from minirt.image.view import View

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minirt.image.store import Image
    from minirt.image.view import Found

__all__ = ["differences"]

PIECE = 1 << 20  # bytes compared at a time


def differences(first: Image, second: Image) -> Iterator[tuple[str, str]]:
    """Compare two images. Times are no difference.

    Yields A, C or D (added, changed, deleted), and what: a path, or `config FIELD: from -> to`.
    Raises Damaged, StoreError, OSError.
    """
    yield from _configurations(first, second)
    if first.diff_ids != second.diff_ids:
        yield from _trees(View(first.layers()), View(second.layers()), b"")


def _configurations(first: Image, second: Image) -> Iterator[tuple[str, str]]:
    import json

    before, after = first.config.get("config") or {}, second.config.get("config") or {}
    for field in sorted({*before, *after}):
        old, new = before.get(field), after.get(field)
        if old != new:
            how = "A" if field not in before else "D" if field not in after else "C"
            yield how, f"config {field}: {json.dumps(old)} -> {json.dumps(new)}"


def _trees(before: View, after: View, path: bytes) -> Iterator[tuple[str, str]]:
    old, new = set(before.names(path)), set(after.names(path))
    for name in sorted(old | new):
        below = path + b"/" + name if path else name
        text = "/" + os.fsdecode(below)
        left, right = before.find(below), after.find(below)
        if left is None or right is None:
            yield ("A" if left is None else "D"), text
        elif not _same(left, right):
            yield "C", text
        if left is not None and right is not None and left.kind == right.kind == stat.S_IFDIR:
            if before.directories(below) != after.directories(below):  # else it is one directory of the host's
                yield from _trees(before, after, below)
        elif right is not None and right.kind == stat.S_IFDIR:
            yield from (("A", "/" + os.fsdecode(inner)) for inner, _ in after.walk(below))


def _same(left: Found, right: Found) -> bool:
    a, b = left.status, right.status
    if (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino):
        return True
    if (a.st_mode, a.st_uid, a.st_gid, a.st_rdev) != (b.st_mode, b.st_uid, b.st_gid, b.st_rdev):
        return False
    if xattrs_of(left.path) != xattrs_of(right.path):
        return False
    if left.kind == stat.S_IFLNK:
        return os.readlink(left.path) == os.readlink(right.path)
    return left.kind != stat.S_IFREG or (a.st_size == b.st_size and _same_bytes(left.path, right.path))


def _same_bytes(left: bytes, right: bytes) -> bool:
    with open(left, "rb", buffering=0) as one, open(right, "rb", buffering=0) as other:
        while piece := one.read(PIECE):
            if other.read(PIECE) != piece:
                return False
    return True
