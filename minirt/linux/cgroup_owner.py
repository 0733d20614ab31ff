"""Whose a container's group is: who may make groups below it, and share out in them what it has.

With a cgroup namespace of its own and its tree mounted to be written to, a container manages groups itself, as systemd in it
does. In a user namespace its user is somebody else outside: so the group is given to them. The limits are not: of the
group's files only those that the kernel names as safe (man 7 cgroups, /sys/kernel/cgroup/delegate).

Source: runtime-spec config-linux.md#cgroup-ownership
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["give", "is_writable", "owner_of"]

DELEGATE = "/sys/kernel/cgroup/delegate"
SAFE = ("cgroup.procs", "cgroup.subtree_control", "cgroup.threads")  # before Linux 4.15


def owner_of(config: dict[str, Any]) -> int:
    """Return the user, as the host numbers them, who is to own the container's group; -1 for nobody in particular.

    Args:
        config: config.json.
    """
    linux = config.get("linux") or {}
    if not any(ns["type"] == "cgroup" and not ns.get("path") for ns in linux.get("namespaces") or ()):
        return -1  # it would see other groups
    if not any(is_writable(mount) for mount in config.get("mounts") or ()):
        return -1
    uid: int = ((config.get("process") or {}).get("user") or {}).get("uid") or 0
    if not linux.get("uidMappings"):
        return uid
    from minirt.linux.userns import outside

    try:
        return outside(linux["uidMappings"], uid)
    except ValueError:
        return -1  # nor can it be the process's user


def is_writable(mount: dict[str, Any]) -> bool:
    """Say whether an entry of config.json's mounts is the tree of groups, to be written to."""
    at = os.path.normpath("/" + mount["destination"].lstrip("/"))
    return mount.get("type") in ("cgroup", "cgroup2") and at == "/sys/fs/cgroup" and "ro" not in (mount.get("options") or ())


def give(directory: str, uid: int) -> None:
    """Make a user the owner of a group: of its directory, and of the files that may be theirs.

    Args:
        directory: the group's.
        uid: as the host numbers them; -1 leaves it all as it is.

    A file that this group does not have is no error.
    """
    if uid < 0:
        return
    try:
        with open(DELEGATE, encoding="ascii") as file:
            names: tuple[str, ...] = tuple(file.read().split())
    except FileNotFoundError:
        names = SAFE
    for name in ("", *names):
        try:
            os.chown(os.path.join(directory, name), uid, -1)
        except (FileNotFoundError, PermissionError):
            pass  # it does not have this one; or a user's runtime cannot give to another of their ids
