"""A machine is a list of ioctls: this file makes the list and calls none of them.

Each Operation is data: the call's kernel name, its arguments, the named step it belongs to and the reason for it.
perform.py performs the list; --plan prints it, --explain and --trace tell it as it happens, --fail makes one of it
fail. One function a step, in the order in which the machine is built.
"""

from __future__ import annotations

from minivm.boot import layout
from minivm.machine.mapping import file_behind, mappable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from minivm.boot.start import Start
    from minivm.machine.config import Config

__all__ = ["Operation", "machine_plan"]

# What minivm cannot do without, and why. Names are those of <linux/kvm.h>.
NEEDED = {
    "KVM_CAP_USER_MEMORY": "Guest memory shall be ordinary memory of this process.",
    "KVM_CAP_IMMEDIATE_EXIT": "Without it a signal that comes just before KVM_RUN would not stop the guest.",
}
NEEDED_IRQCHIP = {
    "KVM_CAP_IRQCHIP": "Interrupt controllers in the host kernel: no exit for each acknowledged interrupt.",
    "KVM_CAP_PIT2": "The timer next to them, so that a tick costs no exit either.",
}
NEEDED_VIRTIO = {
    "KVM_CAP_READONLY_MEM": "Registers of devices as memory that the guest may only read: no exit for each.",
    "KVM_CAP_IRQFD": "Interrupts raised by a thread that writes to an eventfd.",
    "KVM_CAP_IOEVENTFD": "Notifications of the guest as eventfds: no exit to this process.",
}

# Intel SDM volume 4: IA32_MISC_ENABLE bit 0; volume 3A, 12.11.2.1: IA32_MTRR_DEF_TYPE, enabled (bit 11), type 6.
MSRS = {0x1A0: 1 << 0, 0x2FF: 1 << 11 | 6}


