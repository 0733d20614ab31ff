"""_cpu: the weight, and then whether it is idle.

The check says: awake: cpu.weight
"""

from collections.abc import Iterator, Mapping
from typing import Any

from minirt.linux.cgroup_limits import PERIOD, _number, shares_to_weight


def _cpu(cpu: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    idle = cpu.get("idle")
    if cpu.get("shares"):
        yield "cpu.weight", str(shares_to_weight(cpu["shares"]))
    if idle is not None:
        yield "cpu.idle", str(idle)
    if cpu.get("quota") or cpu.get("period"):
        quota = cpu.get("quota") or -1
        yield "cpu.max", f"{_number(quota)} {cpu.get('period') or PERIOD}"
    if cpu.get("burst") is not None:
        yield "cpu.max.burst", str(cpu["burst"])
    for key in ("cpus", "mems"):
        if cpu.get(key):
            yield f"cpuset.{key}", cpu[key]
