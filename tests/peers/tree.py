"""What a directory holds, with all that stat, readlink and getxattr say: as a program, for a directory mounted elsewhere."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
from typing import Any

__all__ = ["describe", "walk"]


def describe(path: str) -> dict[str, Any]:
    """Return all of one file; a directory's number of names and size are the file system's own matter."""
    status = os.lstat(path)
    kind = stat.S_IFMT(status.st_mode)
    content: Any = None
    if kind == stat.S_IFREG:
        with open(path, "rb") as file:
            content = hashlib.sha256(file.read()).hexdigest()
    elif kind == stat.S_IFLNK:
        content = os.readlink(path)
    elif kind in (stat.S_IFCHR, stat.S_IFBLK):
        content = [os.major(status.st_rdev), os.minor(status.st_rdev)]
    xattrs = {name: os.getxattr(path, name, follow_symlinks=False).hex() for name in os.listxattr(path, follow_symlinks=False)
              if ".overlay." not in name and name != "security.selinux"}  # fmt: skip
    return {
        "mode": oct(status.st_mode), "owner": [status.st_uid, status.st_gid], "mtime": status.st_mtime_ns, "content": content,
        "names": status.st_nlink if kind == stat.S_IFREG else 0, "xattrs": xattrs,
    }  # fmt: skip


def walk(root: str) -> dict[str, Any]:
    """Return all below a directory, by path."""
    found = {}
    for above, folders, files in os.walk(root):
        for name in [*folders, *files]:
            path = os.path.join(above, name)
            found[os.path.relpath(path, root)] = describe(path)
    return found


if __name__ == "__main__":
    json.dump(walk(sys.argv[1]), sys.stdout)
