"""Rules of config.json's namespaces: which there are, who is who in them, and what needs one of its own. See validate.py."""

from __future__ import annotations

import os

from minirt.oci.shapes import Wrong, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Json = dict[str, Any]

__all__ = ["kinds", "mappings", "namespaces"]


def kinds(config: Json) -> dict[str, str]:
    """Return type and path of the namespaces; "" is a new one."""
    namespaces = (config.get("linux") or {}).get("namespaces") or ()
    return {namespace["type"]: namespace.get("path") or "" for namespace in namespaces}


def namespaces(config: Json, warnings: list[str]) -> None:
    """config-linux.md#namespaces, and what needs one of them."""
    linux = config.get("linux") or {}
    paths: dict[str, str] = {}
    for i, namespace in enumerate(linux.get("namespaces") or ()):
        if namespace["type"] in paths:
            raise Wrong(f"{namespace['type']} is there twice", ".type", f"[{i}]", ".namespaces", ".linux")
        paths[namespace["type"]] = namespace.get("path") or ""
    for key in ("hostname", "domainname"):
        if config.get(key) and "uts" not in paths:
            raise Wrong("needs a uts namespace in linux.namespaces; else the host would be renamed", f".{key}")
    for key in ("maskedPaths", "readonlyPaths"):
        if linux.get(key) and "mount" not in paths:
            raise Wrong("needs a mount namespace in linux.namespaces", f".{key}", ".linux")
    if "mount" not in paths:
        raise Wrong("a mount namespace is needed: else all would be mounted on the host", ".namespaces", ".linux")
    user_namespace(linux, paths, warnings)
    for name in linux.get("sysctl") or ():
        rule = sysctl(name, paths)
        if rule:
            raise Wrong(rule, f"[{shown(name)}]", ".sysctl", ".linux")


def user_namespace(linux: Json, paths: dict[str, str], warnings: list[str]) -> None:
    """config-linux.md#user-namespace-mappings; man 7 user_namespaces."""
    for key in ("uidMappings", "gidMappings"):
        maps = linux.get(key)
        if maps and "user" not in paths:
            raise Wrong("needs a user namespace in linux.namespaces", f".{key}", ".linux")
        if maps and paths["user"]:
            warnings.append(f"config.json: linux.{key} is ignored: the user namespace at {shown(paths['user'])} has its own")
        elif not maps and paths.get("user") == "":
            raise Wrong("missing; a new user namespace has no users without it", f".{key}", ".linux")
        elif maps:
            mappings(maps, f".{key}", ".linux")


def mappings(maps: list[Json], *path: str) -> None:
    """man 7 user_namespaces: at most 340 lines, and no id twice on either side."""
    if len(maps) > 340:
        raise Wrong(f"has {len(maps)} entries; the kernel takes at most 340", *path)
    for key in ("containerID", "hostID"):
        ends = sorted((entry[key], entry[key] + entry["size"], i) for i, entry in enumerate(maps))
        last = 0
        for start, end, i in ends:
            if start < last:
                raise Wrong(f"overlaps another entry's {key}", f".{key}", f"[{i}]", *path)
            last = end
        if ends[-1][1] > 2**32 - 1:
            raise Wrong(f"with {key} goes beyond the last id, {2**32 - 2}", ".size", f"[{ends[-1][2]}]", *path)


IPC = ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced", "msg_next_id", "sem_next_id",
       "shm_next_id")  # fmt: skip


def sysctl(name: str, paths: dict[str, str]) -> str:
    """Return why a kernel setting is not the container's to change, "" where it is: only of a namespace of its own.

    man 7 namespaces; as in runc. A namespace that is joined counts, if it is not the one that this process is in.
    """
    from minirt.oci.system import sysctl_path

    path = sysctl_path(name)
    parts = path.split("/")
    if "" in parts or "." in parts or ".." in parts:
        return "is not the name of a kernel setting"
    if path.startswith("net/"):
        return other_namespace("network", "net", paths)
    if path.startswith("fs/mqueue/") or (parts[0] == "kernel" and len(parts) == 2 and parts[1] in IPC):
        return other_namespace("ipc", "ipc", paths)
    if path == "kernel/domainname":
        return other_namespace("uts", "uts", paths)
    if path == "kernel/hostname":
        return "is not allowed: hostname says it"
    return "is not allowed: it belongs to no namespace, and the host has it too"


def other_namespace(kind: str, file: str, paths: dict[str, str]) -> str:
    """Return "" if the container's namespace of a kind is not this process's."""
    if kind not in paths:
        return f"needs a {kind} namespace in linux.namespaces; else the host has it too"
    if paths[kind]:
        try:
            if os.path.samefile(paths[kind], f"/proc/self/ns/{file}"):
                return f"is not allowed: the {kind} namespace at {shown(paths[kind])} is the host's"
        except OSError:
            pass  # opening it to join says what is wrong
    return ""
