"""Inside the machine: hold what would have the kernel patch its own code while the job runs. Says "held", and stays.

The kernel's static keys (Documentation/staging/static-keys.rst) are branches that are rewritten in place when the first user
of something comes and when the last one goes, by way of an int3. Each virtual machine that a test makes and ends would
rewrite KVM's, each container with a quota or a filter for devices those of cgroups. Under emulation that is a race: QEMU
(TCG with a thread a processor) forgets its translation of the changed place before the byte changes, and a processor
that comes by in between translates the old one anew, keeps it, and runs into an int3 that is gone: a panic. So there is
one user of each for as long as the lab runs, and the keys do not change again. (tests/lab/keys_stress.py makes and ends
users in a hurry: without this file that machine lives for seconds.)

    KVM                  any vCPU without a local APIC in the kernel; any whose APIC is switched off; a task that wants to
                         hear of preemption
    cgroups              any group with a quota of processor time; with a BPF program for devices, or for packets
    time stamps          any socket that wants to know when a packet came
    performance events   any that follows a process, as a breakpoint in hardware does that a debugger, or CRIU, sets (man 2 ptrace)
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import time

KVM_CREATE_VM, KVM_CREATE_VCPU, KVM_CREATE_IRQCHIP = 0xAE01, 0xAE41, 0xAE60  # linux/kvm.h
GROUP = "/sys/fs/cgroup/held"
SYS_BPF, BPF_PROG_LOAD, BPF_PROG_ATTACH = 321, 5, 8  # asm/unistd_64.h, linux/bpf.h
SYS_PERF_EVENT_OPEN, PERF_FLAG_FD_CLOEXEC = 298, 8  # linux/perf_event.h
DUMMY = struct.pack("<IIQ48x", 1, 64, 9)  # PERF_TYPE_SOFTWARE, the attributes' size, PERF_COUNT_SW_DUMMY: it counts nothing
SKB, DEVICE = 8, 15  # program types
ATTACHED = ((SKB, 0), (SKB, 1), (DEVICE, 6))  # with the places: incoming packets, outgoing packets, devices
ALLOW = struct.pack("<BBhiBBhi", 0xB7, 0, 0, 1, 0x95, 0, 0, 0)  # r0 = 1; exit
SO_TIMESTAMP = 29  # asm-generic/socket.h


def hold_kvm() -> list[int]:
    """Make a machine whose vCPU has no APIC in the kernel, and one whose vCPU has one, switched off as after reset.

    Returns the descriptors that keep them.
    """
    kvm = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
    without, with_apic = (fcntl.ioctl(kvm, KVM_CREATE_VM, 0) for _ in range(2))
    fcntl.ioctl(with_apic, KVM_CREATE_IRQCHIP, 0)
    return [kvm, without, with_apic, *(fcntl.ioctl(vm, KVM_CREATE_VCPU, 0) for vm in (without, with_apic))]


def hold_cgroups() -> None:
    """Make an empty group with a quota and with programs that allow everything."""
    os.mkdir(GROUP)
    with open(f"{GROUP}/cpu.max", "w") as file:
        file.write("100000 100000")
    group = os.open(GROUP, os.O_RDONLY | os.O_DIRECTORY)
    for kind, place in ATTACHED:
        program = bpf(BPF_PROG_LOAD, struct.pack("<IIQQ", kind, 2, address(ALLOW), address(b"GPL\0")))
        bpf(BPF_PROG_ATTACH, struct.pack("<IIII", group, program, place, 0))
        os.close(program)  # the group keeps it
    os.close(group)


def hold_performance() -> int:
    """Open an event that follows this process. Returns the descriptor that keeps it. Raises OSError. man 2 perf_event_open."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.syscall(SYS_PERF_EVENT_OPEN, DUMMY, 0, -1, -1, PERF_FLAG_FD_CLOEXEC)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "perf_event_open")
    return int(fd)


def bpf(command: int, attributes: bytes) -> int:
    """man 2 bpf. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(SYS_BPF, command, attributes.ljust(128, b"\0"), 128)
    if result < 0:
        raise OSError(ctypes.get_errno(), "bpf")
    return int(result)


def address(data: bytes) -> int:
    """Return where the bytes of a constant lie."""
    return ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0


def main() -> None:
    """Hold all, say so, and stay."""
    held: list[object] = []
    if os.path.exists("/dev/kvm"):
        held.append(hold_kvm())
    hold_cgroups()
    held.append(hold_performance())
    stamped = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    stamped.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMP, 1)
    held.append(stamped)
    print("held", flush=True)
    while True:
        time.sleep(1 << 20)


if __name__ == "__main__":
    main()
