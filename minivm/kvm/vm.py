"""One virtual machine: made of /dev/kvm, with interrupt controllers and timer in the host kernel."""

from __future__ import annotations

from minivm.kvm._kvm import ffi, lib
from minivm.kvm.call import ioctl, pointer

__all__ = [
    "create_irqchip",
    "create_pit2",
    "create_vm",
    "ioeventfd",
    "irq_line",
    "irqfd",
    "set_identity_map_addr",
    "set_tss_addr",
]


def create_vm(system: int, kind: int = 0) -> int:
    """Make a machine with no memory and no processor.

    Args:
        kind: the machine type; 0 on x86.

    Returns its file descriptor, the caller's to close.
    """
    return ioctl(system, "KVM_CREATE_VM", kind)


def set_tss_addr(vm: int, address: int) -> None:
    """Give KVM three pages of guest-physical addresses that the guest does not use, below 4 GiB.

    Intel processors that cannot run real mode need a task state segment there.
    """
    ioctl(vm, "KVM_SET_TSS_ADDR", address, f"{address:#x}")


def set_identity_map_addr(vm: int, address: int) -> None:
    """Give KVM one more page, for the page table that such processors use in real mode.

    Must come before the first vCPU.
    """
    number = ffi.new("uint64_t *", address)
    ioctl(vm, "KVM_SET_IDENTITY_MAP_ADDR", pointer(number), f"{address:#x}")


def create_irqchip(vm: int) -> None:
    """Make two 8259A PICs and an IOAPIC in the host kernel, and give each vCPU to come a local APIC.

    From then on `hlt` waits in the kernel and is no exit.
    """
    ioctl(vm, "KVM_CREATE_IRQCHIP")


def create_pit2(vm: int, flags: int = 0) -> None:
    """Make an 8254 timer in the host kernel, wired to IRQ 0; needs the irqchip.

    Args:
        flags: KVM_PIT_SPEAKER_DUMMY also takes port 0x61, so that a guest's beeps are no exits.
    """
    config = ffi.new("struct kvm_pit_config *", {"flags": flags})
    ioctl(vm, "KVM_CREATE_PIT2", pointer(config), f"flags={flags}")


def irqfd(vm: int, fd: int, gsi: int) -> None:
    """Let each write to an eventfd pulse an interrupt (an edge), with no further ioctl.

    Args:
        fd: of the eventfd (man 2 eventfd), which stays the caller's.
        gsi: global system interrupt: input of the IOAPIC.
    """
    request = ffi.new("struct kvm_irqfd *", {"fd": fd, "gsi": gsi})
    ioctl(vm, "KVM_IRQFD", pointer(request), f"fd={fd}, gsi={gsi}")


def ioeventfd(vm: int, fd: int, address: int, value: int) -> None:
    """Let a guest's write of 4 bytes with this value to an address add 1 to an eventfd, with no exit to us.

    Args:
        fd: of the eventfd, which stays the caller's.
        address: guest-physical (uint64_t).
        value: what must be written (uint32_t); others are exits as before.
    """
    flags = lib.KVM_IOEVENTFD_FLAG_DATAMATCH
    request = ffi.new(
        "struct kvm_ioeventfd *", {"datamatch": value, "addr": address, "len": 4, "fd": fd, "flags": flags}
    )
    ioctl(vm, "KVM_IOEVENTFD", pointer(request), f"fd={fd}, addr={address:#x}, datamatch={value}")


def irq_line(vm: int, irq: int, level: int) -> None:
    """Set an input of the interrupt controllers to 1 or 0; any thread may call it."""
    line = ffi.new("struct kvm_irq_level *", {"irq": irq, "level": level})
    ioctl(vm, "KVM_IRQ_LINE", pointer(line), f"irq={irq}, level={level}")
