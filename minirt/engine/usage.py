"""What a container uses, as Docker's Engine API tells it ("Get container stats"): counters, and those of the look before."""

from __future__ import annotations

import time

from minirt.engine.inspect import moment
from minirt.engine.stats import look

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.engine.container import Container

__all__ = ["counters", "together"]

TICK = 10**7  # ns of one of /proc/stat's (USER_HZ is 100 on x86)


def counters(container: Container) -> dict[str, Any] | None:
    """Return the counters as they are now, None where it does not run or has no cgroup."""
    found = look(container)
    if found is None:
        return None
    data = found[1]
    return {
        "read": moment(time.time()),
        "cpu": cpu(data["cpu"]),
        "memory": memory(data["memory"]),
        "pids": pids(data["pids"]),
        "blkio": blkio(data["blkio"]),
        "networks": interfaces(container.state["pid"]),
    }


def together(container: Container, now: dict[str, Any] | None, before: dict[str, Any] | None) -> dict[str, Any]:
    """Return two looks as one object. Args: now, None: it does not run; before, None: there was none."""
    never: dict[str, Any] = {"read": moment(None), "cpu": {"cpu_usage": {"total_usage": 0}}}
    now, before = now or never, before or never
    return {
        "id": container.id, "name": f"/{container.label}", "read": now["read"], "preread": before["read"],
        "cpu_stats": now["cpu"], "precpu_stats": before["cpu"], "memory_stats": now.get("memory", {}),
        "pids_stats": now.get("pids", {}), "blkio_stats": now.get("blkio", {}), "num_procs": 0, "storage_stats": {},
        **({"networks": now["networks"]} if now.get("networks") else {}),
    }  # fmt: skip


def cpu(data: dict[str, Any]) -> dict[str, Any]:
    """Return processor time, ns: the container's, and that of the whole machine."""
    with open("/proc/stat", encoding="ascii") as file:
        lines = file.read().splitlines()
    ticks = sum(map(int, lines[0].split()[1:9]))
    usage, throttling = data["usage"], data.get("throttling") or {}
    return {
        "cpu_usage": {"total_usage": usage["total"], "usage_in_kernelmode": usage["kernel"], "usage_in_usermode": usage["user"]},
        "system_cpu_usage": ticks * TICK,
        "online_cpus": sum(1 for line in lines if line.startswith("cpu") and line[3].isdigit()),
        "throttling_data": {
            "periods": throttling.get("periods", 0), "throttled_periods": throttling.get("throttledPeriods", 0),
            "throttled_time": throttling.get("throttledTime", 0),
        },
    }  # fmt: skip


def memory(data: dict[str, Any]) -> dict[str, Any]:
    """Return memory, bytes; nothing where this host does not count it."""
    if "raw" not in data:
        return {}
    import os

    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {"usage": data["usage"]["usage"], "limit": min(data["usage"]["limit"], whole), "stats": data["raw"]}


def pids(data: dict[str, Any]) -> dict[str, Any]:
    """Return how many tasks there are."""
    return {"current": data["current"], **({"limit": data["limit"]} if "limit" in data else {})}


def blkio(data: dict[str, Any]) -> dict[str, Any]:
    """Return bytes read and written, by device."""
    entries = data.get("ioServiceBytesRecursive") or []
    return {"io_service_bytes_recursive": [{**entry, "op": entry["op"].lower()} for entry in entries]}


def interfaces(pid: int) -> dict[str, Any]:
    """Return what went through a container's interfaces (man 5 proc_pid_net)."""
    found = {}
    try:
        with open(f"/proc/{pid}/net/dev", encoding="ascii") as file:
            lines = file.read().splitlines()[2:]
    except OSError:
        return {}
    for line in lines:
        name, _, rest = line.partition(":")
        n = list(map(int, rest.split()))
        if name.strip() != "lo":
            found[name.strip()] = {
                "rx_bytes": n[0], "rx_packets": n[1], "rx_errors": n[2], "rx_dropped": n[3],
                "tx_bytes": n[8], "tx_packets": n[9], "tx_errors": n[10], "tx_dropped": n[11],
            }  # fmt: skip
    return found
