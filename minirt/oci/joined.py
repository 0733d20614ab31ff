"""What a process does that has joined a container (join.py), up to its program."""

from __future__ import annotations

from minirt.linux import constants as k
from minirt.oci import devices, namespaces, process
from minirt.oci.join import run_on
from minirt.oci.step import Context, step
from minirt.oci.targets import HOW_SIZE, how
from minirt.plan import Plan, Slot

__all__ = ["ORDER", "affinity", "working_directory"]


@step("affinity", why="say which processors this process may run on")
def affinity(p: Plan, c: Context) -> None:
    """runtime-spec config.md#linux-process, execCPUAffinity.final: once it is in the container's cgroup."""
    run_on(p, c, "final")


@step("workdir", why="stand in the directory that the program expects")
def working_directory(p: Plan, c: Context) -> None:
    """By a descriptor whose path has no magic link: /proc/self/fd/7 could be a directory of the host's (CVE-2024-21626)."""
    path = c.process.get("cwd") or "/"
    fd = Slot(path)
    p.openat2(k.AT_FDCWD, path, how(k.O_PATH | k.O_DIRECTORY), HOW_SIZE, store=fd)
    p.fchdir(fd)
    p.close(fd)


ORDER = (
    affinity,
    namespaces.session,
    devices.null_descriptors,
    working_directory,
    process.resolve,
    devices.console,
    *process.GIVING_UP,
)
