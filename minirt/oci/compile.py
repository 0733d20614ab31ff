"""The order of a container's birth: config.json to a plan.

Each name in ORDER is a function that appends the records of one step; read them in this order.
"""

from __future__ import annotations

from minirt.oci import devices, hidden, mounts, namespaces, process, rootfs, sources, system
from minirt.oci.begin import EXECUTOR, begin_plan
from minirt.oci.step import Context
from minirt.plan import Plan, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["HOOKED", "ORDER", "begin_plan", "compile_plan", "finish_plan", "finish_rest", "finish_root"]

ORDER = (
    *EXECUTOR,  # begin.py
    # in the child, outside
    namespaces.user_namespace,
    namespaces.cgroup_namespace,
    namespaces.time_namespace,
    namespaces.session,
    sources.early_sources,
    rootfs.propagation,
    rootfs.overlay,
    rootfs.bundle_root,
    sources.sources,
    sources.new_sources,
    devices.device_sources,
    # inside
    rootfs.pivot_root,
    rootfs.old_root,
    mounts.mount_all,
    devices.devices,
    devices.null_descriptors,
    system.hostname,
    system.loopback,
    system.network,
    system.net_devices,
    system.sysctls,
    mounts.read_only_mounts,
    hidden.masked_paths,
    hidden.read_only_paths,
    rootfs.root_propagation,
    process.working_directory,
    rootfs.read_only_root,
    process.resolve,
    devices.console,
    *process.GIVING_UP,  # limits, capabilities, seccomp, execve: the same for who joins a container
)


def hooked() -> tuple[Callable[[Plan, Context], None], ...]:
    """Return the order for a container with hooks that run before pivot_root.

    They are to find all mounts made, and the host's files (runtime-spec config.md#posix-platform-hooks). So the paths of
    the image are followed in a chroot, and pivot_root comes after the hooks.
    """
    order = [function for function in ORDER if function not in (rootfs.pivot_root, rootfs.old_root)]
    order.insert(order.index(mounts.mount_all), rootfs.stand_inside)
    at = order.index(system.hostname)
    return (*order[:at], rootfs.hooks, rootfs.pivot_root, rootfs.old_root, *order[at:])


HOOKED = hooked()
REST = system.network  # `finish_rest` begins here: what is before keeps the child at work while that is made


def compile_plan(context: Context, preserve_fds: int = 0) -> Plan:
    """Return the plan of a container's birth.

    Args:
        context: config.json and what belongs to it.
        preserve_fds: how many descriptors from 3 on the program gets.

    Raises: MinirtError for what the configuration cannot mean.
    """
    plan = Plan(preserve_fds).extend(EXECUTOR, context)
    finish_plan(plan, context)
    used = {record.step for record in plan.records}  # a step that has nothing to do here is none to cut
    plan.steps = {
        name: Step(name, tuple(need for need in step.needs if need in used), step.why)
        for name, step in plan.steps.items()
        if name in used
    }
    return plan


def finish_plan(plan: Plan, context: Context) -> None:
    """Append to `begin_plan`'s plan what the child does."""
    finish_root(plan, context)
    finish_rest(plan, context)


def finish_root(plan: Plan, context: Context) -> None:
    """Append what makes the child's root, and what the kernel takes long for."""
    order = HOOKED if context.hooks else ORDER
    plan.extend(order[len(EXECUTOR) : order.index(REST)], context)


def finish_rest(plan: Plan, context: Context) -> None:
    """Append what comes after that."""
    order = HOOKED if context.hooks else ORDER
    plan.extend(order[order.index(REST) :], context)
