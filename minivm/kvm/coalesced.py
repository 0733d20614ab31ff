"""Coalesced MMIO: a guest's writes that are no exits. KVM notes them in a ring, one for a machine, to be read at the next exit."""

from __future__ import annotations

from minivm.kvm._kvm import ffi
from minivm.kvm.call import ioctl, pointer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minivm.kvm.vcpu import Vcpu

__all__ = ["register_coalesced_mmio", "take_coalesced_mmio"]

PAGE = 4096  # bytes; the ring is as long as fits in one


def register_coalesced_mmio(vm: int, address: int, size: int) -> None:
    """Let KVM note the writes to some addresses, while there is room in the ring; one that finds it full is an exit.

    Args:
        address: guest-physical (uint64_t), of the first byte.
        size: bytes (uint32_t).

    For registers whose writing has no effect before another one is touched. Needs a vCPU, whose mapping has the ring.
    """
    zone = ffi.new("struct kvm_coalesced_mmio_zone *", {"addr": address, "size": size})
    ioctl(vm, "KVM_REGISTER_COALESCED_MMIO", pointer(zone), f"addr={address:#x}, size={size}")


def take_coalesced_mmio(vcpu: Vcpu, page: int) -> list[tuple[int, bytes]]:
    """Empty the ring.

    Args:
        vcpu: one of the machine's, which is not in run().
        page: which page of its mapping is the ring: what check_extension says of KVM_CAP_COALESCED_MMIO (2 on x86).

    Returns the writes in their order: guest-physical address, and the bytes.
    """
    ring = ffi.cast("struct kvm_coalesced_mmio_ring *", int(ffi.cast("uintptr_t", vcpu.kvm_run)) + page * PAGE)
    slots = (PAGE - ffi.sizeof("struct kvm_coalesced_mmio_ring")) // ffi.sizeof("struct kvm_coalesced_mmio")
    found = []
    while ring.first != ring.last:  # KVM moves `last`, we move `first` (virt/kvm/coalesced_mmio.c)
        one = ring.coalesced_mmio[ring.first]
        found.append((int(one.phys_addr), bytes(one.data)[: one.len]))
        ring.first = (ring.first + 1) % slots
    return found
