"""The one way into the kernel: an ioctl that raises KvmError with its name and arguments."""

from __future__ import annotations

import os

from minivm.errors import KvmError
from minivm.kvm._kvm import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["close", "ioctl", "pointer"]


def pointer(structure: Any) -> int:
    """Return the address of a cffi structure as a number (uintptr_t), as an ioctl's argument.

    The caller keeps the structure alive during the call.
    """
    return int(ffi.cast("uintptr_t", structure))


def ioctl(fd: int, name: str, argument: int = 0, shown: str | None = None) -> int:
    """Make one ioctl.

    Args:
        fd: of /dev/kvm, a VM or a vCPU, as the ioctl demands (int).
        name: its kernel name, a constant of <linux/kvm.h>.
        argument: a number or a structure's address (uintptr_t).
        shown: the argument as an error message should show it; by default the number.

    Returns what the ioctl returns. Raises KvmError. man 2 ioctl.
    """
    result: int = lib.kvm_ioctl(fd, getattr(lib, name), argument)
    if result < 0:
        raise KvmError(name, -result, str(argument) if shown is None else shown)
    return result


def close(*fds: int) -> None:
    """Close file descriptors. The kernel frees a VM when the last descriptor of it and its vCPUs is closed."""
    for fd in fds:
        os.close(fd)