class Operation:
    """One call that builds the machine."""

    __slots__ = ("args", "call", "step", "why")

    def __init__(self, step: str, call: str, why: str, **args: Any) -> None:
        self.step = step  # place, connector, open, vm, memory, irqchip, virtio, vcpu, boot, run
        self.call = call  # system call or ioctl, by its kernel name
        self.why = why  # one sentence for a learner
        self.args = args  # by name: numbers, strings, bytes, or mappings of register fields

    def shown(self) -> tuple[str, ...]:
        """Return the arguments decoded, one string each, as strace would."""
        return tuple(_show(name, value) for name, value in self.args.items())

    def as_dict(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        args = {name: f"{len(value)} bytes" if _is_bytes(value) else value for name, value in self.args.items()}
        return {"step": self.step, "call": self.call, "args": args, "why": self.why}


def _is_bytes(value: Any) -> bool:
    return isinstance(value, bytes | memoryview)


def machine_plan(config: Config, start: Start) -> list[Operation]:
    """Return the calls that make the machine that `config` asks for, with a guest that starts as `start` says.

    The last one is KVM_RUN, which is made again and again.
    """
    irqchip = start.irqchip if config.irqchip is None else config.irqchip
    operations: list[Operation] = []
    parts = (_place(config), _connector(config), _open(irqchip, bool(config.virtio())), _vm(), _memory(config), _irqchip(irqchip))
    for step in (*parts, _virtio(config), _vcpus(config, irqchip), _boot(start, config), _run()):
        operations.extend(step)
    return operations


def _place(config: Config) -> Iterator[Operation]:
    if config.cgroup:
        why = "Before there is any memory: what is touched from now on counts for this control group."
        yield Operation("place", "write", why, path=config.cgroup)


def _connector(config: Config) -> Iterator[Operation]:
    """Before there is a machine: the child has no part of it."""
    if config.jail and config.vsock:
        why = "In the jail no path leads to the sockets of the host's programs: this process will connect to them for the guest."
        yield Operation("connector", "fork", why, path=config.vsock.path)


def _open(irqchip: bool, virtio: bool) -> Iterator[Operation]:
    yield Operation(
        "open", "open", "The device that gives access to the processor's virtualisation.", path="/dev/kvm"
    )
    yield Operation("open", "KVM_GET_API_VERSION", "The stable interface is version 12; refuse any other.")
    needed = NEEDED | (NEEDED_IRQCHIP if irqchip else {}) | (NEEDED_VIRTIO if virtio else {})
    for capability, why in needed.items():
        yield Operation("open", "KVM_CHECK_EXTENSION", why, capability=capability)


def _vm() -> Iterator[Operation]:
    yield Operation(
        "vm", "KVM_CREATE_VM", "An empty machine, as a file descriptor: no memory, no processor.", kind=0
    )
    yield Operation(
        "vm",
        "KVM_SET_IDENTITY_MAP_ADDR",
        "An address that the guest does not use, for a page table that some Intel processors need in real mode.",
        address=layout.IDENTITY_MAP,
    )
    yield Operation(
        "vm",
        "KVM_SET_TSS_ADDR",
        "Three more pages, for a task state segment that the same processors need in real mode.",
        address=layout.TSS,
    )


def _memory(config: Config) -> Iterator[Operation]:
    """Before the irqchip: once that is there, each change of the slots waits for an RCU grace period, 6 to 10 ms."""
    ranges = layout.ram_ranges(config.memory)
    if config.hotplug:  # it is there, in name, from the start
        ranges.append((layout.hotplug_address(config.memory), config.hotplug.size))
    for slot, (address, length) in enumerate(ranges):
        if config.shares:
            why = "A file in memory alone: who serves a share is to map it too. Its size is sealed, so that nobody shortens it."
            yield Operation("memory", "memfd_create", why, length=length)
        yield Operation(
            "memory", "mmap", "Guest RAM is memory of this process; untouched pages cost nothing.", length=length
        )
        yield Operation(
            "memory",
            "KVM_SET_USER_MEMORY_REGION",
            "Show it to the guest: from here on a guest-physical address means something.",
            slot=slot,
            address=address,
            length=length,
        )
    if config.virtio():
        yield from _registers(len(ranges), len(config.virtio()) * layout.VIRTIO_SIZE)


def _registers(slot: int, length: int) -> Iterator[Operation]:
    yield Operation("memory", "mmap", "A page for the registers of each virtio device.", length=length, what="registers")
    why = "The guest reads them as memory, without an exit; a write is an exit as before."
    where = {"slot": slot, "address": layout.VIRTIO, "length": length}
    yield Operation("memory", "KVM_SET_USER_MEMORY_REGION", why, **where, flags="KVM_MEM_READONLY")


def _irqchip(wanted: bool) -> Iterator[Operation]:
    if wanted:
        yield Operation(
            "irqchip",
            "KVM_CREATE_IRQCHIP",
            "Two 8259 PICs, an IOAPIC, and a local APIC for each vCPU to come: `hlt` now waits inside the kernel.",
        )
        yield Operation(
            "irqchip",
            "KVM_CREATE_PIT2",
            "The 8254 timer, wired to IRQ 0; the flag silences the speaker port too.",
            flags="KVM_PIT_SPEAKER_DUMMY",
        )


def _virtio(config: Config) -> Iterator[Operation]:
    devices = config.virtio()
    for device, (address, gsi) in zip(devices, layout.virtio_slots(len(devices)), strict=True):
        yield from HOST_SIDE.get(device.kind, lambda _: ())(device)
        why = "A counter in the kernel: whoever writes to it raises the device's interrupt."
        yield Operation("virtio", "eventfd2", why, device=device.kind)
        why = f"From now on such a write pulses input {gsi} of the IOAPIC, with no further ioctl."
        yield Operation("virtio", "KVM_IRQFD", why, device=device.kind, address=address, gsi=gsi)
        for queue in device.kicked:
            yield from _kick(device.kind, address, queue)


def _disk(disk: Any) -> Iterator[Operation]:
    path = disk.path
    if disk.form == "qcow2":
        base = {"base": disk.base} if disk.base else {}
        why = "qemu-storage-daemon understands qcow2, and shows the disk in it as an ordinary file, by FUSE."
        yield Operation("virtio", "execve", why, program="qemu-storage-daemon", path=path, read_only=disk.shared, **base)
    flags = "O_RDONLY" if disk.shared else "O_RDWR"
    yield Operation("virtio", "openat", "The file that is the guest's disk.", path=path, flags=flags)
    yield Operation("virtio", "flock", "One machine writes to a disk, or several read it.", shared=disk.shared)
    if disk.overlay is not None:
        flags = "O_RDWR|O_CREAT" if disk.overlay else "O_RDWR|O_TMPFILE"
        why = "What the guest writes goes here; what it never wrote is read from the file before."
        yield Operation("virtio", "openat", why, path=disk.overlay or "/var/tmp", flags=flags)
        yield Operation("virtio", "flock", "An overlay belongs to one machine.", shared=False)


def _net(net: Any) -> Iterator[Operation]:
    if net.tap:
        yield Operation("virtio", "openat", "The device that makes taps.", path="/dev/net/tun", flags="O_RDWR|O_NONBLOCK")
        why = "This end of a network card of the host: what we write comes in there, and what it sends we read."
        yield Operation("virtio", "TUNSETIFF", why, name=net.tap, flags="IFF_TAP|IFF_NO_PI|IFF_VNET_HDR")
        why = "virtio-net's header stands before each frame, so that checksums and segments can be left to the host."
        yield Operation("virtio", "TUNSETVNETHDRSZ", why, size=12)
    else:
        yield Operation("virtio", "socketpair", "Frames will go over a stream between us and passt.", kind="AF_UNIX")
        why = "passt is the guest's network in user mode: it makes connections of the guest's packets, without rights."
        yield Operation("virtio", "execve", why, program="passt")


def _share(share: Any) -> Iterator[Operation]:
    why = "virtiofsd serves the directory, and sees nothing else of the host; we tell it where the guest's queues are."
    yield Operation("virtio", "execve", why, program="virtiofsd", path=share.path, read_only=share.read_only)


HOST_SIDE: dict[str, Callable[[Any], Iterable[Operation]]] = {"blk": _disk, "net": _net, "fs": _share}


def _kick(kind: str, address: int, queue: int) -> Iterator[Operation]:
    why = "A counter that wakes the device's thread."
    yield Operation("virtio", "eventfd2", why, device=kind)
    why = f"It counts the guest's notifications of queue {queue}; the vCPU goes on meanwhile."
    yield Operation("virtio", "KVM_IOEVENTFD", why, device=kind, address=address, queue=queue)


def _vcpus(config: Config, irqchip: bool) -> Iterator[Operation]:
    if irqchip:
        why = "Whether the local APIC's timer can wait for a value of the time stamp counter; CPUID is to say so."
        capability = "KVM_CAP_TSC_DEADLINE_TIMER"
        yield Operation("vcpu", "KVM_CHECK_EXTENSION", why, capability=capability, optional=True)
    yield Operation("vcpu", "KVM_GET_VCPU_MMAP_SIZE", "How large the structure is that we share with the kernel.")
    yield Operation("vcpu", "KVM_GET_SUPPORTED_CPUID", "Which processor features host and kernel can offer a guest.")
    for number in range(config.cpus):
        yield from _vcpu(number)


def _vcpu(number: int) -> Iterator[Operation]:
    why = "It waits for the first one's start-up interrupt." if number else "It is the one that starts."
    why = f"A processor, in its state after reset; its APIC id is {number}. {why}"
    yield Operation("vcpu", "KVM_CREATE_VCPU", why, number=number)
    why = "struct kvm_run: here the kernel writes why the guest stopped, and we our answer."
    yield Operation("vcpu", "mmap", why, fd=f"vcpu{number}")
    why = "What its CPUID instruction will answer: all of those features, and which processor of how many this is."
    yield Operation("vcpu", "KVM_SET_CPUID2", why, number=number)
    why = "Two registers as firmware leaves them: fast string instructions on, and memory cached (write-back)."
    yield Operation("vcpu", "KVM_SET_MSRS", why, number=number, msrs=MSRS)


def _boot(start: Start, config: Config) -> Iterator[Operation]:
    for piece in start.pieces:
        # What is shared is copied: another process would not see a mapping that is put in place of the memfd's pages.
        length, place = mappable(piece, config.memory) if not config.shares else (0, 0)
        if length:
            why = f"{piece.why} Not copied: the file's own pages, until the guest writes to one."
            args = {"address": piece.address, "what": piece.what, "length": length, "offset": place}
            yield Operation("boot", "mmap", why, **args, data=piece.data[:length])
        if length < len(piece.data):
            rest = piece.data[length:]
            call = "preadv" if file_behind(rest) else "memcpy"
            yield Operation("boot", call, piece.why, address=piece.address + length, what=piece.what, data=rest)
    yield Operation("boot", "KVM_GET_SREGS", "The special registers as after reset: real mode, at the end of 4 GiB.")
    yield Operation("boot", "KVM_SET_SREGS", start.why_sregs, **start.sregs)
    yield Operation("boot", "KVM_SET_REGS", start.why_regs, **start.regs)


def _run() -> Iterator[Operation]:
    yield Operation(
        "run", "KVM_RUN", "Enter the guest; return when it needs something of us. Again and again, until it ends."
    )


# Bits with names that a reader of a listing wants to see.
BITS = {
    "cr0": {0: "PE", 1: "MP", 4: "ET", 5: "NE", 16: "WP", 31: "PG"},
    "cr4": {5: "PAE", 7: "PGE"},
    "efer": {0: "SCE", 8: "LME", 10: "LMA", 11: "NXE"},
}


def _show(name: str, value: Any) -> str:
    """Return `name=value`, short enough for one line."""
    if name in BITS:
        return f"{name}={'|'.join(bit for number, bit in BITS[name].items() if value >> number & 1)}"
    if value is True:
        return name
    if _is_bytes(value):
        return f"{len(value)} bytes"
    if isinstance(value, str):
        return value if name in ("what", "capability", "flags") else f'{name}="{value}"'
    if isinstance(value, int):
        return f"{name}={value:#x}" if value > 9 else f"{name}={value}"
    if name == "msrs":
        return ", ".join(f"{number:#x}={setting:#x}" for number, setting in value.items())
    inside = {"l": "64-bit", "base": f"base={value.get('base', 0):#x}"}
    if "selector" in value:
        mode = " 64-bit" if value.get("l") else ""
        return f"{name}={value['selector']:#x}{mode}"
    return f"{name}={inside['base']}"
