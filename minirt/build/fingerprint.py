"""What files are, as a digest: content, names, modes, owners, links; not when they were changed.

A step that copies them is the same step as long as this is the same: a fresh checkout builds nothing again.
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.build.context import Tree
    from minirt.image.view import Found

__all__ = ["of_file", "of_tree", "of_value"]

PIECE = 1 << 18


def of_value(value: object) -> str:
    """Return a digest of a value that JSON can say."""
    import json

    from minirt.image import digest

    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return digest.of(text.encode("utf-8", "surrogateescape")).partition(":")[2]


def of_file(path: bytes) -> str:
    """Return a digest of a file's content. Raises OSError."""
    import hashlib

    made = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(PIECE):
            made.update(piece)
    return made.hexdigest()


def of_tree(tree: Tree, path: bytes, found: Found) -> str:
    """Return a digest of a file, or of a directory with all below it that is not left out. Raises OSError."""
    rows = [_row(tree, b"", found)]
    if found.kind == stat.S_IFDIR:
        rows += [_row(tree, name, one) for name, one in tree.walk(path)]
    return of_value(rows)


def _row(tree: Tree, name: bytes, found: Found) -> list[object]:
    from minirt.image.diff import xattrs_of

    status, content = found.status, ""
    if found.kind == stat.S_IFREG:
        content = of_file(found.path)
    elif found.kind == stat.S_IFLNK:
        content = os.fsdecode(os.readlink(found.path))
    elif found.kind in (stat.S_IFCHR, stat.S_IFBLK):
        content = str(status.st_rdev)
    owner = [status.st_uid, status.st_gid] if tree.keeps_owners else []
    xattrs = {key: value.hex() for key, value in xattrs_of(found.path).items()}
    return [os.fsdecode(name), status.st_mode, owner, content, xattrs]
