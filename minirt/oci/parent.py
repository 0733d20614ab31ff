"""What the parent does at the plan's barriers that come from config.json: what the child may not, or cannot.

    sources     opens what is bound from the host, with its own rights; shows it through another map of owners
    directory:PATH, file:PATH  make a mount's target where the image has a link to what is missing
    copy_up     fills a tmpfs with what the image has there
    netdevices  moves network interfaces into the container
    seccomp     sends the filter's listener to the agent

`at` is called with each barrier's name, and says whether it was one of these.
"""

from __future__ import annotations

import os
from contextlib import ExitStack

from minirt.errors import MinirtError
from minirt.linux import constants as k
from minirt.oci.sources import beneath, from_host
from minirt.oci.step import Context
from minirt.oci.targets import DIRECTORY, FILE
from minirt.plan import Plan, Slot, Words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.oci.options import Mount
    from minirt.plan.birth import Birth

__all__ = ["at", "namespace_with_maps"]


def at(name: str, birth: Birth, context: Context, state: dict[str, Any] | None = None) -> bool:
    """Do what a barrier is for.

    Args:
        name: of the barrier.
        birth: whose child waits there.
        context: what the plan was compiled from.
        state: the container's (runtime-spec runtime.md#state), for the seccomp agent.

    Returns: False where the barrier is somebody else's. Raises: MinirtError.
    """
    if name == "sources":
        sources(birth, context)
    elif name == "copy_up":
        copy_up(birth)
    elif name.startswith((DIRECTORY, FILE)):
        make_target(birth, context, name)
    elif name == "netdevices":
        net_devices(birth, context)
    elif name == "seccomp":
        seccomp(birth, context, state or {})
    else:
        return False
    return True


# -- mounts --------------------------------------------------------------------------------------------------


def sources(birth: Birth, c: Context) -> None:
    """Send the copies of the host's mounts.

    A helper enters the child's mount namespace, but no other, and so keeps this process's rights. Copies that are made
    there keep what the host's mounts forbid; made in our own namespace, the container's root could allow it again
    (measured: MNT_LOCK_* is set when a mount namespace is copied, not when a mount is moved).
    """
    from minirt.plan.birth import Birth as Run

    with ExitStack() as undo:
        plan = Plan()
        namespaces = open_namespaces(plan, birth, c, undo)
        into = Slot("mount namespace")
        plan.openat(k.AT_FDCWD, f"/proc/{birth.pid}/ns/mnt", k.O_RDONLY | k.O_CLOEXEC, store=into)
        plan.setns(into, k.CLONE_NEWNS, why="the child's mounts, with our rights")
        for mount, path in from_host(c):
            tree = Slot(path)
            if mount.namespace:
                enter_mounts(plan, mount.namespace, path)
                plan.open_tree(k.AT_FDCWD, path, k.OPEN_TREE_CLONE | k.OPEN_TREE_CLOEXEC, store=tree, why="a copy of their mount")
                plan.setns(into, k.CLONE_NEWNS, why="back").barrier("tree", give=tree)
                continue
            where, name, flags = beneath(plan, mount, path)
            plan.open_tree(where, name, flags, store=tree, why="a copy of this mount, attached nowhere yet")
            if mount.idmap:
                recursive = k.AT_RECURSIVE if mount.idmap == "ridmap" else 0
                words = Words(k.MOUNT_ATTR_IDMAP, 0, 0, namespaces[maps_of(mount)])
                plan.mount_setattr(tree, "", k.AT_EMPTY_PATH | recursive, words, 32, why="owners are shown through a map")
            plan.barrier("tree", give=tree)
        plan.exit_group(0)
        helper = undo.enter_context(Run(plan))
        for _ in helper.barriers():
            birth.to_send.append(helper.received)
            helper.received = -1


def enter_mounts(plan: Plan, pid: int, path: str) -> None:
    """Append what enters the mounts of another container, from where /proc can be seen."""
    theirs = Slot(f"mount namespace of {path}")
    plan.openat(k.AT_FDCWD, f"/proc/{pid}/ns/mnt", k.O_RDONLY | k.O_CLOEXEC, store=theirs)
    plan.setns(theirs, k.CLONE_NEWNS, why="what the other container has mounted there")


Maps = tuple[tuple[tuple[int, int, int], ...], ...]


def maps_of(mount: Mount) -> Maps:
    """Return an entry's own maps as something that can be compared; empty where it takes the container's."""
    return tuple(tuple((m["containerID"], m["hostID"], m["size"]) for m in maps) for maps in (mount.uids, mount.gids) if maps)


