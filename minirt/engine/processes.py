"""A container's processes, as ps(1) lists them."""

from __future__ import annotations

import os

from minirt.engine.removal import running

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.engine.container import Container

__all__ = ["pids_of", "processes"]


def pids_of(container: Container) -> set[int]:
    """Return the host's numbers of a container's processes. Raises: Conflict where it does not run."""
    os.close(running(container))
    group = container.cgroup
    return set(group.all_pids()) if group is not None else {container.state["pid"]}


def processes(container: Container, words: list[str]) -> tuple[list[str], list[list[str]]]:
    """Return ps's titles, and a row for each process. Args: words, options of ps. Raises: Conflict, RuntimeFailure."""
    from minirt.runtime.listing import ps_lines

    titles, *lines = ps_lines(pids_of(container), words)
    names = titles.split()
    return names, [line.split(None, len(names) - 1) for line in lines]
