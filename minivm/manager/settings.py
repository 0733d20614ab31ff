"""A document as a machine's Config, and back."""

from __future__ import annotations

import os

from minivm.errors import MinivmError
from minivm.kernels.resolve import is_path
from minivm.machine.config import Config, Disk, Program, Rootfs, parse_affinity
from minivm.machine.devices import Hotplug, Share, Vsock
from minivm.manager.devices import card_of, disk_of, drive_of, net_of
from minivm.manager.document import check

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["absolute", "config_of", "document_of"]

MIB = 1 << 20
# The settings of a Config that a document can say.
SAYS = {
    "affinity", "balloon", "boot", "cgroup", "cmdline", "cpus", "disks", "hotplug", "hvc", "initrd", "irqchip", "jail",
    "kernel", "legacy", "memory", "modules", "nets", "packed", "ports", "rng", "rootfs", "shares", "vsock", "watchdog",
}  # fmt: skip


def config_of(document: dict[str, Any]) -> Config:
    """Return the machine that a checked document describes. A kernel's name is looked up now."""
    source, machine, ours = document.get("boot-source") or {}, document["machine-config"], document.get("minivm") or {}
    drives = document.get("drives") or []
    root = next((drive for drive in drives if drive.get("is_root_device")), None)
    boot = ours.get("format") or "auto"
    kernel = source.get("kernel_image_path")
    if kernel:
        from minivm.kernels.resolve import resolve

        kernel = resolve(kernel, boot)
    first = [source["initrd_path"]] if source.get("initrd_path") else []
    return Config(
        kernel or None,
        boot=boot,
        memory=machine["mem_size_mib"] * MIB,
        cmdline=source.get("boot_args") or "",
        irqchip={"kernel": True, "none": False}.get(ours.get("irqchip") or ""),
        initrd=first + (ours.get("initrds") or []),
        modules=ours.get("modules") or [],
        cpus=machine["vcpu_count"],
        disks=[disk_of(drive) for drive in sorted(drives, key=lambda drive: drive is not root)],
        rng=document.get("entropy") is not None,
        hvc=ours.get("console") == "virtio",
        rootfs=_rootfs(root, ours),
        affinity=[parse_affinity(text) for text in ours.get("cpu_affinity") or []],
        cgroup=ours.get("cgroup") or "",
        nets=tuple(net_of(card) for card in document.get("network-interfaces") or []),
        ports=[(port["name"], port["path"]) for port in ours.get("ports") or []],
        vsock=_vsock(document.get("vsock")),
        balloon=document["balloon"]["amount_mib"] * MIB if document.get("balloon") else None,
        shares=[Share(share["path"], share["tag"], bool(share.get("read_only"))) for share in ours.get("shares") or []],
        watchdog=bool(ours.get("watchdog")),
        hotplug=_hotplug(document.get("memory-hotplug"), ours),
        packed=not ours.get("split_queues"),
        jail=bool(ours.get("jail")),
        legacy=ours.get("virtio") == "legacy",
    )


def _hotplug(said: dict[str, Any] | None, ours: dict[str, Any]) -> Hotplug | None:
    return Hotplug(said["total_size_mib"] * MIB, (ours.get("plugged_mib") or 0) * MIB) if said else None


def _vsock(said: dict[str, Any] | None) -> Vsock | None:
    return Vsock(said["uds_path"], said["guest_cid"]) if said else None


def _rootfs(root: dict[str, Any] | None, ours: dict[str, Any]) -> Rootfs | None:
    """Return what Linux has as its root, where the initramfs is to be made here: a directory, or the root drive."""
    path = ours.get("root_directory") or (root["path_on_host"] if root else "")
    if not path:
        return None
    read_only = bool(root and root.get("is_read_only"))
    modules, program = ours.get("modules_directory") or "", _program(ours.get("program"))
    return Rootfs(path, command=ours.get("init") or "", modules=modules, read_only=read_only, program=program)


def _program(said: dict[str, Any] | None) -> Program | None:
    """Return what the agent runs; what is not said is as a Program has it."""
    if said is None:
        return None
    return Program(said["args"], **{name: value for name, value in said.items() if name != "args" and value is not None})


