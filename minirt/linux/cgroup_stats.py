"""What a group used, in the form that `runc events --stats` prints under "data" and containerd's shim reads.

The form is version 1's: nanoseconds, swap counted together with memory, and reads and writes as entries by device.
A file whose controller is not handed down is a part that is empty; so `stats` works in every group.

Sources: runc's types/events.go (the names); Documentation/admin-guide/cgroup-v2.rst (the files)
"""

from __future__ import annotations

import os

from minirt.linux import cgroup_files as files
from minirt.linux.cpulist import numbers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["stats"]

UNLIMITED = (1 << 64) - 1  # "max" in a JSON of u64
CPU = {"usage_usec": ("usage", "total"), "user_usec": ("usage", "user"), "system_usec": ("usage", "kernel"),
       "throttled_usec": ("throttling", "throttledTime")}  # fmt: skip
THROTTLED = {"nr_periods": "periods", "nr_throttled": "throttledPeriods"}
BURST = {"nr_bursts": "burstsPeriods", "burst_usec": "burstTime"}
IO = {
    "rbytes": ("ioServiceBytesRecursive", "Read"),
    "wbytes": ("ioServiceBytesRecursive", "Write"),
    "dbytes": ("ioServiceBytesRecursive", "Discard"),
    "rios": ("ioServicedRecursive", "Read"),
    "wios": ("ioServicedRecursive", "Write"),
    "dios": ("ioServicedRecursive", "Discard"),
}


def stats(directory: str) -> dict[str, Any]:
    """Return a group's figures.

    Args:
        directory: the group's.

    Returns: cpu (ns), cpuset, memory (bytes), pids, blkio, hugetlb (bytes), intel_rdt, network_interfaces,
        and rdma where there is such a device; each with what the kernel counts here.
    Raises: OSError where the group is gone.
    """
    os.stat(directory)
    result = {
        "cpu": _cpu(directory),
        "cpuset": _cpuset(directory),
        "memory": _memory(directory),
        "pids": _pids(directory),
        "blkio": _blkio(directory),
        "hugetlb": _hugetlb(directory),
        "intel_rdt": {},
        "network_interfaces": None,
    }
    rdma = _rdma(directory)
    return {**result, "rdma": rdma} if rdma else result


def _cpu(directory: str) -> dict[str, Any]:
    usage: dict[str, int] = {"total": 0, "kernel": 0, "user": 0}
    throttling: dict[str, int] = {}
    burst: dict[str, int] = {}
    parts = {"usage": usage, "throttling": throttling}
    for key, value in _keyed(directory, "cpu.stat").items():
        if key in CPU:
            part, name = CPU[key]
            parts[part][name] = value * 1000
        elif key in THROTTLED:
            throttling[THROTTLED[key]] = value
        elif key in BURST:
            burst[BURST[key]] = value * (1000 if key.endswith("_usec") else 1)
    result: dict[str, Any] = {"usage": usage, "throttling": throttling}
    if burst:
        result["burst"] = burst
    return _with_pressure(result, directory, "cpu")


def _cpuset(directory: str) -> dict[str, Any]:
    """Return the processors and memory nodes; version 2 has none of the flags, which are 0."""
    result: dict[str, Any] = {}
    for key in ("cpus", "mems"):
        if found := numbers(_text(directory, f"cpuset.{key}")):
            result[key] = found
    flags = ("cpu_exclusive", "mem_hardwall", "mem_exclusive", "memory_migrate", "memory_spread_page",
             "memory_spread_slab", "memory_pressure", "sched_load_balance", "sched_relax_domain_level")  # fmt: skip
    return {**result, **dict.fromkeys(flags, 0)}


def _memory(directory: str) -> dict[str, Any]:
    raw = _keyed(directory, "memory.stat")
    usage, swap = _entry(directory, "memory"), _entry(directory, "memory.swap")
    together = min(swap["limit"] + usage["limit"], UNLIMITED)
    both = {"limit": together, "usage": swap["usage"] + usage["usage"], "max": 0, "failcnt": 0}
    empty = {"limit": 0, "failcnt": 0}
    result: dict[str, Any] = {"usage": usage, "swap": both, "kernel": empty, "kernelTCP": dict(empty)}
    if raw:
        result = {"cache": raw.get("file", 0), **result, "raw": raw}
    return _with_pressure(result, directory, "memory")


def _entry(directory: str, name: str) -> dict[str, int]:
    """Return limit, usage and the most ever used of memory or swap, bytes."""
    return {
        "limit": _number(directory, f"{name}.max"),
        "usage": _number(directory, f"{name}.current"),
        "max": _number(directory, f"{name}.peak"),
        "failcnt": 0,
    }


def _pids(directory: str) -> dict[str, int]:
    """Return the number of tasks, and the limit; no limit is none in the JSON. Without the controller: processes."""
    current = _text(directory, "pids.current")
    result = {"current": int(current) if current else len(_text(directory, "cgroup.procs").split())}
    limit = _number(directory, "pids.max")
    return {**result, "limit": limit} if 0 < limit < UNLIMITED else result


def _blkio(directory: str) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for line in _text(directory, "io.stat").splitlines():
        device, *fields = line.split(" ")
        major, found, minor = device.partition(":")
        if not found:
            continue
        for key, _, value in (field.partition("=") for field in fields):
            if key in IO:
                table, op = IO[key]
                entry = {"major": int(major), "minor": int(minor), "op": op, "value": int(value)}
                result.setdefault(table, []).append(entry)
    return _with_pressure(result, directory, "io")


def _hugetlb(directory: str) -> dict[str, dict[str, int]]:
    """Return each page size's usage: what is reserved where the kernel counts that, else what was touched."""
    result = {}
    try:
        names = os.listdir(directory)
    except OSError:
        names = []
    for name in sorted(names):
        if name.startswith("hugetlb.") and name.endswith(".current") and ".rsvd." not in name:
            size = name.split(".")[1]
            reserved = _text(directory, f"hugetlb.{size}.rsvd.current")
            usage = int(reserved) if reserved else _number(directory, name)
            failed = _keyed(directory, f"hugetlb.{size}.events").get("max", 0)
            result[size] = {"usage": usage, "failcnt": failed}
    return result


def _rdma(directory: str) -> dict[str, dict[str, int]]:
    result = {}
    for line in _text(directory, "rdma.current").splitlines():
        device, *fields = line.split()
        pairs = (field.partition("=") for field in fields)
        result[device] = {key: int(value) for key, _, value in pairs if value.isdigit()}
    return result


def _with_pressure(part: dict[str, Any], directory: str, resource: str) -> dict[str, Any]:
    """Add how long tasks waited, where the kernel counts that (psi=1); Documentation/accounting/psi.rst."""
    psi: dict[str, dict[str, float]] = {}
    for line in _text(directory, f"{resource}.pressure").splitlines():
        name, *fields = line.split()
        pairs = [field.partition("=") for field in fields]
        psi[name] = {key: int(value) if key == "total" else float(value) for key, _, value in pairs}
    return {**part, "psi": psi} if psi else part


def _text(directory: str, file: str) -> str:
    """Return a file's text; empty where the group has no such file, or pressure is not counted (EOPNOTSUPP)."""
    try:
        return files.read(directory, file).strip()
    except OSError:
        return ""


def _number(directory: str, file: str) -> int:
    text = _text(directory, file)
    return UNLIMITED if text == "max" else int(text or 0)


def _keyed(directory: str, file: str) -> dict[str, int]:
    try:
        return files.keyed(directory, file)
    except OSError:
        return {}
