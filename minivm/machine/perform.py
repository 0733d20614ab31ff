"""What each call of the plan does to a machine: one function a call, `do_` and its name, in the order of the plan.

Each takes the machine and the arguments that stand in the plan, makes the call, says at machine.undo how to take it back, and
returns the result with what is now different, in words.
"""

from __future__ import annotations

import os

from minivm import kvm
from minivm.errors import MinivmError
from minivm.machine.mapping import file_behind, read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from socket import socket
    from typing import Any

    from minivm.boot.start import Bytes
    from minivm.machine.machine import Machine

    Done = tuple[int, tuple[str, ...]]  # a call's result, and what is now different

__all__ = ["Made", "function"]


class Made:
    """What the calls so far have left for those to come."""

    __slots__ = (
        "connector", "eventfd", "irqchip", "leaves", "memfd", "offered", "opened", "run_size", "shown_as", "sregs", "system",
        "vcpu_fds", "vm",
    )  # fmt: skip

    def __init__(self) -> None:
        self.system = self.vm = -1
        self.vcpu_fds: list[int] = []
        self.run_size = 0  # bytes of struct kvm_run, with what follows it
        self.irqchip = False
        self.offered: set[str] = set()  # capabilities
        self.leaves: Any = None  # of CPUID
        self.sregs: Any = None
        self.opened: list[int] = []  # for the device that comes next
        self.shown_as: dict[str, str] = {}  # path of a disk -> a file where it is shown as raw
        self.eventfd = self.memfd = -1  # made last
        self.connector: socket | None = None  # leads to who connects for the guest


def function(call: str) -> Callable[..., Done]:
    """Return what performs a call of the plan, by its kernel name."""
    found: Callable[..., Done] = globals()["do_" + call.lower()]
    return found


def do_open(machine: Machine, path: str) -> Done:
    machine.made.system = fd = kvm.open_kvm(path)
    machine.undo("close kvm", lambda: kvm.close(fd))
    return fd, (f"descriptor {fd} is the kernel's KVM interface",)


def do_kvm_get_api_version(machine: Machine) -> Done:
    version = kvm.get_api_version(machine.made.system)
    if version != kvm.lib.KVM_API_VERSION:
        raise MinivmError(f"this kernel's KVM interface is version {version}, and minivm needs 12")
    return version, ()


def do_kvm_check_extension(machine: Machine, capability: str, optional: bool = False) -> Done:
    value = kvm.check_extension(machine.made.system, capability)
    if value:
        machine.made.offered.add(capability)
    elif not optional:
        raise MinivmError(f"this kernel's KVM lacks {capability}: `minivm doctor` shows what it has")
    return value, ()


def do_kvm_create_vm(machine: Machine, kind: int) -> Done:
    machine.made.vm = fd = kvm.create_vm(machine.made.system, kind)
    machine.undo("close vm", lambda: kvm.close(fd))
    return fd, (f"descriptor {fd} is the machine",)


def do_kvm_set_identity_map_addr(machine: Machine, address: int) -> Done:
    kvm.set_identity_map_addr(machine.made.vm, address)
    return 0, ()


def do_kvm_set_tss_addr(machine: Machine, address: int) -> Done:
    kvm.set_tss_addr(machine.made.vm, address)
    return 0, ()


def do_kvm_create_irqchip(machine: Machine) -> Done:
    kvm.create_irqchip(machine.made.vm)
    machine.made.irqchip = True
    return 0, ("ports 0x20, 0x21, 0xa0, 0xa1 and addresses 0xfec00000, 0xfee00000 are answered by the kernel",)


def do_kvm_create_pit2(machine: Machine, flags: str) -> Done:
    kvm.create_pit2(machine.made.vm, getattr(kvm.lib, flags))
    return 0, ("ports 0x40 to 0x43 and 0x61 are answered by the kernel",)


def do_write(machine: Machine, path: str) -> Done:
    from minivm.machine.placement import join_cgroup

    join_cgroup(path)
    return 0, (f"this process is in the control group {path}",)


def do_fork(machine: Machine, path: str) -> Done:
    from minivm.machine.connector import start

    connector = start(path)
    machine.made.connector = connector.end
    machine.undo(f"wait4 {connector.pid}", connector.stop)
    return connector.pid, (f"process {connector.pid} connects to {path}_PORT when it is told a PORT",)


