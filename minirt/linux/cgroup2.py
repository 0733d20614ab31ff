"""Control groups, version 2: a directory a group, a file a limit.

    with create("0123abcd", {"memory": {"limit": 64 << 20}}) as group:
        ... clone3 into open(group.path) ...                 # born inside its limits
        group.oom_kills()
    # every process in it is killed, and what was made is removed

A controller belongs to version 1 or to version 2, for the whole machine. On a host where version 1 has
it a limit is an error that names it; a container without limits runs all the same.

Source: Documentation/admin-guide/cgroup-v2.rst; man 7 cgroups.
"""

from __future__ import annotations

import errno as errors
import os

from minirt.linux import cgroup_files as files
from minirt.linux.cgroup_files import CgroupError
from minirt.linux.cgroup_group import Cgroup
from minirt.linux.cgroup_limits import controllers_of, limits, possible
from minirt.linux.cgroup_tree import LAB, Place, controllers, find_mount, find_parent, make, own_group, refuse_missing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from typing import Any

    from minirt.trace import Sink

__all__ = [
    "Cgroup",
    "CgroupError",
    "NoCgroup",
    "controllers",
    "create",
    "find_mount",
    "find_parent",
    "locate",
    "own_group",
]


class NoCgroup:
    """In place of a group where no limit was asked for and none can be made; `reason` says why not."""

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        pass


def locate(id: str, path: str = "") -> Place:
    """Return where `create` would make a container's group: its directory, and what is missing of it.

    Raises: CgroupError where cgroup v2 is not mounted, or the path names no group.
    """
    mount = find_mount()
    if not mount:
        raise CgroupError(f"cgroup: cgroup v2 is not mounted on this host; {LAB}")
    return Place(id, path, mount)


def create(
    id: str,
    resources: Mapping[str, Any],
    sink: Sink | None = None,
    path: str = "",
    *,
    every: bool = False,
    warn: Callable[[str], None] | None = None,
    place: Place | None = None,
    inhabited: bool = False,
) -> Cgroup | NoCgroup:
    """Make a container's group and set its limits.

    Only the controllers that a limit needs are handed down, as each costs every fork and page fault a little;
    with `every` all there are, so that whoever reads the group's files finds them.

    Args:
        id: the directory's name.
        resources: config.json's linux.resources; empty: no limits.
        sink: gets each mkdir and write as an event.
        path: config.json's linux.cgroupsPath (see cgroup_tree.Place).
        every: hand down every controller, where that is possible.
        warn: gets a sentence for each limit that version 2 does not know; without it that is an error.
        place: what `locate` has found for these, where it has been asked already.
        inhabited: the group exists, with who is to make the container's process in it (systemd's scope).

    Returns: a context manager that gives the group, or None where there is none and neither a limit nor a path
        asked for it; at its end nothing is left.
    Raises: CgroupError where a limit or the path cannot be; nothing is left then.
    """
    wanted = limits(resources, warn)
    names = controllers_of(wanted)
    try:
        mount = place.mount if place is not None else find_mount()
        if not mount:
            raise CgroupError(f"{_limit(names)}: cgroup v2 is not mounted on this host; {LAB}")
        have = controllers(mount)
        wanted = possible(wanted, have)
        names = controllers_of(wanted)
        place = place or Place(id, path, mount)
        if names:
            _require(names, place, have)
        group = Cgroup(place.directory, sink, make(place, names, have if every else (), sink))
    except (CgroupError, OSError) as error:
        text = _failure(error, names) if isinstance(error, OSError) else str(error)
        if wanted or path:
            raise CgroupError(text) from None
        return NoCgroup(text)
    _refuse_unfit(group, inhabited)
    try:
        group.apply(wanted)
    except BaseException:
        if not inhabited:
            group.remove()
        raise
    return group


def _require(wanted: Collection[str], place: Place, have: list[str]) -> None:
    """Refuse a limit whose controller is not there: not in version 2's tree, or not in the part that is ours."""
    there = next(path for path in (*reversed(place.steps()), place.mount) if os.path.isdir(path))
    ours = have if os.access(place.mount, os.W_OK) else controllers(there)
    refuse_missing(wanted, have)
    for name in wanted:
        if name not in ours:
            raise CgroupError(f"{name} limit: {there} was delegated without the {name} controller; ask root for it")


def _refuse_unfit(group: Cgroup, inhabited: bool) -> None:
    """Refuse a group that no container can be born into; what was made for it is removed."""
    try:
        if group.path not in group.made and not inhabited:
            _refuse_used(group)
        try:
            kind = group.read("cgroup.type").strip()
        except FileNotFoundError:  # the root of the tree has none
            kind = "domain"
        if kind in ("domain invalid", "threaded"):
            raise CgroupError(f"{group.path}: a group above it is threaded: it holds threads, no processes (cgroup.type)")
    except BaseException:
        for directory in reversed(group.made):
            files.rmdir(directory, "nothing is left of what failed", group.sink)
        raise


def _refuse_used(group: Cgroup) -> None:
    """Refuse a directory that existed and is in use: two containers would share limits, and die together."""
    if pids := group.all_pids():
        raise CgroupError(f"container's cgroup is not empty: {len(pids)} process(es) found in {group.path}")
    if group.is_frozen():
        raise CgroupError(f"container's cgroup unexpectedly frozen: {group.path}")


def _limit(names: list[str]) -> str:
    return f"{names[0]} limit" if names else "cgroup"


def _failure(error: OSError, names: list[str]) -> str:
    where = f"{error.filename}: " if error.filename else ""
    lacks = error.errno in (errors.EACCES, errors.EPERM, errors.EROFS)
    cause = ": making a group needs root, or a part of the tree that was delegated" if lacks else ""
    return f"{_limit(names)}: {where}{error.strerror}{cause}"
