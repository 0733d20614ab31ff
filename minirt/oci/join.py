"""A second process in a container that runs: its plan enters the namespaces of the first (runc's exec).

The container is not trusted here. It sees the new process as soon as that is in its pid namespace, so nothing of the
host may be reached through it: no descriptor, no memory, no working directory.
"""

from __future__ import annotations

import os

from minirt.linux import constants as k
from minirt.oci import namespaces
from minirt.oci.begin import declare
from minirt.oci.step import Context, namespace_types, step
from minirt.plan import Plan, Slot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Set

__all__ = ["EXECUTOR", "begin_join", "finish_join", "namespace_flags"]


def namespace_flags(pid: int, new: Set[str] = frozenset()) -> int:
    """Return CLONE_NEW* of each namespace of a process that is not ours as well (man 7 namespaces).

    Args:
        pid: the process.
        new: types that were made for it, so that it need not be asked. But it may never be its own user namespace that a
            process enters (EINVAL).
    """
    files = {"mount": "mnt", "network": "net"}
    flags = 0
    for kind, constant in namespaces.TYPES.items():
        file = files.get(kind, kind)
        made = kind in new and kind != "user"
        if made or os.readlink(f"/proc/{pid}/ns/{file}") != os.readlink(f"/proc/self/ns/{file}"):
            flags |= getattr(k, constant)
    return flags


@step("join", why="enter the container's namespaces, all at once")
def join(p: Plan, c: Context) -> None:
    """setns(2) with a pidfd takes them all, the user namespace first; the pid namespace is for children, so a clone3.

    All but the cgroup namespace, which the child enters: from inside it nobody may be moved in from a group outside
    (cgroup2's mount option nsdelegate: ENOENT, and so for CLONE_INTO_CGROUP).
    """
    fd = Slot("container")
    flags = namespace_flags(c.join, namespace_types(c.config))
    p.pidfd_open(c.join, 0, store=fd, why="the container's first process; minirt has made sure that it is that")
    p.prctl(k.PR_SET_DUMPABLE, 0, why="no process of the container may trace this one, or look into it (man 2 ptrace)")
    later = flags & k.CLONE_NEWCGROUP
    if flags != later:
        p.setns(fd, flags & ~later, why="the same namespaces as that process's (man 2 setns)")
    p.clone3(k.CLONE_PARENT, c.slots.get("cgroup"), why="in the pid namespace, and in the cgroup")
    if later:
        p.setns(fd, later, why="its cgroup's root is seen as / from here on; before, it could not have been entered")
    p.close(fd)
    if flags & k.CLONE_NEWUSER:
        p.setresgid(0, 0, 0, why="group 0 of that user namespace")
        p.setresuid(0, 0, 0, why="and user 0")


def initial_affinity(p: Plan, c: Context) -> None:
    """Append execCPUAffinity.initial: before the cgroup is entered, so that no other processor runs it meanwhile."""
    p.step("initial_affinity", why="run on these processors from the beginning")
    run_on(p, c, "initial")


def run_on(p: Plan, c: Context, which: str) -> None:
    """Append the call, if execCPUAffinity says so."""
    processors = (c.process.get("execCPUAffinity") or {}).get(which) or ""
    if processors.strip():
        from minirt.oci.scheduling import mask_of

        mask = mask_of(processors)
        p.sched_setaffinity(0, len(mask), mask, why=f"processors {processors}")


EXECUTOR = (
    declare,
    namespaces.signals,
    namespaces.oom,
    initial_affinity,
    namespaces.cgroup,
    join,
)


def begin_join(context: Context, preserve_fds: int = 0) -> Plan:
    """Return the executor's part of the plan of a process that joins a container; `finish_join` appends the rest.

    Args:
        context: with `join`; its config's process is the one to run.
        preserve_fds: how many descriptors from 3 on the program gets.

    Raises: MinirtError for what the configuration cannot mean.
    """
    return Plan(preserve_fds).extend(EXECUTOR, context).await_rest()


def finish_join(plan: Plan, context: Context) -> None:
    """Append what the child does."""
    from minirt.oci.joined import ORDER

    plan.extend(ORDER, context)
