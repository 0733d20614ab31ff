"""Files made as another user, with our own rights: fsuid and fsgid of this thread (man 2 setfsuid).

Where a mount shows owners through a map, who has no id there cannot make a file (EOVERFLOW, man 2 mount_setattr): root of
the host is nobody in a container's user namespace. So for a while we are, to file systems, the user whose file it is to be.
"""

from __future__ import annotations

import os
from contextlib import contextmanager

from minirt.errors import KernelError
from minirt.linux import constants as k
from minirt.linux.direct import syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["as_owner"]


@contextmanager
def as_owner(uid: int, gid: int) -> Iterator[None]:
    """Make files as uid:gid (host's ids) in the body; only this thread is concerned. Raises: KernelError.

    The kernel takes the rights over files from the effective set when fsuid becomes another than 0 (man 7 capabilities); they
    are taken up again, as they are still permitted.
    """
    if (uid, gid) == (os.geteuid(), os.getegid()):
        yield
        return
    from minirt.linux.capabilities import of_process

    before = of_process("thread-self")
    syscall(k.SYS_setfsgid, gid)
    syscall(k.SYS_setfsuid, uid)
    try:
        _take_up(before)
        yield
    finally:
        syscall(k.SYS_setfsuid, os.geteuid())
        syscall(k.SYS_setfsgid, os.getegid())
        _take_up(before)


def _take_up(sets: dict[str, int]) -> None:
    from minirt.linux.capabilities import pack_header, pack_sets

    result = syscall(k.SYS_capset, pack_header(), pack_sets(sets["effective"], sets["permitted"], sets["inheritable"]))
    if result < 0:
        raise KernelError(-result, f"capset: {os.strerror(-result)}")
