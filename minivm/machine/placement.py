"""Where on the host a machine runs: which processors may run each of its own, and in which control group it is."""

from __future__ import annotations

import os

from minivm.errors import KvmError

__all__ = ["check", "join_cgroup", "pin"]

ROOT = "/sys/fs/cgroup"


def join_cgroup(group: str) -> None:
    """Move this process, with all its threads, into a control group that is there.

    Args:
        group: its directory; a relative path begins at /sys/fs/cgroup.

    Raises KvmError. man 7 cgroups; 0 in cgroup.procs is the writer.
    """
    path = os.path.join(ROOT, group, "cgroup.procs")
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError as error:
        cause = "there is no such control group: make it (mkdir), with the limits that the machine is to have"
        raise KvmError("openat", error.errno or 0, repr(path), cause if error.errno in (2, 20) else "") from None
    try:
        os.write(fd, b"0")
    except OSError as error:
        raise KvmError("write", error.errno or 0, f"{path!r}, \"0\"", "this group takes no processes from here") from None
    finally:
        os.close(fd)


def pin(cpus: set[int]) -> None:
    """Let the calling thread run on these processors of the host only. Raises KvmError. man 2 sched_setaffinity."""
    try:
        os.sched_setaffinity(0, cpus)
    except OSError as error:
        there = ",".join(map(str, sorted(os.sched_getaffinity(0))))
        shown = ",".join(map(str, sorted(cpus)))
        raise KvmError("sched_setaffinity", error.errno or 0, shown, f"this process may use processors {there}") from None


def check(cpus: set[int]) -> None:
    """Raise KvmError where no thread of this process may run on these processors; the calling one runs where it did before."""
    before = os.sched_getaffinity(0)
    pin(cpus)
    os.sched_setaffinity(0, before)
