"""The default config.json: what a container gets where nobody asked for anything else.

The same defaults as docker's and podman's: file systems, hidden and read-only paths, namespaces, capabilities.
`default_spec` is what the engine begins with, `first_spec` what `minirt oci spec` writes for a person to begin with.
"""

from __future__ import annotations

from minirt.oci import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["MASKED", "MOUNTS", "READ_ONLY", "default_spec", "first_spec"]

SAFE = ["nosuid", "noexec", "nodev"]

# (destination, type, source, options): runtime-spec config-linux.md#default-filesystems.
MOUNTS = (
    ("/proc", "proc", "proc", SAFE),
    ("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
    ("/dev/pts", "devpts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
    ("/sys", "sysfs", "sysfs", [*SAFE, "ro"]),
    ("/sys/fs/cgroup", "cgroup", "cgroup", [*SAFE, "relatime", "ro"]),
    ("/dev/mqueue", "mqueue", "mqueue", SAFE),
    ("/dev/shm", "tmpfs", "shm", [*SAFE, "mode=1777", "size=65536k"]),
)

# What would tell of the host, or could harm it even read-only: moby's list.
MASKED = (
    "/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
    "/sys/devices/virtual/powercap",
)  # fmt: skip
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

NAMESPACES = ("pid", "network", "ipc", "uts", "mount", "cgroup")


def default_spec() -> dict[str, Any]:
    """Return a config.json with the defaults and no process arguments (runtime-spec config.md)."""
    return {
        "ociVersion": VERSION,
        "process": {"terminal": False, "user": {"uid": 0, "gid": 0}, "args": [], "env": [], "cwd": "/"},
        "root": {"path": "rootfs", "readonly": False},
        "mounts": [
            {"destination": where, "type": kind, "source": source, "options": list(options)}
            for where, kind, source, options in MOUNTS
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in NAMESPACES],
            "maskedPaths": list(MASKED),
            "readonlyPaths": list(READ_ONLY),
        },
    }


GRANTED = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
SEARCH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def first_spec(rootless: bool = False, uid: int = 0, gid: int = 0) -> dict[str, Any]:
    """Return a config.json to begin with, of a shell: what `runc spec` writes (man 8 runc-spec).

    Args:
        rootless: one that an unprivileged user can run.
        uid: of that user, who is root inside.
        gid: of its group.
    """
    spec = default_spec()
    spec["process"].update(
        terminal=True, args=["sh"], env=[SEARCH, "TERM=xterm"], noNewPrivileges=True,
        rlimits=[{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
        capabilities={kind: list(GRANTED) for kind in ("bounding", "effective", "permitted")},
    )  # fmt: skip
    spec["root"]["readonly"] = True
    spec["hostname"] = "minirt"
    spec["linux"]["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    if rootless:
        unprivileged(spec, uid, gid)
    return spec


def unprivileged(spec: dict[str, Any], uid: int, gid: int) -> None:
    """Change what needs root of the host: the network, a new /sys that belongs to it, limits, and the group `tty`."""
    linux = spec["linux"]
    linux["namespaces"] = [entry for entry in linux["namespaces"] if entry["type"] != "network"] + [{"type": "user"}]
    linux["uidMappings"] = [{"containerID": 0, "hostID": uid, "size": 1}]
    linux["gidMappings"] = [{"containerID": 0, "hostID": gid, "size": 1}]
    del linux["resources"]
    for mount in spec["mounts"]:
        if mount["destination"] == "/sys":
            # sysfs shows a network namespace, so only who owns that may mount it (man 5 sysfs).
            mount.update(type="none", source="/sys", options=["rbind", *SAFE, "ro"])
        elif mount["destination"] == "/dev/pts":
            mount["options"].remove("gid=5")  # which is mapped to nobody here
