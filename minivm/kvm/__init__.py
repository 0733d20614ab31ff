"""The kernel's KVM interface: one thin function per ioctl, named after it.

May import: minivm.errors and the C module minivm.kvm._kvm (csrc/kvm) only. Read first: call.py, then system.py,
vm.py, memory.py, vcpu.py in the order in which a machine is built; stats.py tells what KVM counts; coalesced.py has writes that
come late.
Documentation/virt/kvm/api.rst in the kernel's source describes each ioctl under its name (create_vm is KVM_CREATE_VM).
Structures are the kernel's own (cffi objects), and so are the constants, which live in `lib`.

A whole machine by hand. /dev/kvm gives a file descriptor of a machine, and that one of a processor:

>>> from minivm import kvm
>>> system = kvm.open_kvm()
>>> kvm.get_api_version(system)
12
>>> vm = kvm.create_vm(system)

Its memory is ours, shown to the guest from its address 0:

>>> memory = kvm.GuestMemory(0x10000)
>>> kvm.set_user_memory_region(vm, slot=0, address=0, memory=memory)

A program of 16 bits: send `H` and `i` to port 0x3f8, then halt:

>>> memory.view(0x1000, 10)[:] = bytes.fromhex("ba f8 03  b0 48 ee  b0 69 ee  f4")

A processor starts at the reset vector; ours is to start at 0x1000 with its code segment at 0:

>>> vcpu = kvm.Vcpu(kvm.create_vcpu(vm, 0), kvm.get_vcpu_mmap_size(system))
>>> sregs = kvm.get_sregs(vcpu.fd)
>>> sregs.cs.base = sregs.cs.selector = 0
>>> kvm.set_sregs(vcpu.fd, sregs)
>>> kvm.set_regs(vcpu.fd, kvm.new_regs(rip=0x1000, rflags=2))

It runs until it needs us:

>>> while vcpu.run() == kvm.lib.KVM_EXIT_IO:
...     print(hex(vcpu.kvm_run.io.port), chr(vcpu.data[0]))
0x3f8 H
0x3f8 i
>>> vcpu.kvm_run.exit_reason == kvm.lib.KVM_EXIT_HLT
True

All of it goes away with its file descriptors:

>>> vcpu.close()
>>> kvm.close(vcpu.fd, vm, system)
>>> memory.close()
"""

from minivm.kvm._kvm import ffi, lib
from minivm.kvm.call import close, ioctl, pointer
from minivm.kvm.coalesced import register_coalesced_mmio, take_coalesced_mmio
from minivm.kvm.debug import get_fpu, get_mp_state, get_msr, set_fpu, set_guest_debug, set_mp_state
from minivm.kvm.memory import GuestMemory, offset_in, set_user_memory_region
from minivm.kvm.stats import get_stats_fd, read_stats
from minivm.kvm.system import check_extension, get_api_version, get_supported_cpuid, get_vcpu_mmap_size, open_kvm
from minivm.kvm.vcpu import (
    Vcpu,
    create_vcpu,
    get_regs,
    get_sregs,
    new_regs,
    set_cpuid2,
    set_msrs,
    set_regs,
    set_sregs,
    translate,
)
from minivm.kvm.vm import (
    create_irqchip,
    create_pit2,
    create_vm,
    ioeventfd,
    irq_line,
    irqfd,
    set_identity_map_addr,
    set_tss_addr,
)

__all__ = [
    "GuestMemory",
    "Vcpu",
    "check_extension",
    "close",
    "create_irqchip",
    "create_pit2",
    "create_vcpu",
    "create_vm",
    "ffi",
    "get_api_version",
    "get_fpu",
    "get_mp_state",
    "get_msr",
    "get_regs",
    "get_sregs",
    "get_stats_fd",
    "get_supported_cpuid",
    "get_vcpu_mmap_size",
    "ioctl",
    "ioeventfd",
    "irq_line",
    "irqfd",
    "lib",
    "new_regs",
    "offset_in",
    "open_kvm",
    "pointer",
    "read_stats",
    "register_coalesced_mmio",
    "set_cpuid2",
    "set_fpu",
    "set_guest_debug",
    "set_identity_map_addr",
    "set_mp_state",
    "set_msrs",
    "set_regs",
    "set_sregs",
    "set_tss_addr",
    "set_user_memory_region",
    "take_coalesced_mmio",
    "translate",
]
