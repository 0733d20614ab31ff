"""A process as /proc/PID/stat tells of it: what it is doing, and when it began (man 5 proc_pid_stat).

A pid alone names no process, as pids are used again; with the moment when it began it does.
"""

from __future__ import annotations

import os

__all__ = ["ENDED", "look", "start_time", "state"]

ENDED = -1  # in place of the moment when a process began


def look(path: str) -> bytes:
    """Return what a small file of the kernel's says, in one read: each call of a command asks several. Raises: OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 4096)
    finally:
        os.close(fd)


def start_time(pid: int) -> int:
    """Return when a live process began, in clock ticks since boot; ENDED where it is gone, or a zombie that waits to be reaped."""
    fields = _fields(pid)
    return ENDED if not fields or fields[0] in (b"Z", b"X") else int(fields[19])


def state(pid: int) -> str:
    """Return a process's state letter; empty where it is gone."""
    fields = _fields(pid)
    return fields[0].decode() if fields else ""


def _fields(pid: int) -> list[bytes]:
    """Return the fields behind the program's name, which may hold spaces and parentheses; none where there is no such process."""
    try:
        return look(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