def do_openat(machine: Machine, path: str, flags: str) -> Done:
    from minivm.machine.host import open_file

    fd = open_file(machine.made.shown_as.get(path, path), flags)
    machine.made.opened.append(fd)
    machine.undo(f"close {path}", lambda: kvm.close(fd))
    return fd, (f"descriptor {fd} is {path}",)


def do_flock(machine: Machine, shared: bool) -> Done:
    from minivm.machine.host import lock_file

    lock_file(machine.made.opened[-1], shared)
    return 0, ()


def do_tunsetiff(machine: Machine, name: str, flags: str) -> Done:
    from minivm.machine.host import become_tap

    become_tap(machine.made.opened[-1], name, flags)
    return 0, (f"what we write comes in at {name}",)


def do_tunsetvnethdrsz(machine: Machine, size: int) -> Done:
    from minivm.machine.host import set_header_size

    set_header_size(machine.made.opened[-1], size)
    return 0, ()


def do_socketpair(machine: Machine, kind: str) -> Done:
    from minivm.machine.host import socket_pair

    pair = socket_pair()
    machine.made.opened.extend(pair)
    machine.undo(f"close {kind} pair", lambda: kvm.close(*pair))
    return 0, ()


def do_execve(machine: Machine, program: str, **args: Any) -> Done:
    from minivm.machine.helpers import start

    helper = start(program, machine, **args)
    machine.undo(f"kill {program}", helper.stop)
    return helper.pid, (f"process {helper.pid} is {program}",)


def do_eventfd2(machine: Machine, device: str) -> Done:
    machine.made.eventfd = fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    machine.undo(f"close eventfd of {device}", lambda: kvm.close(fd))
    return fd, ()


def do_kvm_irqfd(machine: Machine, device: str, address: int, gsi: int) -> Done:
    from minivm.machine.virtio import transport

    kvm.irqfd(machine.made.vm, machine.made.eventfd, gsi)
    made = transport(machine, len(machine.transports), machine.made.eventfd)
    machine.undo(f"close virtio-{device}", made.close)
    machine.made.opened.clear()
    machine.transports.append(made)
    machine.memory_bus.add(address, made)
    if device == "console" and machine.config.hvc:
        machine.hvc = made.device  # type: ignore[assignment]
    return 0, (f"a virtio-{device} answers at {address:#x}",)


def do_kvm_ioeventfd(machine: Machine, device: str, address: int, queue: int) -> Done:
    from minivm.devices.virtio.mmio import QUEUE_NOTIFY

    kvm.ioeventfd(machine.made.vm, machine.made.eventfd, address + QUEUE_NOTIFY, queue)
    machine.transports[-1].kick(queue, machine.made.eventfd)
    return 0, (f"virtio-{device} is woken by writes of {queue} to {address + QUEUE_NOTIFY:#x}",)


def do_mmap(
    machine: Machine, length: int = 0, fd: str = "", what: str = "", data: Bytes = b"", address: int = 0, offset: int = 0
) -> Done:
    if data:
        return map_file(machine, address, length, data, offset)
    return map_run(machine, fd) if fd else map_registers(machine, length) if what else map_memory(machine, length)


def map_file(machine: Machine, address: int, length: int, data: Bytes, offset: int) -> Done:
    file = file_behind(data)
    assert file is not None
    for base, pages in machine.memory:
        if base <= address < base + pages.size:
            pages.map_file(address - base, length, file.fd, offset)
    file.forget()  # what was read of its headers: the guest's mapping is another
    return length, ()


def do_memfd_create(machine: Machine, length: int) -> Done:
    from minivm.machine.host import shared_memory

    machine.made.memfd = fd = shared_memory(length)
    machine.undo("close memfd", lambda: kvm.close(fd))
    return fd, (f"descriptor {fd} is {length >> 10} KiB of memory",)


def map_memory(machine: Machine, length: int) -> Done:
    pages = kvm.GuestMemory(length, machine.made.memfd)
    machine.made.memfd = -1
    base = machine.memory[-1][0] + machine.memory[-1][1].size if machine.memory else 0
    machine.memory.append((base, pages))  # the slot, next in the plan, says where it really is
    machine.undo("munmap memory", pages.close)
    return 0, (f"{length >> 10} KiB at {pages.address:#x} of this process are to be the guest's",)


