"""_memory: memory.swap.max is what config.json calls swap.

The check says: swap: memory.swap.max
"""

from collections.abc import Iterator, Mapping
from typing import Any

from minirt.linux.cgroup_limits import _number


def _memory(memory: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    limit, swap = memory.get("limit") or 0, memory.get("swap") or 0
    if limit:
        yield "memory.max", _number(limit)
    if swap or limit < 0:
        yield "memory.swap.max", _number(swap or -1)
    if memory.get("reservation"):
        yield "memory.low", _number(memory["reservation"])
