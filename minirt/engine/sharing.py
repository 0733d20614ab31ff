"""Namespaces that a container has in common with the host, or with another container that runs: --pid, --ipc, --uts."""

from __future__ import annotations

from minirt.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.engine.container import Container
    from minirt.engine.options import RunOptions

__all__ = ["KINDS", "running_one", "share", "shared_memory"]

# option -> the namespace's type, and which words mean one of its own
KINDS = {
    "pid": ("pid", ("private", "")), "ipc": ("ipc", ("private", "shareable", "none", "")), "uts": ("uts", ("private", "")),
    "cgroupns": ("cgroup", ("private", "")),
}  # fmt: skip
JOINED = ("pid", "ipc")  # those that docker lets a container take from another


def share(options: RunOptions, linux: dict[str, Any]) -> None:
    """Leave out the namespaces that are the host's, and name those of other containers. Raises: UsageError, ContainerError."""
    for option, (kind, own) in KINDS.items():
        value: str = getattr(options, option)
        if value == "host":
            linux["namespaces"] = [n for n in linux["namespaces"] if n["type"] != kind]
        elif value.startswith("container:") and option in JOINED:
            other = running_one(value, f"--{option}")
            if option == "ipc":
                check_shareable(other, value)
            for namespace in linux["namespaces"]:
                if namespace["type"] == kind:
                    namespace["path"] = f"/proc/{other.state['pid']}/ns/{kind}"
        elif value not in own:
            known = ["host", *filter(None, own), *(["container:NAME"] if option in JOINED else [])]
            raise UsageError(f"--{option} {value}: there are {', '.join(known)}")


def running_one(value: str, flag: str) -> Container:
    """Return the container that `container:NAME` means, which runs. Raises: UsageError, NoContainer."""
    from minirt.engine.container import find

    other = find(value.removeprefix("container:"))
    if not other.running:
        raise UsageError(f"{flag} {value}: that container does not run, so there is nothing to share")
    return other


def check_shareable(other: Container, value: str) -> None:
    """Refuse the shared memory of a container that was not made to share it. Raises: UsageError."""
    from minirt.engine.inspect import options_of

    if options_of(other).ipc not in ("shareable", "host"):
        raise UsageError(f"--ipc {value}: that container keeps it for itself: run it with --ipc shareable")


def shared_memory(options: RunOptions, mounts: dict[str, dict[str, Any]], size: int) -> None:
    """Change the mount of /dev/shm to what --ipc says.

    Args: mounts, by their destinations; size, bytes of one of its own.
    """
    import os

    shm = mounts["/dev/shm"]
    if options.ipc == "host":
        for path in ("/dev/shm", "/dev/mqueue"):
            del mounts[path]
            if os.path.isdir(path):  # else the host has none to share
                mounts[path] = {"destination": path, "type": "bind", "source": path, "options": ["rbind", "rprivate"]}
    elif options.ipc.startswith("container:"):
        pid = running_one(options.ipc, "--ipc").state["pid"]
        mounts["/dev/shm"] = {"destination": "/dev/shm", "type": "bind", "source": "/dev/shm", "options": ["bind", "rprivate"],
                              "namespace": pid}  # fmt: skip
    elif options.ipc == "none":
        del mounts["/dev/shm"]
    else:
        shm["options"] = [o for o in shm["options"] if not o.startswith("size=")] + [f"size={size}"]