def map_registers(machine: Machine, length: int) -> Done:
    machine.registers = pages = kvm.GuestMemory(length)
    machine.undo("munmap registers", pages.close)
    return 0, (f"{length >> 10} KiB at {pages.address:#x} are to be registers",)


def map_run(machine: Machine, name: str) -> Done:
    vcpu = kvm.Vcpu(machine.made.vcpu_fds[int(name[4:])], machine.made.run_size)
    machine.vcpus.append(vcpu)
    machine.undo("munmap kvm_run", vcpu.close)
    return 0, (f"{machine.made.run_size} bytes are shared with the kernel",)


def do_kvm_set_user_memory_region(machine: Machine, slot: int, address: int, length: int, flags: str = "") -> Done:
    pages = machine.registers if flags else machine.memory[slot][1]
    assert pages is not None
    kvm.set_user_memory_region(machine.made.vm, slot, address, pages, getattr(kvm.lib, flags) if flags else 0)
    if not flags:
        machine.memory[slot] = address, pages
    last = address + length - 1
    return 0, (f"guest-physical {address:#x} to {last:#x} is this process's {pages.address:#x} and on",)


def do_kvm_create_vcpu(machine: Machine, number: int) -> Done:
    fd = kvm.create_vcpu(machine.made.vm, number)
    machine.made.vcpu_fds.append(fd)
    machine.undo(f"close vcpu{number}", lambda: kvm.close(fd))
    return fd, (f"descriptor {fd} is the processor",)


def do_kvm_get_vcpu_mmap_size(machine: Machine) -> Done:
    machine.made.run_size = kvm.get_vcpu_mmap_size(machine.made.system)
    return machine.made.run_size, ()


def do_kvm_get_supported_cpuid(machine: Machine) -> Done:
    machine.made.leaves = kvm.get_supported_cpuid(machine.made.system)
    return 0, (f"{machine.made.leaves.nent} leaves",)


def do_kvm_set_cpuid2(machine: Machine, number: int) -> Done:
    from minivm.machine.cpuid import fit

    fit(machine.made.leaves, number, machine.config.cpus, "KVM_CAP_TSC_DEADLINE_TIMER" in machine.made.offered)
    kvm.set_cpuid2(machine.made.vcpu_fds[number], machine.made.leaves)
    return 0, ()


def do_kvm_set_msrs(machine: Machine, number: int, msrs: Mapping[int, int]) -> Done:
    done = kvm.set_msrs(machine.made.vcpu_fds[number], msrs)
    return done, () if done == len(msrs) else (f"this KVM has no MSR {list(msrs)[done]:#x}",)


def do_memcpy(machine: Machine, address: int, what: str, data: Bytes) -> Done:
    machine.bytes_at(address, len(data))[:] = data
    return len(data), ()


def do_preadv(machine: Machine, address: int, what: str, data: Bytes) -> Done:
    """Read rather than copy from where the file is mapped: there each page would be a page fault first."""
    file = file_behind(data)
    assert file is not None
    if read(machine.bytes_at(address, len(data)), file.fd, kvm.offset_in(file, memoryview(data))) < len(data):
        raise MinivmError(f"the file of {what} has become shorter than it was")
    file.forget()  # what was read of its headers would count as memory of this process
    return len(data), ()


def do_kvm_get_sregs(machine: Machine) -> Done:
    machine.made.sregs = kvm.get_sregs(machine.made.vcpu_fds[0])
    return 0, ()


def do_kvm_set_sregs(machine: Machine, **changes: Any) -> Done:
    for name, value in changes.items():
        if isinstance(value, int):
            setattr(machine.made.sregs, name, value)
        else:
            for field, number in value.items():
                setattr(getattr(machine.made.sregs, name), field, number)
    kvm.set_sregs(machine.made.vcpu_fds[0], machine.made.sregs)
    return 0, ()


def do_kvm_set_regs(machine: Machine, **registers: int) -> Done:
    kvm.set_regs(machine.made.vcpu_fds[0], kvm.new_regs(**registers))
    return 0, ()
