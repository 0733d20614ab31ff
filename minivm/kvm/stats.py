"""What KVM itself counts: a descriptor to read its statistics of a machine or a vCPU from (KVM_GET_STATS_FD, kernel 5.14).

    header       6 * u32: flags, size of a name, how many there are, where id, descriptors and values begin
    descriptors  u32 flags, s16 exponent, u16 size, u32 offset of the values, u32 bucket size, name
    values       u64, `size` of them; more than one in a histogram

Documentation/virt/kvm/api.rst, KVM_GET_STATS_FD. Any process that holds the descriptor may read it, not only the machine's.
"""

from __future__ import annotations

import os
from struct import Struct

from minivm.kvm.call import ioctl

__all__ = ["get_stats_fd", "read_stats"]

HEADER, DESCRIPTOR = Struct("<6I"), Struct("<IhHII")


def get_stats_fd(fd: int) -> int:
    """Ask for the descriptor.

    Args:
        fd: of a machine or of a vCPU.

    Returns it, the caller's to close. Raises KvmError, ENOTTY before kernel 5.14.
    """
    return ioctl(fd, "KVM_GET_STATS_FD")


def read_stats(fd: int) -> dict[str, int]:
    """Read all that is one number: name -> value, as it is now. Raises OSError.

    What each means is said in the kernel's source, arch/x86/include/asm/kvm_host.h, struct kvm_vcpu_stat.
    """
    _, name_size, count, _, first, values = HEADER.unpack(os.pread(fd, HEADER.size, 0))
    step = DESCRIPTOR.size + name_size
    text = os.pread(fd, count * step, first)
    found = {}
    for at in range(0, count * step, step):
        _, _, size, offset, _ = DESCRIPTOR.unpack_from(text, at)
        name = text[at + DESCRIPTOR.size : at + step].partition(b"\0")[0].decode()
        if size == 1:
            found[name] = int.from_bytes(os.pread(fd, 8, values + offset), "little")
    return found
