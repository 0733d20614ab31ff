"""How much of the console's output the loop in C may write without asking."""

from __future__ import annotations

import os
import stat

__all__ = ["burst"]

FILE, PIPE = 1 << 20, 64


def burst(fd: int) -> int:
    """Return how many bytes surely fit into a file where poll(2) has just said that there is room.

    A regular file and /dev/null are never full. A pipe has room for PIPE_BUF bytes, which is 4096 (man 7 pipe); others may
    write to it too, so only a few are counted on. Of a terminal or a socket it is not known: 0.
    """
    try:
        status, null = os.fstat(fd), os.stat(os.devnull)
    except OSError:
        return 0
    if stat.S_ISREG(status.st_mode) or os.path.samestat(status, null):
        return FILE
    return PIPE if stat.S_ISFIFO(status.st_mode) else 0
