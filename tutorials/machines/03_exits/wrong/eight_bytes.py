"""ioeventfd: for writes of 8 bytes, as datamatch is a uint64_t; the guest writes 4, and each is an exit as before.

The check says: notified: exits of page 0xd0000000
"""

from minivm.kvm._kvm import ffi, lib
from minivm.kvm.call import ioctl, pointer


def ioeventfd(vm: int, fd: int, address: int, value: int) -> None:
    flags = lib.KVM_IOEVENTFD_FLAG_DATAMATCH
    request = ffi.new("struct kvm_ioeventfd *", {"datamatch": value, "addr": address, "len": 8, "fd": fd, "flags": flags})
    ioctl(vm, "KVM_IOEVENTFD", pointer(request))
