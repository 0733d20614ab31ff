"""What `checkpoint` and `restore` have in common: their flags, and what CRIU must be told of a container.

CRIU saves what is in the container. Three things are not in it, and are named on both sides, so that they can be there
again: files and directories bound from the host, namespaces that were joined by their path, and the pipes behind
standard input, output and error.
"""

from __future__ import annotations

import os

from minirt.linux import constants as k
from minirt.linux.criu import CHECK, MODES, NFTABLES, Criu, CriuError
from minirt.oci.devices import DEFAULT
from minirt.oci.options import read_mounts
from minirt.runtime.container import RuntimeFailure
from minirt.runtime.flags import Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["BOTH", "DESCRIPTORS", "JOINED", "bound", "common", "devices", "explain", "open_directory", "settings"]

BOTH = (
    Flag("image-path", "DIR of the saved processes; by default checkpoint in this directory", ""),
    Flag("work-path", "DIR for CRIU's own files and its log; by default that of the image", ""),
    Flag("tcp-established", "with TCP connections that are open"),
    Flag("ext-unix-sk", "with unix sockets whose other end is outside"),
    Flag("shell-job", "with the caller's terminal, which its processes have as theirs"),
    Flag("lazy-pages", "(refused: memory is fetched before anything goes on)"),
    Flag("file-locks", "with locks on files"),
    Flag("manage-cgroups-mode", "MODE how CRIU treats cgroups: soft, full, strict or ignore", ""),
    Flag("empty-ns", "TYPE of a namespace to leave empty: network", []),
    Flag("auto-dedup", "free the memory in the image that a later image has too"),
)
DESCRIPTORS = "descriptors.json"  # in the image: what 0, 1, 2 were; runc's, which can restore ours
JOINED = {"network": ("net", "extRootNetNS"), "pid": ("pid", "extRootPidNS")}  # CRIU's names of what it does not save
LOG_LEVEL = 4
NEVER = ("lazy_pages", "page_server", "status_fd")
SETTINGS = "/etc/criu/runc.conf"  # what an administrator sets for all; a container's own is in its annotations


def common(values: dict[str, Any], log: str) -> dict[str, Any]:
    """Return the fields of a request that say the same to both commands. Raises: RuntimeFailure."""
    for key in NEVER:
        if values.get(key):
            name = key.replace("_", "-")
            raise RuntimeFailure(f"--{name}: is not supported: save without it, and copy the image")
    mode = values["manage_cgroups_mode"]
    if mode not in MODES:
        raise RuntimeFailure(f"--manage-cgroups-mode {mode}: one of {', '.join(filter(None, MODES))}")
    for kind in values["empty_ns"]:
        if kind != "network":
            raise RuntimeFailure(f"--empty-ns {kind}: only a network namespace can be left empty")
    options: dict[str, Any] = {"log_level": LOG_LEVEL, "log_file": log, "notify_scripts": True, "orphan_pts_master": True,
                               "manage_cgroups": True, "manage_cgroups_mode": MODES[mode]}  # fmt: skip
    if not find_program("iptables-restore"):
        options["network_lock"] = NFTABLES  # by the library; else it runs iptables to hold packets back meanwhile
    for key in ("tcp_established", "ext_unix_sk", "shell_job", "file_locks", "auto_dedup"):
        options[key] = values[key]
    if values["empty_ns"]:
        options["empty_ns"] = k.CLONE_NEWNET
    return options


def devices(config: dict[str, Any]) -> list[str]:
    """Return the paths of a container's devices, which it has from the host where it may make none."""
    asked = (config.get("linux") or {}).get("devices") or ()
    return list(dict.fromkeys([*(f"/dev/{name}" for name in DEFAULT), *(device["path"] for device in asked)]))


def settings(config: dict[str, Any]) -> str:
    """Return the path of CRIU's configuration file, which overrules a request; it need not exist. "" for none."""
    path: str = (config.get("annotations") or {}).get("org.criu.config", SETTINGS)
    return path


def find_program(name: str) -> bool:
    """Say whether a program is in PATH."""
    return any(os.access(os.path.join(folder, name), os.X_OK) for folder in os.environ.get("PATH", os.defpath).split(":"))


def open_directory(path: str, flag: str, make: bool, mode: int = 0o700) -> int:
    """Return a descriptor of the image's or the work directory, made with a mode if need be. Raises: RuntimeFailure."""
    try:
        if make and not os.path.isdir(path):
            os.makedirs(path, mode=mode)
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise RuntimeFailure(f"{flag} {path}: {error.strerror}") from None


def bound(config: dict[str, Any]) -> list[tuple[str, str]]:
    """Return target and source of each bind mount, which CRIU is not to look into."""
    return [(mount.target, mount.source) for mount in read_mounts(config) if mount.bind and not mount.remount]


def explain(error: CriuError, directory: str, log: str) -> CriuError:
    """Return an error with the first one in CRIU's log, or what the kernel lacks for it."""
    path = os.path.join(directory, log)
    lines = error.said.splitlines()
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines += file
    except OSError:
        pass
    # It tries iptables first, and goes on where there is none.
    found = next((line for line in lines if "Error (" in line and "tables" not in line), "")
    lacks = "" if can_check() else "; `criu check` fails too: this kernel, or this user, lacks what CRIU needs"
    if not found:
        return CriuError(f"{error}{lacks}")
    return CriuError(f"{error}: {found[found.index('Error (') :].strip()} ({path} tells more){lacks}")


def can_check() -> bool:
    """Say whether CRIU finds in the kernel what it cannot do without."""
    directory = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        with Criu((null, null, null)) as criu:  # it prints what it finds
            criu.ask(CHECK, {"images_dir_fd": directory, "log_level": 0})
    except CriuError:
        return False
    finally:
        os.close(directory)
        os.close(null)
    return True