def document_of(config: Config, kernel: str | None = None) -> dict[str, Any]:
    """Return a machine as a document; paths in it are absolute, as whoever starts it may stand elsewhere.

    Args:
        kernel: how the kernel was named, if not by a path.

    Raises MinivmError for what a document cannot say, DocumentError.
    """
    for name in Config.__slots__:
        if name not in SAYS and getattr(config, name) != getattr(Config(), name):
            raise MinivmError(f"{name}: not implemented for a machine by name")
    root = config.rootfs
    source = {"kernel_image_path": kernel or _absolute(config.kernel), "boot_args": config.cmdline or None}
    ours = {
        "format": config.boot if config.boot != "auto" else None,
        "console": "virtio" if config.hvc else None,
        "irqchip": {True: "kernel", False: "none", None: None}[config.irqchip],
        "initrds": [_absolute(path) for path in config.initrd],
        "modules": [_absolute_module(words) for words in config.modules],
        "root_directory": _absolute(root.path) if root and os.path.isdir(root.path) else None,
        "init": root.command if root else None,
        "modules_directory": _absolute(root.modules) if root and root.modules else None,
        "cpu_affinity": [",".join(map(str, sorted(cpus))) for cpus in config.affinity],
        "cgroup": config.cgroup,
        "ports": [{"name": name, "path": _absolute(path)} for name, path in config.ports],
        "watchdog": config.watchdog,
        "jail": config.jail,
        "plugged_mib": config.hotplug.requested // MIB if config.hotplug else 0,
        "split_queues": not config.packed,
        "virtio": "legacy" if config.legacy else None,
        "shares": [_said_share(share) for share in config.shares],
        "program": _said_program(root.program) if root else None,
    }
    document: dict[str, Any] = {
        "boot-source": _said(source),
        "drives": [drive_of(n, disk, n == 0 and _is_root(disk, root)) for n, disk in enumerate(config.disks)],
        "network-interfaces": [card_of(number, net) for number, net in enumerate(config.nets)],
        "machine-config": {"vcpu_count": config.cpus, "mem_size_mib": -(-config.memory // MIB)},
        "minivm": _said(ours),
    }
    if config.rng:
        document["entropy"] = {}
    if config.hotplug:
        document["memory-hotplug"] = {"total_size_mib": config.hotplug.size // MIB}
    if config.balloon is not None:
        document["balloon"] = {"amount_mib": config.balloon // MIB, "deflate_on_oom": True}
    if config.vsock:
        document["vsock"] = {"guest_cid": config.vsock.cid, "uds_path": _absolute(config.vsock.path)}
    return check({name: value for name, value in document.items() if value or name == "entropy"})


def absolute(document: dict[str, Any], directory: str) -> dict[str, Any]:
    """Return a checked document with absolute paths.

    Args:
        directory: where the machine file is: that is where relative paths in it begin. A kernel's name stays a name.
    """
    import copy

    made = copy.deepcopy(document)
    source, ours = made.get("boot-source") or {}, made.get("minivm") or {}
    places = [(source, "initrd_path"), (ours, "root_directory"), (ours, "modules_directory")]
    places += [(made.get("vsock") or {}, "uds_path"), *((port, "path") for port in ours.get("ports") or [])]
    places += [(share, "path") for share in ours.get("shares") or []]
    for drive in made.get("drives") or []:
        places += [(drive, "path_on_host"), *((drive.get("minivm") or {}, name) for name in ("overlay", "base"))]
    if is_path(source.get("kernel_image_path") or "", directory):
        places.append((source, "kernel_image_path"))
    for section, name in places:
        if section.get(name):
            section[name] = os.path.normpath(os.path.join(directory, section[name]))
    if ours.get("initrds"):
        ours["initrds"] = [os.path.normpath(os.path.join(directory, path)) for path in ours["initrds"]]
    if ours.get("modules"):
        ours["modules"] = [_absolute_module(words, directory) for words in ours["modules"]]
    return made


def _is_root(disk: Disk, root: Rootfs | None) -> bool:
    return root is not None and root.path == disk.path


def _said_program(program: Program | None) -> dict[str, Any] | None:
    if program is None:
        return None
    said = _said({name: getattr(program, name) for name in Program.__slots__})
    return {name: list(value) if name in ("args", "env") else value for name, value in said.items()}


def _said_share(share: Share) -> dict[str, Any]:
    said = {"path": os.path.abspath(share.path), "tag": share.tag}
    return {**said, "read_only": True} if share.read_only else said


def _said(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value}


def _absolute(path: str | None) -> str | None:
    return os.path.abspath(path) if path else None


def _absolute_module(words: str, directory: str = "") -> str:
    path, space, rest = words.partition(" ")
    return f"{os.path.abspath(os.path.join(directory, path))}{space}{rest}"
