"""A directory with all that is in it, removed: as deep as a container may have made it.

Each directory that is not empty is moved up into the first one before its turn comes, so that there is no recursion,
no long path, and one descriptor (a container can make a tree deeper than any of these allow).
"""

from __future__ import annotations

import os

__all__ = ["remove_tree"]


def remove_tree(path: str) -> None:
    """Remove a directory; what it holds may be anything, and no link is followed.

    Args:
        path: where the directories in it come to lie too, until it goes as the last.

    Raises: OSError; EBUSY where something is mounted in it.
    """
    tag = os.urandom(6).hex()  # an earlier removal may have been killed, and left such names
    waiting, moved = [path], 0
    while waiting:
        here = waiting.pop()
        fd = _open(here)
        try:
            for name, is_directory in _entries(fd):
                if not is_directory:
                    os.unlink(name, dir_fd=fd)
                elif not _removed(name, fd):
                    moved += 1
                    waiting.append(f"{path}/{tag}.{moved}")
                    os.rename(name, waiting[-1], src_dir_fd=fd)
        finally:
            os.close(fd)
        if here != path:
            os.rmdir(here)
    os.rmdir(path)


def _open(path: str) -> int:
    """Open a directory; without root overlayfs leaves one that not even its owner may read."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    if os.geteuid() != 0:
        os.chmod(path, 0o700)
    return os.open(path, flags)


def _entries(fd: int) -> list[tuple[str, bool]]:
    with os.scandir(fd) as entries:
        return [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]


def _removed(name: str, fd: int) -> bool:
    """Remove a directory if it is empty; without root it may have to be made writable first, to be moved."""
    from errno import EEXIST, ENOTEMPTY

    try:
        os.rmdir(name, dir_fd=fd)
        return True
    except OSError as error:
        if error.errno not in (ENOTEMPTY, EEXIST):
            raise
        if os.geteuid() != 0:
            os.chmod(name, 0o700, dir_fd=fd)  # a directory's own ".." changes when it is moved (man 2 rename, EACCES)
        return False