def open_namespaces(plan: Plan, birth: Birth, c: Context, undo: ExitStack) -> dict[Maps, Slot]:
    """Append what opens a user namespace for each map that the mounts ask for: such a namespace is how the kernel takes one."""
    opened: dict[Maps, Slot] = {}
    for i, mount in enumerate(c.mounts):
        maps = maps_of(mount)
        if not mount.idmap or maps in opened:
            continue
        pid = birth.pid
        if maps:
            pid = undo.enter_context(namespace_with_maps(mount.uids, mount.gids)).pid
        elif not c.userns:
            raise MinirtError(f"config.json: mounts[{i}]: {mount.idmap} without uidMappings needs a user namespace")
        opened[maps] = slot = Slot("user namespace")
        plan.openat(k.AT_FDCWD, f"/proc/{pid}/ns/user", k.O_RDONLY | k.O_CLOEXEC, store=slot)
    return opened


def namespace_with_maps(uids: list[dict[str, int]], gids: list[dict[str, int]]) -> Birth:
    """Return a process that waits in a new user namespace with these maps, until it is closed. Raises: MinirtError."""
    from minirt.linux.userns import write_maps
    from minirt.plan.birth import Birth as Run

    plan = Plan().unshare(k.CLONE_NEWUSER).barrier("maps").exit_group(0)
    run = Run(plan)
    try:
        next(run.barriers())
        write_maps(run.pid, uids, gids)
    except BaseException:
        run.close()
        raise
    return run


def make_target(birth: Birth, c: Context, name: str) -> None:
    """Make what a link of the image's leads to, in the child's root, for its user 0."""
    from minirt.linux.files import make_in_root
    from minirt.linux.userns import outside

    kind, _, path = name.partition(":")
    owner = os.geteuid(), os.getegid()
    if "user" in c.fresh:
        owner = outside(c.linux["uidMappings"], 0), outside(c.linux["gidMappings"], 0)
    root = os.open(f"/proc/{birth.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        make_in_root(root, path, kind == DIRECTORY[:-1], owner)
    except OSError as error:
        raise MinirtError(f"config.json: mounts: {path} cannot be made in the container: {error.strerror}") from None
    finally:
        os.close(root)


def copy_up(birth: Birth) -> None:
    """Fill the new tmpfs, which is the child's working directory, with what is in the directory that it sent."""
    from minirt.linux.copytree import copy_tree

    old, birth.received = birth.received, -1
    try:
        new = os.open(f"/proc/{birth.pid}/cwd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            copy_tree(old, new)
        finally:
            os.close(new)
    except OSError as error:
        raise MinirtError(f"tmpcopyup: {error.filename or ''}: {error.strerror}") from None
    finally:
        os.close(old)


# -- network -------------------------------------------------------------------------------------------------


def net_devices(birth: Birth, c: Context) -> None:
    """Move interfaces, give them their addresses back, set them up (runtime-spec config-linux.md#network-devices)."""
    from minirt.linux import rtnetlink as net

    inside, birth.received = birth.received, -1
    with ExitStack() as undo:
        undo.callback(os.close, inside)
        ours = net.open_socket()
        undo.callback(os.close, ours)
        namespace = os.open(f"/proc/{birth.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        undo.callback(os.close, namespace)
        for name, device in c.linux["netDevices"].items():
            wanted = (device or {}).get("name") or name
            where = f"config.json: linux.netDevices.{name}"
            index = net.find(ours, name)
            if not index:
                raise MinirtError(f"{where}: the host has no such interface")
            if "%d" not in wanted and net.find(inside, wanted):
                raise MinirtError(f"{where}: the container has an interface {wanted} already")
            kept = net.addresses(ours, index)
            before = net.indexes(inside)
            net.move(ours, index, wanted, namespace)
            (moved,) = net.indexes(inside) - before
            for address in kept:
                net.add_address(inside, moved, address)
            net.set_up(inside, moved)


# -- seccomp -------------------------------------------------------------------------------------------------


def seccomp(birth: Birth, c: Context, state: dict[str, Any]) -> None:
    """Send the listener to the agent at listenerPath; the child goes on when the agent has it."""
    from minirt.linux.seccomp import listener

    profile = c.linux["seccomp"]
    fd = listener.fetch(birth.pidfd, birth.peek(c.slots["listener"]))
    try:
        message = listener.listener_message(birth.pid, state, profile.get("listenerMetadata") or "")
        listener.send(profile["listenerPath"], message, fd)
    finally:
        os.close(fd)
