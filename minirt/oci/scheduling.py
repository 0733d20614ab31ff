"""Scheduler, disk priority, personality, memory policy: config.json's words as the kernel's numbers. Loaded where asked for."""

from __future__ import annotations

import struct

from minirt.errors import MinirtError
from minirt.linux import constants as k
from minirt.linux.cpulist import mask

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["io_priority", "mask_of", "memory_policy", "persona", "sched_attr"]

# linux/sched.h, linux/ioprio.h, linux/personality.h
POLICIES = {
    "SCHED_OTHER": 0, "SCHED_FIFO": 1, "SCHED_RR": 2, "SCHED_BATCH": 3, "SCHED_ISO": 4, "SCHED_IDLE": 5, "SCHED_DEADLINE": 6,
}  # fmt: skip
FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 1, "SCHED_FLAG_RECLAIM": 2, "SCHED_FLAG_DL_OVERRUN": 4, "SCHED_FLAG_KEEP_POLICY": 8,
    "SCHED_FLAG_KEEP_PARAMS": 16, "SCHED_FLAG_UTIL_CLAMP_MIN": 32, "SCHED_FLAG_UTIL_CLAMP_MAX": 64,
}  # fmt: skip
CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
IOPRIO_CLASS_SHIFT = 13
DOMAINS = {"LINUX": 0, "LINUX32": 8}


def number(table: dict[str, int], name: str, where: str) -> int:
    """Return a constant's value. Raises: MinirtError that lists what there is."""
    if name not in table:
        raise MinirtError(f"config.json: {where}: {name!r} is none of {', '.join(table)}")
    return table[name]


def sched_attr(scheduler: dict[str, Any]) -> bytes:
    """Return a struct sched_attr (man 2 sched_setattr; runtime-spec config.md#linux-process, scheduler)."""
    policy = number(POLICIES, scheduler.get("policy") or "", "process.scheduler.policy")
    flags = 0
    for name in scheduler.get("flags") or ():
        flags |= number(FLAGS, name, "process.scheduler.flags")
    times = [scheduler.get(key) or 0 for key in ("runtime", "deadline", "period")]
    #                            size policy flags nice priority runtime deadline period (nanoseconds)
    return struct.pack("<IIQiIQQQ", 48, policy, flags, scheduler.get("nice") or 0, scheduler.get("priority") or 0, *times)


def io_priority(priority: dict[str, Any]) -> int:
    """Return an ioprio value (man 2 ioprio_set; runtime-spec config.md#linux-process, ioPriority)."""
    kind = number(CLASSES, priority.get("class") or "", "process.ioPriority.class")
    level: int = priority.get("priority") or 0
    return kind << IOPRIO_CLASS_SHIFT | level


def persona(personality: dict[str, Any]) -> int:
    """Return the execution domain (man 2 personality; runtime-spec config-linux.md#personality)."""
    return number(DOMAINS, personality.get("domain") or "", "linux.personality.domain")


def mask_of(text: str) -> bytes:
    """Return a list such as 0-3,7 as a mask of unsigned longs; a blank one has none."""
    bits = mask(text)
    return bits.to_bytes((bits.bit_length() + 63) // 64 * 8, "little")


def memory_policy(policy: dict[str, Any]) -> tuple[int, bytes]:
    """Return mode with its flags, and the mask of nodes (man 2 set_mempolicy; runtime-spec config-linux.md#memory-policy)."""
    mode: int = getattr(k, policy["mode"])
    for name in policy.get("flags") or ():
        mode |= getattr(k, name)
    return mode, mask_of(policy["nodes"]) if policy.get("nodes") else b""
