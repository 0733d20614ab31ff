"""ioeventfd: without DATAMATCH: any number written to QueueNotify stands for queue 0.

The check says: notified: nothing
"""

from minivm.kvm._kvm import ffi
from minivm.kvm.call import ioctl, pointer


def ioeventfd(vm: int, fd: int, address: int, value: int) -> None:
    request = ffi.new("struct kvm_ioeventfd *", {"addr": address, "len": 4, "fd": fd})
    ioctl(vm, "KVM_IOEVENTFD", pointer(request))
