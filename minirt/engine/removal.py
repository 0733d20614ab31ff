"""A container's removal, and the two questions that come before it: does it run, and shall it be started again."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from errno import ENOENT, ENOMEM, ESRCH

from minirt.engine import owner
from minirt.engine.container import Conflict, Container
from minirt.engine.gc import clear
from minirt.linux.cgroup_files import CgroupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["KILLED", "no_more", "remove", "running", "while_running"]

KILLED = 10.0  # seconds that the kernel has for a killed program, and the monitor for what comes after
DYING = 2.0  # seconds from when a process has no namespaces any more until it is a zombie
# What is heard of one that has: of its files in /proc, of setns(2), of clone3(2) in its pid namespace; 0: who joined died with it.
SIGNS = (ENOENT, ESRCH, ENOMEM, 0, None)


def running(container: Container) -> int:
    """Return a pidfd of a container's first process. Raises: Conflict where it does not run."""
    try:
        pidfd = os.pidfd_open(container.state.get("pid") or 0)
    except OSError:
        pidfd = -1
    if pidfd >= 0 and container.running:  # still the same process, now that the pidfd holds it
        return pidfd
    if pidfd >= 0:
        os.close(pidfd)
    raise Conflict(f"container {container.label} is not running")


@contextmanager
def while_running(container: Container) -> Iterator[None]:
    """Do something with a container that runs: its process, its group, its files; where that fails as it has ended, say that.

    Raises: Conflict.
    """
    try:
        yield
    except (OSError, CgroupError) as error:
        if _ends(container, DYING if isinstance(error, OSError) and error.errno in SIGNS else 0.0):
            raise Conflict(f"container {container.label} is not running") from None
        raise


def _ends(container: Container, seconds: float) -> bool:
    """Say whether a container's first process has ended, or will in so many seconds."""
    import select

    try:
        pidfd = running(container)
    except Conflict:
        return True
    try:
        return bool(select.select([pidfd], [], [], seconds)[0])
    finally:
        os.close(pidfd)


def no_more(container: Container) -> None:
    """Say that a container's end is wanted: --restart does not start it again."""
    try:
        with open(f"{container.path}/stop", "w", encoding="ascii"):
            pass
    except FileNotFoundError:
        pass  # it is gone


def refuse_busy(container: Container) -> None:
    """Refuse a container that runs, or waits to be started again. Raises: Conflict."""
    waits = container.state["status"] == "restarting"
    if container.running or waits:
        what = "waits to be started again" if waits else "is running"
        raise Conflict(f"container {container.label} {what}: end it, or minirt rm -f {container.label}")


def take_over(container: Container) -> int:
    """Take a container's directory when its owner lets go of it, which is a moment for one that does not run.

    Returns: what `owner.take` does; -1 at once when it is seen to run. Its state is read anew in any case but the first.
    """
    import time

    end = time.monotonic() + KILLED
    while (fd := owner.take(container.path)) < 0 and os.path.isdir(container.path) and time.monotonic() < end:
        container.state = (Container.load(container.id) or container).state
        if container.running:
            return -1
        time.sleep(0.01)
    return fd


def kill(container: Container) -> None:
    """Kill a container's first process, if it runs, and wait for its end."""
    import select

    try:
        pidfd = running(container)
    except Conflict:
        return
    try:
        container.tell("kill", signal=str(int(signal.SIGKILL)))
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        select.select([pidfd], [], [], KILLED)
    except ProcessLookupError:
        pass
    finally:
        os.close(pidfd)


def remove(container: Container, force: bool = False, volumes: bool = False) -> None:
    """Remove a container with what it changed. Raises: Conflict where it runs, or another minirt is with it.

    Args:
        container: one that is gone already is no error.
        force: kill it first, if it runs; also if it is just being started (again).
        volumes: remove those that were made for it alone, too.
    """
    import time

    end = time.monotonic() + 2 * KILLED
    while True:
        if force:
            no_more(container)  # each time: a start takes that back
            kill(container)
        else:
            refuse_busy(container)
        fd = take_over(container)  # the minirt that stays with it sees its end, and lets go
        if not (force and fd < 0 and container.running and time.monotonic() < end):
            break
    if fd < 0:
        if os.path.isdir(container.path):
            refuse_busy(Container.load(container.id) or container)
            raise Conflict(f"container {container.label} is another minirt's, which is making it or seeing to its end: try again")
        return  # it was run with --rm
    try:
        clear(container.id, volumes=volumes)
    finally:
        os.close(fd)
