"""/dev/kvm itself: what this kernel can do (Documentation/virt/kvm/api.rst, "system ioctls")."""

from __future__ import annotations

import os

from minivm.errors import KvmError
from minivm.kvm._kvm import ffi, lib
from minivm.kvm.call import ioctl, pointer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["check_extension", "get_api_version", "get_supported_cpuid", "get_vcpu_mmap_size", "open_kvm"]


def open_kvm(path: str = "/dev/kvm") -> int:
    """Open the device.

    Returns a file descriptor, the caller's to close. Raises KvmError. man 2 open.
    """
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise KvmError("open", error.errno or 0, repr(path)) from None


def get_api_version(system: int) -> int:
    """Return the version of the interface: 12 since 2007, and a program should refuse any other."""
    return ioctl(system, "KVM_GET_API_VERSION")


def check_extension(fd: int, capability: str) -> int:
    """Ask for a capability by its kernel name, as "KVM_CAP_IRQCHIP".

    Returns 0 where it is missing, else 1 or a number whose meaning depends on the capability.
    """
    return ioctl(fd, "KVM_CHECK_EXTENSION", getattr(lib, capability), capability)


def get_vcpu_mmap_size(system: int) -> int:
    """Return how many bytes to map of a vCPU's file descriptor: kvm_run and what follows it."""
    return ioctl(system, "KVM_GET_VCPU_MMAP_SIZE")


def get_supported_cpuid(system: int, room: int = 256) -> Any:
    """Return the CPUID leaves that this host and kernel can offer a guest, as struct kvm_cpuid2.

    Args:
        room: how many entries to make room for; the kernel says E2BIG when there are more.
    """
    leaves = ffi.new("struct kvm_cpuid2 *", {"nent": room, "entries": room})
    ioctl(system, "KVM_GET_SUPPORTED_CPUID", pointer(leaves), f"nent={room}")
    return leaves
