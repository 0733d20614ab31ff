"""Whose a container is: the minirt that made its directory, or stays with it, holds a lock on that (man 2 flock).

The kernel drops the lock with its holder, also after SIGKILL. So a directory that nobody holds belongs to no minirt:
no process id is compared, no age guessed. What a container's program holds is asked of /proc (`programs`).
"""

from __future__ import annotations

import os

from minirt.image.scratch import Lock

__all__ = ["end", "is_free", "making", "programs", "take", "wait"]


def making(directory: str, *, shared: bool = True) -> Lock:
    """Return the lock that covers making a directory and taking it; who removes others' leavings takes it alone."""
    return Lock(f"{directory}.lock", shared=shared)


def take(path: str) -> int:
    """Take a container's directory. Returns a descriptor that holds it, or -1 where another does or it is gone."""
    import fcntl

    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return -1
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.stat(path), os.fstat(fd)):
            return fd
    except OSError:  # BlockingIOError; or it was renamed before we had it
        pass
    os.close(fd)
    return -1


def is_free(path: str) -> bool:
    """Say whether nobody holds a container's directory."""
    fd = take(path)
    if fd >= 0:
        os.close(fd)
    return fd >= 0


def wait(path: str, seconds: float) -> int:
    """Take a container's directory as soon as its owner lets go. Returns what `take` does."""
    import time

    end = time.monotonic() + seconds
    while (fd := take(path)) < 0 and os.path.isdir(path) and time.monotonic() < end:
        time.sleep(0.01)
    return fd


def programs(id: str) -> list[int]:
    """Return the processes that run in a container's root, the oldest first: their mountinfo names its directory.

    An executor is none of them: with the minirt that it talks to gone it can only end, and is killed here, so that
    it does not become a program meanwhile.
    """
    ours, text = os.readlink("/proc/self/ns/mnt"), id.encode()
    found = []
    for name in os.listdir("/proc"):
        try:
            if not name.isdecimal() or os.readlink(f"/proc/{name}/ns/mnt") == ours:
                continue
            with open(f"/proc/{name}/mountinfo", "rb") as file:
                if text not in file.read():
                    continue
            if not _end_executor(int(name)):
                found.append(int(name))
        except OSError:  # it has ended, or is not ours to look at
            continue
    from minirt.linux.process import start_time

    return sorted(found, key=lambda pid: (start_time(pid), pid))


def end(id: str, pid: int = 0) -> None:
    """Kill the processes that run in a container's root, and wait for their end: a step of a build has no life of its own.

    Args: pid, of its program, where it is known: one that is just ending has no mounts any more to be found by.
    """
    import select
    import signal

    for one in {*programs(id), pid} - {0}:
        try:
            pidfd = os.pidfd_open(one)
        except ProcessLookupError:
            continue
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            select.select([pidfd], [], [], 10)
        except ProcessLookupError:
            pass
        finally:
            os.close(pidfd)


def _end_executor(pid: int) -> bool:
    """Kill a process if it is an executor, and wait for its end; say whether it was one."""
    import select
    import signal

    pidfd = os.pidfd_open(pid)
    try:
        if not os.readlink(f"/proc/{pid}/exe").startswith("/memfd:minirt-executor"):
            return False
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        select.select([pidfd], [], [], 10)
        return True
    finally:
        os.close(pidfd)
