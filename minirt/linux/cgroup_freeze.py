"""Hold a whole group still, let it go on, and reach every process in it.

A frozen process is stopped where it is, in the kernel, and does not know; no signal but SIGKILL moves it. Freezing
takes a moment: cgroup.freeze is the order, `frozen 1` in cgroup.events the fact. What is in the kernel and does not
come back to user space (state D) keeps the fact from coming about, hence the time limit.

Source: Documentation/admin-guide/cgroup-v2.rst, cgroup.freeze (Linux 5.2).
"""

from __future__ import annotations

import errno as errors
import os
import signal as signals

from minirt.errors import KernelError
from minirt.linux import cgroup_files as files
from minirt.linux.cgroup_files import CgroupError
from minirt.linux.process import state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.linux.cgroup_group import Cgroup

__all__ = ["freeze", "signal_all", "thaw"]


def freeze(group: Cgroup, milliseconds: int) -> None:
    """Order every process in a group and below to stand still, and wait until they do.

    Args:
        group: a container's.
        milliseconds: how long they have.

    Raises: CgroupError; the group is thawed again then.
    """
    group.write("cgroup.freeze", "1", "every process in it stops where it is")
    if not group.wait_event("frozen", 1, milliseconds):
        stuck = [pid for pid in group.all_pids() if state(pid) == "D"]
        group.write("cgroup.freeze", "0", "half a freeze is none")
        who = f": in the kernel's hands (state D): {' '.join(map(str, stuck))}" if stuck else ""
        raise CgroupError(f"{group.path}: not frozen within {milliseconds / 1000:g} s{who}")


def thaw(group: Cgroup, milliseconds: int) -> None:
    """Let the processes go on, and wait until the kernel says so. Raises: CgroupError."""
    group.write("cgroup.freeze", "0", "its processes go on")
    if not group.wait_event("frozen", 0, milliseconds):
        raise CgroupError(f"{group.path}: still frozen: a group above it is, or it has no process")


def signal_all(group: Cgroup, signal: int) -> int:
    """Send a signal to all processes in a group and below; none forks away, as they stand still meanwhile.

    A group that cannot be frozen gets the signal too: who could not be stopped is in the kernel and forks nothing.

    Returns: to how many. Raises: KernelError with the kernel's errno, after the others had theirs.
    """
    before = group.read("cgroup.freeze").strip() == "1"
    files.write(os.path.join(group.path, "cgroup.freeze"), "1", "so that none forks away from the signal", group.sink)
    group.wait_event("frozen", 1, 1000)
    sent, failed = 0, 0
    try:
        for pid in group.all_pids():
            errno = _signal(pid, signal)
            sent += not errno
            failed = failed or errno
    finally:
        if not before:
            files.write(os.path.join(group.path, "cgroup.freeze"), "0", "its processes go on", group.sink)
    if failed:
        raise KernelError(failed, f"kill(..., {signals.Signals(signal).name}) in {group.path}: {os.strerror(failed)}")
    return sent


def _signal(pid: int, signal: int) -> int:
    try:
        os.kill(pid, signal)
    except OSError as error:
        return 0 if error.errno == errors.ESRCH else error.errno or errors.EIO
    return 0
