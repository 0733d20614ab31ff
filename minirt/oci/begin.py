"""The beginning of a birth's plan: what the executor does, up to the clone3 that makes the child.

A birth begins with this part alone. clone3 takes the kernel as long as the rest takes Python, and there is mostly another
processor to do it on; so what makes the rest is loaded when it is wanted.
"""

from __future__ import annotations

from minirt.oci import namespaces
from minirt.oci.step import Context
from minirt.plan import Plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["EXECUTOR", "begin_plan", "declare", "finish_in_parts", "needs_resolving"]

PATH_MAX = 4096
GROUPS_MAX = 1024


def declare(p: Plan, c: Context) -> None:
    """Declare what is decided once the root is complete: who `--user` is there, where the command lies."""
    if needs_resolving(c):
        p.at_barrier("path", PATH_MAX)
        p.at_barrier("home", PATH_MAX, b"HOME=/")
    if c.user is not None:
        p.at_barrier("uid")
        p.at_barrier("gid")
        p.at_barrier("groups_count")
        p.at_barrier("groups", 4 * GROUPS_MAX)


def needs_resolving(c: Context) -> bool:
    """Say whether something can only be known inside the merged root."""
    has_home = any(item.startswith("HOME=") for item in c.process.get("env") or ())
    return c.resolve or c.user is not None or not has_home or "/" not in (c.process.get("args") or ("",))[0]


EXECUTOR = (
    declare,
    namespaces.signals,
    namespaces.oom,
    namespaces.start_fifo,
    namespaces.cgroup,
    namespaces.namespaces,
)


def begin_plan(context: Context, preserve_fds: int = 0) -> Plan:
    """Return the executor's part of `compile_plan`'s plan, with which a birth can begin; `finish_plan` appends the rest."""
    return Plan(preserve_fds).extend(EXECUTOR, context).await_rest()


def finish_in_parts(context: Context) -> tuple[Callable[[Plan], object], Callable[[Plan], object]]:
    """Return `finish_plan` as two: what the child needs to make its root, and the rest, made while it mounts that."""

    def root(plan: Plan) -> None:
        from minirt.oci.compile import finish_root

        finish_root(plan, context)

    def rest(plan: Plan) -> None:
        from minirt.oci.compile import finish_rest

        finish_rest(plan, context)

    return root, rest
