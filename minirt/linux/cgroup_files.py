"""One file of a control group: written in one call, with an error that says what usually is the matter.

Each write is a command to the kernel, so it is one write(2), and its errno belongs to that command alone.

Source: Documentation/admin-guide/cgroup-v2.rst
"""

from __future__ import annotations

import errno as errors
import os

from minirt.errors import MinirtError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.trace import Sink

__all__ = ["NAME", "CgroupError", "DeviceFilterError", "keyed", "put", "read", "rmdir", "tell", "write"]

NAME = "minirt"  # the directory that containers' groups are in, unless a path says where

WHY = {
    "memory.max": "beyond this the kernel takes pages back, and if that is not enough it kills",
    "memory.swap.max": "swap alone: what was asked for less memory.max",
    "memory.low": "protected while other groups can give",
    "cpu.max": "microseconds of processor time, in each period of so many microseconds",
    "cpu.max.burst": "microseconds that may be saved up while it was idle",
    "cpu.idle": "1: only what nobody else wants (SCHED_IDLE for the whole group)",
    "cpu.weight": "its share among siblings when all want to run; 100 is everyone's",
    "cpuset.cpus": "the processors that it may run on",
    "cpuset.mems": "the memory nodes that it may use",
    "pids.max": "fork fails with EAGAIN beyond this number of tasks",
    "io.max": "bytes or requests a second, to or from one device",
    "io.weight": "its share of devices among siblings",
    "io.bfq.weight": "its share of devices among siblings, where the BFQ scheduler serves them",
}


class CgroupError(MinirtError):
    """A limit cannot be set here; the message names the controller, or the file."""


class DeviceFilterError(CgroupError):
    """A rule for devices cannot be understood, or the kernel takes no program."""


def read(directory: str, file: str) -> str:
    """Return what a file of a group says. Raises: OSError, ENOENT where its controller is not handed down."""
    fd = os.open(f"{directory}/{file}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = [os.read(fd, 8192)]
        while parts[-1]:  # seq_file gives what fits into its buffer; the end is a read of nothing
            parts.append(os.read(fd, 8192))
    finally:
        os.close(fd)
    return b"".join(parts).decode()


def keyed(directory: str, file: str) -> dict[str, int]:
    """Return a flat keyed file (memory.events, cpu.stat, pids.events) as numbers by key. Raises: OSError."""
    pairs = (line.split() for line in read(directory, file).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}


def put(directory: str, file: str, text: str, why: str = "", sink: Sink | None = None) -> None:
    """Write one of a group's files. Raises: CgroupError, with what usually is the matter."""
    path = os.path.join(directory, file)
    errno = write(path, text, why or WHY.get(file, ""), sink)
    if errno:
        raise CgroupError(f"write({path}, {text!r}): {os.strerror(errno)}{cause(directory, file, errno)}")


def write(path: str, text: str, why: str, sink: Sink | None) -> int:
    """Write a file of the tree in one call; return 0 or an errno."""
    errno = 0
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    except OSError as error:
        errno = error.errno or errors.EIO
    tell(sink, "write", (path, '"' + text.replace("\n", "\\n") + '"'), errno, len(text), why)
    return errno


def rmdir(path: str, why: str, sink: Sink | None) -> int:
    """Remove a group's directory; return 0 or an errno, EBUSY where someone is in it."""
    try:
        os.rmdir(path)
    except OSError as error:
        return error.errno or errors.EIO
    tell(sink, "rmdir", (path,), 0, 0, why)
    return 0


def tell(sink: Sink | None, call: str, args: tuple[str, ...], errno: int, result: int, why: str) -> None:
    """Give a call of ours to the event stream."""
    if sink is not None:
        from minirt.trace import Event

        sink(Event(call, args, step="cgroup", why=why, result=-1 if errno else result, errno=errno))


def cause(directory: str, file: str, errno: int) -> str:
    """Return, after a colon, what an errno of these writes usually means here."""
    if file.startswith("cpuset.") and errno in (errors.EINVAL, errors.ERANGE, errors.ENOSPC):
        kind = file.partition(".")[2]
        try:
            return f": there are {kind} {read(os.path.dirname(directory), f'cpuset.{kind}.effective').strip()}"
        except OSError:
            return ""
    special = {
        (errors.EBUSY, "cgroup.subtree_control"): "processes are in this group itself: move them to one below it",
        (errors.ENODEV, "io.max"): "no disk has this number (lsblk; a partition has no limit of its own)",
        (errors.EINVAL, "cpu.weight"): "from 1 to 10000, and none where cpu.idle is 1",
        (errors.EINVAL, "cpu.max.burst"): "it cannot be more than the quota in cpu.max",
        (errors.EINVAL, "cpu.max"): "at least 1000 us in at most 1000000, and no less than cpu.max.burst",
    }
    usual = {
        errors.ENOENT: f"this kernel's {file.partition('.')[0]} controller has no such file",
        errors.EACCES: "this part of the tree belongs to someone else",
        errors.EINVAL: "not a value that the kernel takes there",
        errors.ERANGE: "not a value that the kernel takes there",
    }
    text = special.get((errno, file)) or usual.get(errno)
    return f": {text}" if text else ""
