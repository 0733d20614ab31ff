"""update: a container's limits and restart policy are changed, now if it runs, and for each start from now on."""

from __future__ import annotations

import json

from minirt.engine.asked import changing, load_options
from minirt.engine.container import Conflict, Container, ContainerError
from minirt.engine.options import RunOptions
from minirt.engine.removal import while_running
from minirt.engine.restarts import restart_policy
from minirt.engine.spec import resources
from minirt.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["LIMITS", "update"]

LIMITS = (
    "memory", "memory_swap", "memory_reservation", "cpus", "cpu_weight", "cpu_shares", "cpu_quota", "cpu_period", "cpuset_cpus",
    "cpuset_mems", "pids_limit", "io_weight", "io_max",
)  # fmt: skip


def update(container: Container, changes: dict[str, Any]) -> None:
    """Change a container's limits and its restart policy.

    Args:
        container: of one that runs the cgroup is changed too.
        changes: the names of LIMITS, and `restart`; as RunOptions has them. What is not named stays.

    Raises: UsageError, Conflict, CgroupError; nothing is changed then.
    """
    policy = changes.get("restart")
    if policy is not None:
        restart_policy(policy)
        if container.state["rm"] and policy != "no":
            raise Conflict(f"--restart {policy}: container {container.label} is removed at its end (--rm)")
    with changing(container):
        try:
            before, kept = load_options(container), True
        except ContainerError:  # run in the foreground: there is no next start
            before, kept = RunOptions(container.state["image"], container.state["command"]), False
        after = RunOptions(before.image, before.command, **{**rest(before), **without_contraries(changes)})
        set_limits(container, resources(before), resources(after))
        if kept:
            container.write("options.json", json.dumps(vars(after)))
        container.save([("update", {})], **({} if policy is None else {"restart": policy}))


def rest(options: RunOptions) -> dict[str, Any]:
    """Return the attributes that RunOptions takes by name."""
    return {name: value for name, value in vars(options).items() if name not in ("image", "command")}


def without_contraries(changes: dict[str, Any]) -> dict[str, Any]:
    """Return changes, and that what says the same in another way is no longer said (--cpus and --cpu-quota)."""
    if changes.get("cpus") and (changes.get("cpu_quota") or changes.get("cpu_period")):
        raise UsageError("--cpus and --cpu-quota or --cpu-period say the same: give one of them")
    if changes.get("cpus"):
        return {**changes, "cpu_quota": None, "cpu_period": None}
    if changes.get("cpu_quota") or changes.get("cpu_period"):
        return {**changes, "cpus": ""}
    return changes


def set_limits(container: Container, before: dict[str, Any], after: dict[str, Any]) -> None:
    """Change the cgroup of a container that runs: linux.resources as it was, and as it is to be. Raises: CgroupError, Conflict."""
    changed = {part: value for part, value in after.items() if value != before.get(part)}
    if not changed or not container.running:
        return
    with while_running(container):
        group = container.cgroup
        if group is None:
            raise Conflict(f"container {container.label} has no cgroup: this host has no cgroup v2 for it")
        group.update(changed)
