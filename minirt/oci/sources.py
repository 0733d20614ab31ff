"""What the container gets from the host: copies of mounts, taken while the host's paths still mean the host's.

open_tree clones a mount without attaching it anywhere; move_mount attaches it once we are inside. So the target is
resolved inside the container's root, where no symbolic link can point out of it, and the source by nobody but us.
"""

from __future__ import annotations

import os
from errno import EACCES, EPERM

from minirt.errors import MinirtError
from minirt.linux import constants as k
from minirt.oci.options import Mount
from minirt.oci.rootfs import wanted_propagation
from minirt.oci.step import Context, step
from minirt.oci.targets import HOW_SIZE, how
from minirt.plan import Memory, Plan, Slot, Words

__all__ = ["beneath", "early_sources", "from_host", "idmapped", "new_sources", "sources"]

MOST = 253  # SCM_MAX_FD: descriptors in one message (net/scm.h)


def from_host(c: Context) -> list[tuple[Mount, str]]:
    """Return the entries that are copies of a mount of the host's, each with the host's path."""
    found = []
    for mount in c.mounts:
        if mount.bind and not mount.remount:
            found.append((mount, os.path.join(c.bundle, mount.source)))
        elif mount.kind == "cgroup" and "cgroup" not in c.fresh and (c.cgroup or c.scope):
            # Without a cgroup namespace a new mount would show every group of the host: so the container's own alone.
            found.append((mount, c.cgroup))
    return found


def idmapped(c: Context) -> bool:
    """Say whether some mount is to show other owners than its source has."""
    return any(mount.idmap for mount in c.mounts)


def by_parent(c: Context) -> bool:
    """Say whether only the parent can take hold of the sources: for another view of owners, or out of another's mounts."""
    return idmapped(c) or any(mount.namespace for mount in c.mounts)


def early_sources(p: Plan, c: Context) -> None:
    """With rootfsPropagation shared, before `propagation`: a copy is in its original's peer group only until then."""
    if wanted_propagation(c).lstrip("r") == "shared":
        sources(p, c)


@step("sources", "namespaces", why="take hold of what the container gets from the host, by the host's paths")
def sources(p: Plan, c: Context) -> None:
    """Each a copy of a mount, attached nowhere yet.

    In a user namespace a path may lead through directories that its root may not enter: then the parent opens them,
    in this mount namespace, where copies keep the flags that the host's mounts have (man 7 mount_namespaces, locked).
    It is the parent, too, who may show owners by another map (man 2 mount_setattr, MOUNT_ATTR_IDMAP).
    """
    wanted = from_host(c)
    if not wanted or wanted[0][0].tree is not None:
        return
    if len(wanted) > MOST:
        raise MinirtError(f"config.json: mounts: {len(wanted)} bind mounts, and one message takes {MOST} descriptors")
    alone = by_parent(c)  # the child does not even try
    parent = alone or (c.userns and not c.rootless)
    take = Memory(bytes(16 + 4 * len(wanted)))  # struct cmsghdr, then descriptors
    for i, (mount, path) in enumerate(wanted):
        mount.made_by = "sources"
        mount.tree = take.load(16 + 4 * i)
        if not alone:
            last = i == len(wanted) - 1
            where, path, flags = beneath(p, mount, path)
            p.open_tree(
                where, path, flags, store=take.at(16 + 4 * i),
                positive="have sources" if parent and last else None,
                otherwise={EACCES: "ask for sources"} if parent else None,
                why="a copy of this mount, attached nowhere yet",
            )  # fmt: skip
    if parent:
        p.label("ask for sources")
        p.barrier("sources", take=take, why="minirt opens them with the host's rights, and sends the copies")
        p.label("have sources")


def beneath(p: Plan, mount: Mount, path: str) -> tuple[int | Slot, str, int]:
    """Append what finds the part of a directory that is wanted, and return open_tree's arguments for it.

    Who else writes to the directory may put a link there, or exchange what was looked at: so the kernel is told not to leave
    it (man 2 openat2, RESOLVE_BENEATH), and what it opened is what is bound.
    """
    if not mount.subpath:
        return k.AT_FDCWD, path, tree_flags(mount)
    top, part = Slot(path), Slot(mount.subpath)
    p.openat(k.AT_FDCWD, path, k.O_PATH | k.O_DIRECTORY | k.O_CLOEXEC, store=top)
    p.openat2(top, mount.subpath, how(k.O_PATH, resolve=k.RESOLVE_BENEATH | k.RESOLVE_NO_MAGICLINKS), HOW_SIZE, store=part,
              why="below the directory, whatever links are in it")  # fmt: skip
    return part, "", tree_flags(mount) | k.AT_EMPTY_PATH


def tree_flags(mount: Mount) -> int:
    """Return open_tree's flags for an entry."""
    return k.OPEN_TREE_CLONE | k.OPEN_TREE_CLOEXEC | (k.AT_RECURSIVE if mount.recursive else 0)


@step("new_sources", "propagation", why="make /proc and /sys while the host's can be seen, as a user namespace needs")
def new_sources(p: Plan, c: Context) -> None:
    """A user namespace may only have a new one where a whole one is mounted already: nothing masked is shown again.

    (fs/namespace.c, mount_too_revealing.) And only if the network or pid namespace that it shows is its own: else, as
    runc and crun do, the host's is bound.
    """
    for mount in c.mounts if c.userns else ():
        if mount.kind not in ("proc", "sysfs") or mount.bind or mount.remount:
            continue
        opened, made = Slot(f"{mount.kind} to be"), Slot(f"new {mount.kind}")
        bind, have = f"bind {mount.kind} ({len(p.items)})", f"have {mount.kind} ({len(p.items)})"
        path = "/proc" if mount.kind == "proc" else "/sys"
        p.fsopen(mount.kind, k.FSOPEN_CLOEXEC, store=opened, otherwise={EPERM: bind})
        p.fsconfig(opened, k.FSCONFIG_SET_STRING, "source", mount.source or mount.kind)
        for option in [*mount.data, *(["ro"] if mount.flags & k.MS_RDONLY else ())]:
            key, equals, value = option.partition("=")
            p.fsconfig(opened, k.FSCONFIG_SET_STRING if equals else k.FSCONFIG_SET_FLAG, key, value if equals else None)
        p.fsconfig(opened, k.FSCONFIG_CMD_CREATE, otherwise={EPERM: bind})
        p.fsmount(opened, k.FSMOUNT_CLOEXEC, mount.attributes()[0], store=made, positive=have, otherwise={EPERM: bind},
                  why="a mount that is attached nowhere yet")  # fmt: skip
        p.label(bind)
        p.open_tree(k.AT_FDCWD, path, k.OPEN_TREE_CLONE | k.OPEN_TREE_CLOEXEC | k.AT_RECURSIVE, store=made,
                    why="the namespace that it shows is not ours: so the host's, with the host's flags")  # fmt: skip
        wanted = mount.attributes()[0] | (k.MOUNT_ATTR_RDONLY if mount.kind == "sysfs" else 0)
        p.mount_setattr(made, "", k.AT_EMPTY_PATH | k.AT_RECURSIVE, Words(wanted, 0, 0, 0), 32)
        p.label(have)
        mount.tree, mount.made_by = made, "new_sources"
