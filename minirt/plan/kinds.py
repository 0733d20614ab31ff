"""Names for what an argument is, for type checking and for printing; never imported at run time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias, TypedDict

from minirt.plan.record import Address, Argument, Load, Memory, Slot, Words


class How(TypedDict, total=False):
    """What every method of Plan takes besides the system call's own arguments."""

    why: str
    tolerate: tuple[int, ...]
    otherwise: Mapping[int, str] | None
    at_least: int
    store: Slot | Address | None
    positive: str | None
    barrier: str


Number: TypeAlias = int | Slot | Load
Fd: TypeAlias = Number
Dirfd: TypeAlias = Number
Mode: TypeAlias = Number
Device: TypeAlias = Number
Signal: TypeAlias = Number
Id: TypeAlias = Number
Size: TypeAlias = Number
# Flags and enumerations, by the beginning of their constants' names.
AF: TypeAlias = Number
AT: TypeAlias = Number
CLONE: TypeAlias = Number
CLOSE_RANGE: TypeAlias = Number
FSCONFIG: TypeAlias = Number
FSMOUNT: TypeAlias = Number
FSOPEN: TypeAlias = Number
KEYCTL: TypeAlias = Number
MNT: TypeAlias = Number
MOUNT_ATTR: TypeAlias = Number
MOVE_MOUNT: TypeAlias = Number
MS: TypeAlias = Number
MSG: TypeAlias = Number
O: TypeAlias = Number  # noqa: E741
OPEN_TREE: TypeAlias = Number
PR: TypeAlias = Number
RLIMIT: TypeAlias = Number
SECCOMP: TypeAlias = Number
SOCK: TypeAlias = Number
TIO: TypeAlias = Number
Path: TypeAlias = str | Memory | None
Text: TypeAlias = str | Memory | None
Data: TypeAlias = bytes | str | Memory | Address | None
Pointer: TypeAlias = Memory | Address | bytes | str | int | None
OpenHow: TypeAlias = Pointer  # struct open_how (man 2 openat2)
Argv: TypeAlias = Sequence[Argument] | Words
