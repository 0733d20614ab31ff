"""From the words that describe a machine (words.add_machine) to its Config."""

from __future__ import annotations

import os

from minivm.errors import UsageError
from minivm.machine.config import Config, Disk, Rootfs, parse_affinity, parse_disk, parse_hotplug, parse_size
from minivm.machine.devices import LEGACY_KINDS, MOST_PORTS, parse_net, parse_port, parse_share, parse_vsock

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from minivm.machine.devices import Share

__all__ = ["config_of", "kernel_name"]


def config_of(options: argparse.Namespace) -> Config:
    """Return the machine that the words describe. Raises UsageError."""
    name = kernel_name(options)
    kernel = _kernel(name, options.boot)
    memory = parse_size(options.memory or ("256m" if kernel != name else "64m"))
    config = Config(
        kernel,
        boot=options.boot,
        memory=memory,
        cmdline=options.cmdline,
        irqchip={"kernel": True, "none": False, None: None}[options.irqchip],
        initrd=options.initrd,
        modules=options.module,
        cpus=_cpus(options),
        disks=_disks(options),
        nets=tuple(parse_net(text) for text in options.net),
        shares=_shares(options),
        ports=_ports(options),
        balloon=_balloon(options, memory),
        watchdog=options.watchdog,
        hotplug=parse_hotplug(options.hotplug) if options.hotplug is not None else None,
        packed=not options.split_queues,
        legacy=options.virtio == "legacy",
        vsock=parse_vsock(options.vsock) if options.vsock is not None else None,
        rootfs=_rootfs(options, name),
        rng=options.rng,
        hvc=options.console == "virtio",
        affinity=_affinity(options),
        cgroup=options.cgroup,
        jail=options.jail,
    )
    if config.irqchip is False and config.virtio():
        raise UsageError("virtio devices need --irqchip kernel: they interrupt through the IOAPIC")
    if config.legacy:
        _check_legacy(config)
    return config


def kernel_name(options: argparse.Namespace) -> str | None:
    """Return what the kernel is called, by whichever word it was given."""
    if options.kernel and options.kernel_option:
        raise UsageError("the kernel is named twice: as KERNEL and by --kernel")
    name: str | None = options.kernel or options.kernel_option
    return name


def _kernel(name: str | None, boot: str) -> str | None:
    """Return the kernel's path; one that is kept may be named (minivm kernel ls)."""
    if not name:
        return None
    from minivm.kernels.resolve import resolve

    return resolve(name, boot)


def _cpus(options: argparse.Namespace) -> int:
    """Return how many processors, 1 to 254: 255 is everybody in an APIC id of 8 bits."""
    count: int = options.cpus
    if not 1 <= count <= 254:
        raise UsageError(f"--cpus {count}: 1 to 254")
    if count > 1 and options.irqchip == "none":
        raise UsageError(f"--cpus {count} needs --irqchip kernel: processors start each other through their local APICs")
    return count


def _affinity(options: argparse.Namespace) -> list[set[int]]:
    lists = [parse_affinity(text) for text in options.cpu_affinity.split(":")] if options.cpu_affinity else []
    if len(lists) > 1 and len(lists) != options.cpus:
        raise UsageError(f"--cpu-affinity {options.cpu_affinity!r}: one list, or one for each of {options.cpus} processors")
    return lists


def _disks(options: argparse.Namespace) -> list[Disk]:
    """Return the disks: a root that is an image comes first."""
    root = [parse_disk(options.rootfs)] if options.rootfs and not os.path.isdir(options.rootfs) else []
    return root + [parse_disk(text) for text in options.disk]


def _balloon(options: argparse.Namespace, memory: int) -> int | None:
    if options.balloon is None:
        return None
    size = parse_size(options.balloon, what="--balloon size") if options.balloon.strip("0") else 0
    if size > memory:
        raise UsageError(f"--balloon {options.balloon}: more than the machine's memory, which is {memory >> 20}m")
    return size


def _ports(options: argparse.Namespace) -> tuple[tuple[str, str], ...]:
    ports = tuple(parse_port(text) for text in options.port)
    if len(ports) > MOST_PORTS:
        raise UsageError(f"--port: {len(ports)} ports are too many; {MOST_PORTS} is the most")
    _check_twins("--port", [name for name, _ in ports])
    return ports


def _shares(options: argparse.Namespace) -> tuple[Share, ...]:
    shares = tuple(parse_share(text) for text in options.share)
    _check_twins("--share", [share.tag for share in shares])
    return shares


def _check_twins(flag: str, names: list[str]) -> None:
    """Refuse a name that is given twice: the guest could not tell one from the other."""
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{flag}: two are called {name!r}")


def _check_legacy(config: Config) -> None:
    """Refuse devices that no driver from before VIRTIO 1.0 knows."""
    flags = {"fs": "--share (-v)", "mem": "--hotplug", "vsock": "--vsock"}
    for device in config.virtio():
        if device.kind not in LEGACY_KINDS:
            raise UsageError(f"{flags[device.kind]} needs --virtio modern: virtio-{device.kind} has no legacy interface")


def _rootfs(options: argparse.Namespace, kernel: str | None) -> Rootfs | None:
    if options.rootfs is None:
        if options.init or options.modules:
            raise UsageError("--init and --modules are for --rootfs")
        return None
    if kernel is None:
        raise UsageError("--rootfs is for a Linux: name its kernel, as debian-cloud")
    disk = Disk(options.rootfs) if os.path.isdir(options.rootfs) else parse_disk(options.rootfs)
    return Rootfs(disk.path, command=options.init, modules=options.modules, read_only=disk.read_only)
