"""The default config.json: what a container gets where nobody asked for anything else.

The same defaults as docker's and podman's: file systems, hidden and read-only paths, namespaces, capabilities.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["MASKED", "MOUNTS", "READ_ONLY", "VERSION", "default_spec"]

VERSION = "1.3.0"  # runtime-spec

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
