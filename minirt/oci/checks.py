"""What a file is, asked of the kernel before it is used: its file system, its inode, its kind, its device.

Each function here appends the question and a comparison (`Plan.check`): where the answer is another one, the plan fails. By
descriptor, so that what was looked at is what is used; a name could mean something else a moment later.
"""

from __future__ import annotations

import os
from errno import ENOTDIR

from minirt.linux import constants as k
from minirt.plan import Memory, Plan, Slot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["KINDS", "STAT", "ST_MODE", "check_directory", "check_inode", "check_node", "check_type"]

# struct stat and struct statfs on x86-64 (asm/stat.h, asm/statfs.h): sizes, and offsets in them.
STAT, STATFS = 144, 120
ST_INO, ST_MODE, ST_RDEV = 8, 24, 40
S_IFMT = 0o170000
KINDS = {"c": "S_IFCHR", "u": "S_IFCHR", "b": "S_IFBLK", "p": "S_IFIFO"}  # of linux.devices
ALL = b"\xff" * 8  # mask of a word that is compared whole


def check_type(p: Plan, fd: Any, magic: int, error: int, why: str) -> None:
    """Append the check that an open file is on a kind of file system.

    Args:
        fd: the slot of a descriptor.
        magic: f_type, its first word in struct statfs (man 2 statfs).
        error: errno to fail with.
        why: for the learner.
    """
    answer = Memory(bytes(STATFS))
    p.fstatfs(fd, answer)
    p.check(answer, magic.to_bytes(8, "little"), ALL, error, why)


def check_inode(p: Plan, fd: Slot, number: int, error: int, why: str) -> None:
    """Append the check that an open file has this inode number: of a kernel's own file system a known one is a known file."""
    answer = Memory(bytes(STAT))
    p.newfstatat(fd, "", answer, k.AT_EMPTY_PATH)
    p.check(answer.at(ST_INO), number.to_bytes(8, "little"), ALL, error, why)


def check_directory(p: Plan, path: str, why: str) -> None:
    """Append the check that a path is a directory, and no link to one. By name: for where nobody can exchange it."""
    answer = Memory(bytes(STAT))
    p.newfstatat(k.AT_FDCWD, path, answer, k.AT_SYMLINK_NOFOLLOW)
    p.check(answer.at(ST_MODE), k.S_IFDIR.to_bytes(4, "little"), S_IFMT.to_bytes(4, "little"), ENOTDIR, why)


def check_node(p: Plan, at: Any, name: str, device: dict[str, Any], error: int) -> None:
    """Append the check that a file is this device, and no link to one.

    Args:
        at, name: as for fstatat(2); with an empty name the descriptor itself.
        device: type, major and minor as in linux.devices.
        error: errno to fail with.
    """
    answer = Memory(bytes(STAT))
    fifo = device["type"] == "p"
    number = 0 if fifo else os.makedev(device.get("major", 0), device.get("minor", 0))
    # From st_mode to st_rdev: what lies between is masked out.
    mask = S_IFMT.to_bytes(ST_RDEV - ST_MODE, "little") + (bytes(8) if fifo else ALL)
    want = getattr(k, KINDS[device["type"]]).to_bytes(ST_RDEV - ST_MODE, "little") + number.to_bytes(8, "little")
    p.newfstatat(at, name, answer, k.AT_SYMLINK_NOFOLLOW | (0 if name else k.AT_EMPTY_PATH))
    p.check(answer.at(ST_MODE), want, mask, error, "the device itself, and no link")
