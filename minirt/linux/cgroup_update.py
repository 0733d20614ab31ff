"""Change the limits of a container that lives: all that was asked for, or nothing.

Three fields of linux.resources mean something only together with another, which need not be among what changes:
swap is given with memory in it, a quota is per period, and a burst is bounded by the quota. What is not given is read
from the group.

Sources: runc's update command (man 8 runc-update); Documentation/admin-guide/cgroup-v2.rst
"""

from __future__ import annotations

import os

from minirt.linux import cgroup_files as files
from minirt.linux.cgroup_files import CgroupError
from minirt.linux.cgroup_limits import controllers_of, limits, possible
from minirt.linux.cgroup_tree import controllers, find_mount, hand_down, refuse_missing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from minirt.linux.cgroup_group import Cgroup
    from minirt.linux.cgroup_limits import File

__all__ = ["update"]


def update(group: Cgroup, resources: Mapping[str, Any], warn: Callable[[str], None] | None = None) -> None:
    """Set what linux.resources names, and leave the rest as it is.

    Args:
        group: a live container's.
        resources: only what is to change. Zero and null are "not given", -1 "no limit".
        warn: gets a sentence for each limit that version 2 does not know; without it that is an error.

    Raises: CgroupError. What was written before the failure has its former value again.
    """
    check_usage(group, resources.get("memory") or {})
    wanted = limits(complete(group, resources), warn)
    wanted = _require(group, wanted)
    undo: list[File] = []
    try:
        for file, text in _burst_first(group, wanted):
            before = _former(group, file, text)
            group.set(file, text)
            undo += before
    except CgroupError as error:
        lost = [file for file, text in reversed(undo) if _restore(group, file, text)]
        more = f"; and {' '.join(lost)} cannot be set back" if lost else ""
        raise CgroupError(f"{error}{more}") from None


def check_usage(group: Cgroup, memory: Mapping[str, Any]) -> None:
    """Refuse a limit below what is in use, where memory.checkBeforeUpdate asks for it: the kernel would kill.

    Raises: CgroupError. Usage that cannot be read refuses nothing (runtime-spec config-linux.md#memory).
    """
    if not memory.get("checkBeforeUpdate"):
        return
    try:
        usage = int(group.read("memory.current"))
    except OSError:
        return
    for key, name in (("swap", "memory+swap"), ("limit", "memory")):
        if 0 < (memory.get(key) or 0) <= usage:
            raise CgroupError(f"rejecting {name} limit {memory[key]} <= usage {usage}")


def complete(group: Cgroup, resources: Mapping[str, Any]) -> dict[str, Any]:
    """Return linux.resources with what its fields need and does not change, read from the group."""
    result = dict(resources)
    memory, cpu, pids = (dict(resources.get(key) or {}) for key in ("memory", "cpu", "pids"))
    if (memory.get("swap") or 0) > 0 and not memory.get("limit"):
        memory["limit"] = _limit(group, "memory.max")
    if bool(cpu.get("quota")) != bool(cpu.get("period")):
        quota, period = _pair(group)
        cpu["quota"], cpu["period"] = cpu.get("quota") or quota, cpu.get("period") or period
    if not pids.get("limit"):
        pids = {}  # update's zero is "not given"
    return {**result, "memory": memory, "cpu": cpu, "pids": pids}


def _limit(group: Cgroup, file: str) -> int:
    """Return a limit in force; -1 where there is none."""
    try:
        text = group.read(file).strip()
    except OSError:
        return -1
    return -1 if text == "max" else int(text)


def _pair(group: Cgroup) -> tuple[int, int]:
    """Return quota and period in force, us."""
    try:
        quota, period = group.read("cpu.max").split()
    except OSError:
        return -1, 0
    return (-1 if quota == "max" else int(quota)), int(period)


def _require(group: Cgroup, wanted: list[File]) -> list[File]:
    """Hand down the controllers that a new limit needs and the group has not; drop "no limit" where none can be."""
    mount = find_mount()
    have = controllers(mount)
    wanted = possible(wanted, have)
    ours = controllers(group.path)
    lacking = [name for name in controllers_of(wanted) if name not in ours]
    refuse_missing(lacking, have)
    if lacking:
        above = os.path.dirname(group.path)
        steps = [above]
        while above != mount and above != "/":
            above = os.path.dirname(above)
            steps.append(above)
        for directory in reversed(steps):
            if not all(name in controllers(group.path) for name in lacking):
                hand_down(directory, lacking, (), group.sink)
    return wanted


def _burst_first(group: Cgroup, wanted: list[File]) -> list[File]:
    """Lower a burst before the quota, as the quota may not go below it; raise it after."""
    names = [file for file, _ in wanted]
    if "cpu.max" in names and "cpu.max.burst" in names:
        quota, burst = names.index("cpu.max"), names.index("cpu.max.burst")
        if int(wanted[burst][1]) < _limit(group, "cpu.max.burst"):
            wanted = list(wanted)
            wanted.insert(quota, wanted.pop(burst))
    return wanted


def _former(group: Cgroup, file: str, text: str) -> list[File]:
    """Return the writes that set a file back to what it says now: a device's line, or everything."""
    if file == "io.bfq.weight" and not os.path.exists(os.path.join(group.path, file)):
        file = "io.weight"
    try:
        lines = group.read(file).splitlines()
    except (OSError, UnicodeDecodeError):
        return []  # not there, or can only be written
    word, more, _ = text.partition(" ")
    if more and file.startswith(("io.", "rdma.", "misc.", "dmem.")):  # keyed by device
        mine = [line for line in lines if line.split(" ")[0] == word]
        return [(file, mine[0] if mine else f"{word} {_unset(file)}")]
    return [(file, lines[0] if lines else "\n")]  # an empty list of processors is written as an empty line


def _unset(file: str) -> str:
    """Return what a device without a line of its own has."""
    return {
        "io.max": "rbps=max wbps=max riops=max wiops=max",
        "rdma.max": "hca_handle=max hca_object=max",
    }.get(file, "default" if file.endswith("weight") else "max")


def _restore(group: Cgroup, file: str, text: str) -> int:
    return files.write(os.path.join(group.path, file), text, "what it was before", group.sink)
