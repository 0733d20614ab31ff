"""A process in a group, for tests that ask the kernel what then is so."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Callable, Iterator

from minirt.linux.cgroup2 import Cgroup


@contextlib.contextmanager
def child(group: Cgroup, work: Callable[[], int | None]) -> Iterator[int]:
    """Fork; the child enters the group, says so, does its work, and exits with what that returns."""
    ready, entered = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 99
        with contextlib.suppress(BaseException):
            group.write("cgroup.procs", "0")
            os.write(entered, b"x")
            status = work() or 0
        os._exit(status)
    pidfd = os.pidfd_open(pid)  # a number could be another's by the time that it is killed
    try:
        assert select.select([ready], [], [], 30)[0] and os.read(ready, 1) == b"x"
        yield pid
    finally:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.waitpid(pid, 0)
        for fd in (ready, entered, pidfd):
            os.close(fd)


def status_of(pid: int) -> int:
    """Return a child's exit status, -N where signal N ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def sleep() -> None:
    """Wait for a signal."""
    while True:
        signal.pause()
