"""Opening the host's file that is a guest's disk."""

from __future__ import annotations

import os

from minivm.errors import KvmError

__all__ = ["lock_disk", "open_disk"]


def open_disk(path: str, read_only: bool) -> int:
    """Open a file or a block device.

    Returns its descriptor, the caller's to close. Raises KvmError. man 2 open.
    """
    flags = os.O_RDONLY if read_only else os.O_RDWR
    try:
        return os.open(path, flags | os.O_CLOEXEC)
    except OSError as error:
        cause = "" if read_only else "to use a disk that may not be written to, say --disk FILE,ro"
        raise KvmError("openat", error.errno or 0, repr(path), cause if os.path.exists(path) else "no such disk") from None


def lock_disk(fd: int, shared: bool) -> None:
    """Take the file's lock, which goes with the descriptor. Raises KvmError. man 2 flock.

    Args:
        shared: for reading only, which several may.
    """
    import fcntl

    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        raise KvmError("flock", error.errno or 0, f"fd={fd}", "another machine uses this disk") from None
