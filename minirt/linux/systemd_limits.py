"""A container's limits as properties of its unit (man 5 systemd.resource-control).

    properties({"memory": {"limit": 64 << 20}})      # [("MemoryMax", ("t", 67108864))]
    device_properties([{"allow": False, "access": "rwm"}])

The limits are written into the group's files as well (cgroup_limits.py): systemd has no property for some, and it must
know of the others, as it writes its own values again whenever it reloads. So properties are made from those files, and
one config.json cannot mean two things.

Sources: man 5 systemd.resource-control; man 5 org.freedesktop.systemd1
"""

from __future__ import annotations

from minirt.linux.cgroup_files import CgroupError
from minirt.linux.cgroup_limits import limits
from minirt.linux.cpulist import mask
from minirt.linux.device_filter import ANY, effective, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from minirt.linux.cgroup_limits import File, Warn
    from minirt.linux.device_filter import Rule
    from minirt.linux.systemd_unit import Property

__all__ = ["device_properties", "of_files", "properties"]

NONE = (1 << 64) - 1  # UINT64_MAX: no limit
NUMBERS = {
    "memory.max": "MemoryMax",
    "memory.high": "MemoryHigh",
    "memory.low": "MemoryLow",
    "memory.min": "MemoryMin",
    "memory.swap.max": "MemorySwapMax",
    "cpu.weight": "CPUWeight",
    "pids.max": "TasksMax",
}
SETS = {"cpuset.cpus": "AllowedCPUs", "cpuset.mems": "AllowedMemoryNodes"}
PERCENT = 10_000  # us of a second: systemd keeps whole per cents of a processor


def properties(resources: Mapping[str, Any], warn: Warn | None = None) -> list[Property]:
    """Return linux.resources as properties of a unit, as far as systemd has some. Raises: CgroupError."""
    made = [item for file in limits(resources, warn) for item in _property(*file)]
    cpu = resources.get("cpu") or {}
    if not cpu.get("period") and "cpu.max" not in (resources.get("unified") or {}):
        made = [item for item in made if item[0] != "CPUQuotaPeriodUSec"]  # the kernel's own is systemd's, too
    return made


def of_files(files: Iterable[File]) -> list[Property]:
    """Return the properties for files of a group and their texts."""
    return [item for file in files for item in _property(*file)]


def _property(file: str, text: str) -> Iterator[Property]:
    """Yield the properties for one file of a group. What systemd has no word for has none."""
    try:
        if file in NUMBERS:
            yield NUMBERS[file], ("t", _number(text))
        elif file == "cpu.max":
            quota, _, period = text.partition(" ")
            yield "CPUQuotaPeriodUSec", ("t", int(period or 100_000))
            yield "CPUQuotaPerSecUSec", ("t", _a_second(_number(quota), int(period or 100_000)))
        elif file == "cpu.idle" and text.strip() == "1":
            yield "CPUWeight", ("t", 0)  # CGROUP_WEIGHT_IDLE
        elif file in SETS:
            yield SETS[file], ("ay", list(_mask(text)))
    except ValueError:
        raise CgroupError(f"linux.resources: {file} {text!r}: not what the kernel takes") from None


def _number(text: str) -> int:
    return NONE if text.strip() == "max" else int(text)


def _a_second(quota: int, period: int) -> int:
    """Return the microseconds in each second, in whole per cents; upwards, so that the group's own file is the narrower."""
    if quota == NONE:
        return NONE
    return -(-(quota * 1_000_000 // period) // PERCENT) * PERCENT


def _mask(text: str) -> bytes:
    """Return a list of processors or nodes as a mask, the first eight in the first byte. Raises: ValueError."""
    bits = mask(text)
    return bits.to_bytes(bits.bit_length() // 8 + 1, "little").rstrip(b"\0") or b"\0"


def device_properties(rules: Sequence[Mapping[str, Any]] | None) -> list[Property]:
    """Return what systemd's own filter of devices should let pass: what ours does (device_filter.py), or everything.

    systemd attaches a filter beside ours, and again when it reloads; both must agree. It knows only lists of what is
    allowed, so where a rule takes something out of what others allow, it is told to filter nothing, and ours does it.
    """
    asked = effective(parse(rules))
    allowed = [_allow(rule) for rule in asked if rule.allow]
    everything = any(rule.allow and rule.type == rule.major == rule.minor == ANY and rule.access == 7 for rule in asked)
    if everything or not all(allowed) or len(allowed) != len(asked):
        return [("DevicePolicy", ("s", "auto")), ("DeviceAllow", ("a(ss)", []))]
    flat = [item for items in allowed for item in items]
    return [("DevicePolicy", ("s", "strict")), ("DeviceAllow", ("a(ss)", flat))]


def _allow(rule: Rule) -> list[tuple[str, str]]:
    """Return a rule in systemd's words: /dev/char/1:3, char-136, char-*; nothing where it has none."""
    access = str(rule).rpartition(" ")[2]
    kinds = {ANY: ("block", "char")}.get(rule.type) or (("block",) if str(rule).split()[1] == "b" else ("char",))
    if rule.major == ANY:
        return [(f"{kind}-*", access) for kind in kinds] if rule.minor == ANY else []
    if rule.minor == ANY:
        return [(f"{kind}-{rule.major}", access) for kind in kinds]
    return [(f"/dev/{kind}/{rule.major}:{rule.minor}", access) for kind in kinds]
