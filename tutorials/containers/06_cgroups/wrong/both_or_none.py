"""_cpu: a quota means something only with a period.

The check says: quota: cpu.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from minirt.linux.cgroup_limits import _number, shares_to_weight


def _cpu(cpu: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    idle = cpu.get("idle")
    if idle == 0:
        yield "cpu.idle", "0"
    if cpu.get("shares"):
        yield "cpu.weight", str(shares_to_weight(cpu["shares"]))
    if idle == 1:
        yield "cpu.idle", "1"
    if cpu.get("quota") and cpu.get("period"):
        yield "cpu.max", f"{_number(cpu['quota'])} {cpu['period']}"
    if cpu.get("burst") is not None:
        yield "cpu.max.burst", str(cpu["burst"])
    for key in ("cpus", "mems"):
        if cpu.get(key):
            yield f"cpuset.{key}", cpu[key]
