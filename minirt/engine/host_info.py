"""The engine and its host, in the words of Docker's Engine API: `version` and `info`."""

from __future__ import annotations

import os
import platform
import time

from minirt import __version__
from minirt.paths import data_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["info", "version"]

CONTROLLERS = {"MemoryLimit": "memory", "SwapLimit": "memory", "CpuCfsPeriod": "cpu", "CpuCfsQuota": "cpu", "CPUShares": "cpu",
               "CPUSet": "cpuset", "PidsLimit": "pids"}  # fmt: skip
WARNINGS = {"MemoryLimit": "memory limit", "CpuCfsQuota": "cpu cfs quota", "CPUSet": "cpuset", "PidsLimit": "pids limit"}
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def version() -> dict[str, Any]:
    """Return what `minirt version` tells."""
    uname = os.uname()
    own = {
        "Platform": {"Name": "minirt"}, "Version": __version__, "Os": "linux", "KernelVersion": uname.release,
        "Arch": ARCHITECTURES.get(uname.machine, uname.machine), "PythonVersion": platform.python_version(),
    }  # fmt: skip
    return {"Client": own, "Server": {**own, "ApiVersion": "1.50", "MinAPIVersion": "1.40"}}


def info() -> dict[str, Any]:
    """Return what `minirt info` tells: counts, directories, what the kernel offers."""
    from minirt.engine.container import containers
    from minirt.engine.inspect import status_of
    from minirt.image.store import Store

    found = [status_of(container) for container in containers()]
    store, uname = Store(os.path.join(data_root(), "image")), os.uname()
    return {
        "ID": machine_id(),
        "Containers": len(found),
        "ContainersRunning": found.count("running"),
        "ContainersPaused": found.count("paused"),
        "ContainersStopped": len(found) - found.count("running") - found.count("paused"),
        "Images": len({image.digest for image in store.readable()}) if os.path.isdir(store.root) else 0,
        "Driver": "overlay2",
        "DriverStatus": [["Backing Filesystem", file_system(data_root())], ["Native Overlay Diff", "true"]],
        "Plugins": {"Volume": ["local"], "Network": ["bridge", "host", "null"], "Authorization": None,
                    "Log": ["json-file", "none"]},
        **limits(),
        "IPv4Forwarding": read("/proc/sys/net/ipv4/ip_forward") == "1",
        "Debug": False,
        "SystemTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "LoggingDriver": "json-file",
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": "2",
        "KernelVersion": uname.release,
        "OperatingSystem": os_name(),
        "OSType": "linux",
        "Architecture": uname.machine,
        "NCPU": os.cpu_count() or 1,
        "MemTotal": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "DockerRootDir": data_root(),
        "Name": uname.nodename,
        "Labels": [],
        "ExperimentalBuild": False,
        "ServerVersion": __version__,
        "Runtimes": {"minirt": {"path": "minirt-oci"}},
        "DefaultRuntime": "minirt",
        "Swarm": {"NodeID": "", "LocalNodeState": "inactive", "ControlAvailable": False},
        "InitBinary": "docker-init",
        "SecurityOptions": ["name=seccomp,profile=builtin", "name=cgroupns", *(["name=rootless"] if os.geteuid() else [])],
        "Warnings": [f"WARNING: No {words} support" for field, words in WARNINGS.items() if not limits()[field]],
    }  # fmt: skip


def limits() -> dict[str, bool]:
    """Return which limits this host can keep: by the controllers of its cgroup v2."""
    from minirt.linux import cgroup2

    try:
        mount = cgroup2.find_mount()
        have = cgroup2.controllers(mount) if mount else []
    except OSError:
        have = []
    return {field: name in have for field, name in CONTROLLERS.items()}


def read(path: str) -> str:
    """Return a small file's text, nothing where it is not there."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def machine_id() -> str:
    """Return an id of this engine that does not tell the machine's (man 5 machine-id)."""
    import hashlib

    return hashlib.sha256(f"minirt {read('/etc/machine-id')} {data_root()}".encode()).hexdigest()[:32]


def os_name() -> str:
    """Return the system's name for people (man 5 os-release)."""
    for line in read("/etc/os-release").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return "Linux"


def file_system(path: str) -> str:
    """Return the type of the file system that a path is on, or will be."""
    from minirt.linux.mountinfo import holding

    while not os.path.exists(path):
        path = os.path.dirname(path) or "/"
    mount = holding(path)
    return mount.kind if mount is not None else "unknown"
