"""--security-opt, read: what a process may gain, which system calls it has, which files of /proc and /sys it sees."""

from __future__ import annotations

from minirt.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.engine.options import RunOptions

__all__ = ["Security", "hide_paths", "security_of"]

KNOWN = "no-new-privileges, seccomp=unconfined|FILE, systempaths=unconfined, mask=PATH, unmask=ALL|PATH, writable-cgroups=true"


class Security:
    """What --security-opt says, all together."""

    __slots__ = ("everything_shown", "masked", "no_new_privileges", "seccomp", "unmasked", "writable_cgroups")

    def __init__(self) -> None:
        self.no_new_privileges = False
        self.seccomp = "default"  # or unconfined, or a profile's path
        self.everything_shown = False  # no masked and no read-only paths
        self.masked: list[str] = []
        self.unmasked: list[str] = []
        self.writable_cgroups = False


def security_of(options: RunOptions) -> Security:
    """Return what the options say. Raises: UsageError."""
    found = Security()
    for text in options.security_opt:
        key, _, value = text.partition("=") if "=" in text else text.partition(":")
        read(found, key, value, text)
    if options.privileged and found.seccomp == "default":
        found.seccomp = "unconfined"
    return found


def read(found: Security, key: str, value: str, text: str) -> None:
    """Take in one option. Raises: UsageError."""
    if key == "no-new-privileges" and value in ("", "true", "false"):
        found.no_new_privileges = value != "false"
    elif key == "seccomp" and value:
        found.seccomp = "default" if value == "builtin" else value
    elif (key == "systempaths" and value == "unconfined") or (key == "unmask" and value.upper() == "ALL"):
        found.everything_shown = True
    elif key in ("mask", "unmask") and value and all(path.startswith("/") for path in value.split(":")):
        (found.masked if key == "mask" else found.unmasked).extend(value.split(":"))
    elif key == "writable-cgroups" and value in ("true", "false"):
        found.writable_cgroups = value == "true"
    elif key in ("apparmor", "label"):
        if value not in ("unconfined", "disable"):
            there = {"apparmor": "unconfined", "label": "disable"}[key]
            raise UsageError(f"--security-opt {text}: {key} is not implemented ({key}={there} is what there is)")
    else:
        raise UsageError(f"--security-opt {text}: there are {KNOWN}")


def hide_paths(options: RunOptions, spec: dict[str, Any]) -> None:
    """Change which paths are masked and read-only. A pattern of unmask may end with /*, as podman's does."""
    from fnmatch import fnmatchcase

    found, linux = security_of(options), spec["linux"]
    for key in ("maskedPaths", "readonlyPaths"):
        if found.everything_shown:
            linux[key] = []
        shown = [path for path in linux.get(key) or () if any(fnmatchcase(path, pattern) for pattern in found.unmasked)]
        linux[key] = [path for path in linux.get(key) or () if path not in shown]
    linux["maskedPaths"] += [path for path in found.masked if path not in linux["maskedPaths"]]
    if found.writable_cgroups:
        for mount in spec["mounts"]:
            if mount["destination"] == "/sys/fs/cgroup":
                mount["options"] = [option for option in mount["options"] if option != "ro"]
