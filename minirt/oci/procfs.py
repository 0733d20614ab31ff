"""Files of /proc that a plan writes to: checked to be the kernel's, and opened so that nothing can stand in between.

A write that is meant for /proc/sys or /proc/self/attr and goes elsewhere has set what it should not (a host's
core_pattern), or has not set what protects (an AppArmor profile): CVE-2019-16884, CVE-2025-52881. A fake can be the
whole of /proc, or something mounted over one file in it. So: the descriptor of /proc must be on procfs, and its root; and
below it no mount is crossed and no magic link followed.
"""

from __future__ import annotations

from errno import EPERM

from minirt.linux import constants as k
from minirt.oci.checks import check_inode, check_type
from minirt.oci.step import Context
from minirt.oci.targets import HOW_SIZE, how
from minirt.plan import Plan, Slot

__all__ = ["open_proc", "write"]

PROC_ROOT_INO = 1  # linux/proc_fs.h
INSIDE = "RESOLVE_BENEATH", "RESOLVE_NO_XDEV", "RESOLVE_NO_MAGICLINKS"


def open_proc(p: Plan, c: Context) -> Slot:
    """Append what opens the container's /proc and makes sure of it. Returns the descriptor's slot."""
    proc = Slot("/proc")
    p.openat(k.AT_FDCWD, "/proc", k.O_PATH | k.O_DIRECTORY | k.O_NOFOLLOW | k.O_CLOEXEC, store=proc)
    check_type(p, proc, k.PROC_SUPER_MAGIC, EPERM, "it is procfs")
    check_inode(p, proc, PROC_ROOT_INO, EPERM, "and the root of it, not a directory in it that looks so")
    return proc


def write(p: Plan, proc: Slot, path: str, text: str, why: str = "") -> None:
    """Append a write of a text to a file of /proc.

    Args:
        proc: from `open_proc`.
        path: relative to /proc.
        text: written by one call, as these files want.
        why: for the learner.
    """
    fd, data = Slot(path), text.encode(errors="surrogateescape")
    resolve = 0
    for name in INSIDE:
        resolve |= getattr(k, name)
    p.openat2(proc, path, how(k.O_WRONLY, resolve=resolve), HOW_SIZE, store=fd, why="no mount and no magic link on the way")
    p.write(fd, data, len(data), at_least=len(data), why=why)
    p.close(fd)
