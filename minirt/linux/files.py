"""Open a path inside another root, so that no symbolic link in it leads out (man 2 openat2)."""

from __future__ import annotations

import os

from minirt.errors import KernelError
from minirt.linux import constants as k
from minirt.linux._sys import ffi, lib

__all__ = ["open_in_root", "read_in_root"]


def open_in_root(root: int, path: str, flags: int = os.O_RDONLY) -> int:
    """Open a path with `root` (a directory's descriptor) as / for it and for every link on its way.

    Args:
        root: int fd of the directory.
        path: as the process in that root would write it.
        flags: O_*; close-on-exec is added.

    Returns: a descriptor, the caller's to close. Raises: KernelError with the kernel's errno.
    """
    how = ffi.new("uint64_t[3]", [flags | os.O_CLOEXEC, 0, k.RESOLVE_IN_ROOT | k.RESOLVE_NO_MAGICLINKS])
    text = ffi.new("char[]", path.encode(errors="surrogateescape"))
    address = int(ffi.cast("uintptr_t", how))
    fd: int = lib.plan_syscall(k.SYS_openat2, root, int(ffi.cast("uintptr_t", text)), address, 24, 0, 0)
    if fd < 0:
        raise KernelError(-fd, f"openat2({path!r}, RESOLVE_IN_ROOT): {os.strerror(-fd)}")
    return fd


def read_in_root(root: int, path: str, most: int = 1 << 20) -> str:
    """Return the text of a file in another root, at most `most` bytes of it; empty where it cannot be read."""
    try:
        fd = open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK)
    except KernelError:
        return ""
    try:
        return os.read(fd, most).decode(errors="replace")
    except OSError:
        return ""
    finally:
        os.close(fd)
