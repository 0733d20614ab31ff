"""Copy the content of one directory into another by descriptor: what tmpcopyup does for a tmpfs."""

from __future__ import annotations

import os
import stat
from errno import ENODATA, ENOTSUP

from minirt.linux.files import open_regular

__all__ = ["copy_tree"]


def copy_tree(source: int, target: int) -> None:
    """Copy all that is in a directory, with owners, modes, times and extended attributes; no link is followed.

    Simplified: a file with several names becomes several files, and sockets are left out.

    Args:
        source, target: int fds of directories, opened for reading.

    Raises: OSError.
    """
    for name in os.listdir(source):
        found = os.stat(name, dir_fd=source, follow_symlinks=False)
        kind = stat.S_IFMT(found.st_mode)
        if kind == stat.S_IFLNK:
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
            os.chown(name, found.st_uid, found.st_gid, dir_fd=target, follow_symlinks=False)
        elif kind in (stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO):
            os.mknod(name, found.st_mode, found.st_rdev, dir_fd=target)
            os.chown(name, found.st_uid, found.st_gid, dir_fd=target, follow_symlinks=False)
            os.chmod(name, stat.S_IMODE(found.st_mode), dir_fd=target)
        elif kind == stat.S_IFDIR:
            os.mkdir(name, 0o700, dir_fd=target)
            _copy(name, source, target, True)
        elif kind == stat.S_IFREG:
            _copy(name, source, target, False)


def _copy(name: str, source: int, target: int, directory: bool) -> None:
    """Copy one file or directory by name, if it is still what it was."""
    common = os.O_NOFOLLOW | os.O_CLOEXEC
    old = os.open(name, (os.O_RDONLY | os.O_DIRECTORY if directory else os.O_PATH) | common, dir_fd=source)
    try:
        if directory:
            new = os.open(name, os.O_RDONLY | os.O_DIRECTORY | common, dir_fd=target)
        else:
            looked_at, old = old, open_regular(old)
            os.close(looked_at)
            new = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | common, 0o600, dir_fd=target)
        try:
            if directory:
                copy_tree(old, new)
            else:
                while os.sendfile(new, old, None, 1 << 24):
                    pass
            copy_metadata(old, new)
        finally:
            os.close(new)
    finally:
        os.close(old)


def copy_metadata(old: int, new: int) -> None:
    """Give an open file the owner, mode, extended attributes and times of another."""
    found = os.fstat(old)
    os.fchown(new, found.st_uid, found.st_gid)
    os.fchmod(new, stat.S_IMODE(found.st_mode))
    try:
        for key in os.listxattr(old):
            os.setxattr(new, key, os.getxattr(old, key))
    except OSError as error:
        if error.errno not in (ENOTSUP, ENODATA):  # a tmpfs takes user.* attributes from Linux 6.6 on
            raise
    os.utime(new, ns=(found.st_atime_ns, found.st_mtime_ns))
