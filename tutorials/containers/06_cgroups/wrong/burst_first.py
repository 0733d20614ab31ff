"""_cpu: the burst before the quota; each is a file of its own.

The check says: burst: cpu.max.burst
"""

from collections.abc import Iterator, Mapping
from typing import Any

from minirt.linux.cgroup_limits import PERIOD, _number, shares_to_weight


def _cpu(cpu: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    idle = cpu.get("idle")
    if idle == 0:
        yield "cpu.idle", "0"
    if cpu.get("shares"):
        yield "cpu.weight", str(shares_to_weight(cpu["shares"]))
    if idle == 1:
        yield "cpu.idle", "1"
    if cpu.get("burst") is not None:
        yield "cpu.max.burst", str(cpu["burst"])
    if cpu.get("quota") or cpu.get("period"):
        quota = cpu.get("quota") or -1
        yield "cpu.max", f"{_number(quota)} {cpu.get('period') or PERIOD}"
    for key in ("cpus", "mems"):
        if cpu.get(key):
            yield f"cpuset.{key}", cpu[key]
