"""What a machine is asked to be: plain data, from the command line or from a caller."""

from __future__ import annotations

from minivm.errors import UsageError
from minivm.machine.devices import Balloon, Console, Disk, Hotplug, Rng, parse_disk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from minivm.machine.devices import Net, Share, Vsock

__all__ = [
    "HOTPLUG_BLOCK", "Config", "Disk", "Program", "Rootfs", "host_memory", "parse_affinity", "parse_disk", "parse_hotplug",
    "parse_size",
]  # fmt: skip

MINIMUM = 1 << 20
PROCESSORS = 8192  # more than any host has: CONFIG_NR_CPUS at its largest
HOTPLUG_BLOCK, HOTPLUG_MOST = 2 << 20, 1 << 40  # it costs nothing until it is plugged: it may be more than the host has now
UNITS = {"b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


class Config:
    """One machine's settings."""

    __slots__ = (
        "affinity", "balloon", "boot", "cgroup", "cmdline", "cpus", "disks", "hotplug", "hvc", "initrd", "irqchip", "jail",
        "kernel", "legacy", "memory", "modules", "nets", "packed", "ports", "rng", "rootfs", "shares", "vsock", "watchdog",
    )  # fmt: skip

    def __init__(
        self,
        kernel: str | None = None,
        *,
        boot: str = "auto",
        memory: int = 64 << 20,
        cmdline: str = "",
        irqchip: bool | None = None,
        initrd: Sequence[str] = (),
        modules: Sequence[str] = (),
        cpus: int = 1,
        disks: Sequence[Disk] = (),
        rng: bool = False,
        hvc: bool = False,
        rootfs: Rootfs | None = None,
        affinity: Sequence[set[int]] = (),
        cgroup: str = "",
        nets: Sequence[Net] = (),
        ports: Sequence[tuple[str, str]] = (),
        vsock: Vsock | None = None,
        shares: Sequence[Share] = (),
        balloon: int | None = None,
        watchdog: bool = False,
        hotplug: Hotplug | None = None,
        packed: bool = True,
        jail: bool = False,
        legacy: bool = False,
    ) -> None:
        self.kernel = kernel  # path; None is the in-tree guest
        self.boot = boot  # "auto" or a key of minivm.boot.formats.FORMATS
        self.memory = memory  # bytes
        self.cmdline = cmdline
        self.irqchip = irqchip  # PICs, IOAPIC and PIT in the host kernel; None is what the boot format expects
        self.initrd = initrd  # paths; joined in this order, as Linux unpacks them one after the other
        self.cpus = cpus  # virtual processors
        self.disks = disks
        self.nets = nets
        self.vsock = vsock
        self.shares = shares  # directories of the host; with one, guest memory is a memfd that virtiofsd maps too
        self.packed = packed  # whether virtio devices offer packed queues besides split ones
        self.jail = jail  # whether the process is to give up its rights once the machine is built (jail.py)
        self.legacy = legacy  # whether they are for drivers that are older than VIRTIO 1.0 (minivm/devices/virtio/legacy.py)
        self.hotplug = hotplug
        self.watchdog = watchdog  # whether there is one (minivm/devices/watchdog.py)
        self.balloon = balloon  # bytes that a virtio-balloon holds at first; None: there is none
        self.ports = ports  # of the virtio-console: (name in the guest, path of the host's socket)
        self.rng = rng  # whether there is a virtio-rng
        self.rootfs = rootfs
        self.hvc = hvc  # whether there is a virtio-console, and input goes there rather than to the UART
        self.affinity = affinity  # which of the host's processors may run each vCPU; one set is for all of them
        self.cgroup = cgroup  # directory of a control group that the process is to be in; "" leaves it where it is
        self.modules = modules  # for Multiboot: "path" or "path words"

    def virtio(self) -> list[Any]:
        """Return what the virtio devices are to be (minivm/machine/devices.py), in the order of their slots."""
        console = [Console(self.ports)] if self.hvc or self.ports else []
        vsock = [self.vsock] if self.vsock else []
        balloon = [Balloon(self.balloon)] if self.balloon is not None else []
        hotplug = [self.hotplug] if self.hotplug else []
        return [*self.disks, *[Rng()] * self.rng, *console, *self.nets, *vsock, *balloon, *hotplug, *self.shares]


class Rootfs:
    """What Linux is to have as its root, by way of an initramfs that is made here."""

    __slots__ = ("command", "modules", "path", "program", "read_only")

    def __init__(
        self, path: str, *, command: str = "", modules: str = "", read_only: bool = False, program: Program | None = None
    ) -> None:
        self.program = program  # what the agent runs there (boot/agent.py), rather than a script
        self.path = path  # a directory, or an image of a file system, which becomes the first disk
        self.command = command  # what to run there; "" is its own init
        self.modules = modules  # directory of the kernel's modules; "" is to be found
        self.read_only = read_only


class Program:
    """What a machine made of an image runs, and how."""

    __slots__ = ("args", "cwd", "env", "hostname", "stop_signal", "terminal", "user")

    def __init__(
        self,
        args: Sequence[str],
        *,
        env: Sequence[str] = (),
        cwd: str = "/",
        user: str = "",
        hostname: str = "minivm",
        terminal: bool = False,
        stop_signal: int = 15,
    ) -> None:
        self.args = args  # the first one is looked up in PATH
        self.env = env  # NAME=VALUE
        self.cwd = cwd
        self.user = user  # USER[:GROUP], looked up in the root; "" is root
        self.hostname = hostname
        self.terminal = terminal  # somebody sits at the console
        self.stop_signal = stop_signal  # what a press of the power button sends it


def parse_affinity(text: str) -> set[int]:
    """Return the processors that a list as taskset writes it means: 0,2-3. Raises UsageError."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not (text.isascii() and first.isdecimal()) or (dash and not last.isdecimal()) or len(part) > 9:
            raise UsageError(f"processors {text!r}: write a list as 0,2-3")
        numbers = range(int(first), int(last or first) + 1)
        if not numbers or numbers[-1] >= PROCESSORS:
            raise UsageError(f"processors {text!r}: {part} names none that a host may have")
        found.update(numbers)
    return found


def parse_size(text: str, most: int | None = None, what: str = "memory size") -> int:
    """Return the bytes that a size as docker writes it means: 64m, 1g, 1048576, 512kb.

    Args:
        text: a number and a unit of b, k, m, g, t (also kb, kib ...), binary multiples; no unit is bytes.
        most: the largest acceptable; by default the memory of this host.
        what: it is a size of, for errors.

    Returns a multiple of 4096, rounded up. Raises UsageError.
    """
    number = text.strip().lower()
    digits = number.rstrip("bkmgti")
    unit = number[len(digits) :]
    if unit not in ("", "b") and (len(unit) > 3 or unit[0] not in "kmgt" or unit[1:] not in ("", "b", "ib")):
        raise UsageError(f"{what} {text!r}: the unit must be b, k, m, g or t")
    try:
        size = float(digits) * UNITS[unit[:1] or "b"]
    except ValueError:
        raise UsageError(f"{what} {text!r}: write a number and a unit, as 64m or 1g") from None
    if not size >= MINIMUM:
        meant = f" (without a unit it is bytes: {digits}m?)" if not unit and size > 0 else ""
        raise UsageError(f"{what} {text!r} is too small: 1m is the least{meant}")
    if most is None and size > host_memory():
        raise UsageError(f"{what} {text!r} is more than this host has ({host_memory() >> 20}m)")
    if most is not None and size > most:
        raise UsageError(f"{what} {text!r} is too large: {most >> 20}m is the most")
    return -(-int(size) // 4096) * 4096


def parse_hotplug(text: str) -> Hotplug:
    """Return what `SIZE[,plugged=SIZE]` means, in whole blocks of 2 MiB. Raises UsageError."""
    words = text.split(",plugged=")
    sizes = [parse_size(word, HOTPLUG_MOST, "--hotplug size") if word.strip("0") else 0 for word in words]
    if len(sizes) > 2 or not sizes[0] or any(size % HOTPLUG_BLOCK for size in sizes) or sizes[-1] > sizes[0]:
        raise UsageError(f"--hotplug {text!r}: write SIZE[,plugged=SIZE], multiples of 2m, the second not above the first")
    return Hotplug(sizes[0], sizes[1] if len(sizes) > 1 else 0)


def host_memory() -> int:
    """Return the bytes of RAM of this host."""
    import os

    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
