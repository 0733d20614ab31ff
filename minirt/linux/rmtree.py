"""A directory with all that is in it, removed: as deep as a container may have made it.

Each directory that is not empty is moved up into the first one before its turn comes, so that there is no recursion,
no long path, and one descriptor (a container can make a tree deeper than any of these allow).
"""

from __future__ import annotations

import os
from errno import EEXIST, ENOTEMPTY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["remove_tree"]

FULL = (ENOTEMPTY, EEXIST)  # man 2 rmdir: either may be said
ROUNDS = 100  # how often it is begun again for what others put in meanwhile; a program that never stops doing so wins


def remove_tree(path: str) -> None:
    """Remove a directory; what it holds may be anything, and no link is followed.

    Others may put things into it and take things out of it meanwhile.

    Args:
        path: where the directories in it come to lie too, until it goes as the last.

    Raises: OSError; EBUSY where something is mounted in it.
    """
    tag = os.urandom(6).hex()  # an earlier removal may have been killed, and left such names
    names = (f"{path}/{tag}.{number}" for number in range(1 << 62))
    for left in reversed(range(ROUNDS)):
        try:
            _empty(path, names)
            os.rmdir(path)
            return
        except OSError as error:
            if error.errno not in FULL or not left:
                raise


def _empty(path: str, names: Iterator[str]) -> None:
    """Remove what is in a directory. Args: names, new ones in it."""
    waiting = [path]
    while waiting:
        here = waiting.pop()
        fd = _open(here)
        try:
            for name, is_directory in _entries(fd):
                try:
                    if not is_directory:
                        os.unlink(name, dir_fd=fd)
                    elif not _removed(name, fd):
                        there = next(names)
                        os.rename(name, there, src_dir_fd=fd)
                        waiting.append(there)
                except FileNotFoundError:
                    pass  # another took it out
        finally:
            os.close(fd)
        if here != path:
            os.rmdir(here)


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
    try:
        os.rmdir(name, dir_fd=fd)
        return True
    except OSError as error:
        if error.errno not in FULL:
            raise
        if os.geteuid() != 0:
            os.chmod(name, 0o700, dir_fd=fd)  # a directory's own ".." changes when it is moved (man 2 rename, EACCES)
        return False
