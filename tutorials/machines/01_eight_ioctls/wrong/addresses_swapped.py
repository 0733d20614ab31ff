"""set_user_memory_region: the two addresses exchanged: where it lies for us, and where for the guest.

The check says: memory-is-there: it is not so
"""

from typing import Any

from minivm.kvm.call import ioctl, pointer
from minivm.kvm.memory import ffi


def set_user_memory_region(vm: int, slot: int, address: int, memory: Any, flags: int = 0) -> None:
    region = ffi.new("struct kvm_userspace_memory_region *", [slot, flags, memory.address, memory.size, address])
    ioctl(vm, "KVM_SET_USER_MEMORY_REGION", pointer(region), f"slot={slot}")
