"""What the privileged parent does with mounts for a child that may not: id-mapped copies (man 2 mount_setattr)."""

from __future__ import annotations

import os
import struct

from minirt.errors import KernelError
from minirt.linux import constants as k
from minirt.linux.direct import syscall
from minirt.trace import Event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.trace import Sink

__all__ = ["idmapped_copy"]


def idmapped_copy(path: str, userns: int, sink: Sink | None = None) -> int:
    """Return a detached copy of a mount on which ids are shown through a user namespace's maps.

    A file of user 0 on disk is then user 0 of that namespace; nothing on disk is changed.

    Args:
        path: directory to copy the mount of.
        userns: int fd of the user namespace (/proc/PID/ns/user).
        sink: gets the two calls as events.

    Returns: a descriptor of the detached mount, the caller's to close.
    Raises: KernelError; EINVAL where the file system cannot be id-mapped.
    """
    fd = syscall(k.SYS_open_tree, k.AT_FDCWD, os.fsencode(path), k.OPEN_TREE_CLONE | k.OPEN_TREE_CLOEXEC)
    _tell(sink, "open_tree", ("AT_FDCWD", f'"{path}"', "OPEN_TREE_CLONE|OPEN_TREE_CLOEXEC"), fd,
          "a detached copy of the layer's mount")  # fmt: skip
    attr = struct.pack("<4Q", k.MOUNT_ATTR_IDMAP, 0, 0, userns)
    result = syscall(k.SYS_mount_setattr, fd, b"", k.AT_EMPTY_PATH, attr, len(attr))
    try:
        _tell(sink, "mount_setattr", (str(fd), '""', "AT_EMPTY_PATH", f"{{MOUNT_ATTR_IDMAP, userns_fd={userns}}}", "32"),
              result, "ids are shown through the container's map")  # fmt: skip
    except KernelError:
        os.close(fd)
        raise
    return fd


def _tell(sink: Sink | None, call: str, args: tuple[str, ...], result: int, why: str) -> None:
    if sink is not None:
        errno = -result if result < 0 else 0
        sink(Event(call, args, step="userns", why=why, result=-1 if errno else result, errno=errno))
    if result < 0:
        raise KernelError(-result, f"{call}({', '.join(args)}): {os.strerror(-result)}")
