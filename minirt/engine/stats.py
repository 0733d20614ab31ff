"""What containers use: two looks at the counters of their cgroups, a moment apart.

    CPU %  =  100 * (processor time used between the looks) / (time between them)

so 200 are two whole processors, as docker has it. What this host's cgroup v2 does not count is None.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from minirt.engine.container import Container

__all__ = ["Usage", "cpu_percent", "measure"]


class Usage:
    """What one container uses."""

    __slots__ = ("cpu", "id", "memory", "memory_limit", "name", "pids", "read", "received", "sent", "written")

    def __init__(self, container: Container, cpu: float | None, data: dict[str, Any], group: str) -> None:
        from minirt.engine.usage import interfaces

        self.id = container.id
        self.name = container.label
        self.cpu = cpu  # per cent of a processor
        counted = os.path.exists(f"{group}/memory.current")
        self.memory: int | None = data["memory"]["usage"]["usage"] if counted else None  # bytes
        limit = data["memory"]["usage"]["limit"] if counted else None
        self.memory_limit: int | None = limit if limit is not None and limit < 1 << 62 else None
        self.pids: int = data["pids"]["current"]
        io = data["blkio"].get("ioServiceBytesRecursive") or ()
        ways = interfaces(container.state["pid"]).values()
        self.received, self.sent = (sum(way[key] for way in ways) for key in ("rx_bytes", "tx_bytes"))
        self.read, self.written = (sum(entry["value"] for entry in io if entry["op"] == kind) for kind in ("Read", "Write"))


def cpu_percent(before: int, after: int, seconds: float) -> float:
    """Return per cent of a processor from two readings of cpu.stat's usage, ns."""
    return 100 * (after - before) / 1e9 / seconds if seconds > 0 else 0.0


def measure(containers: Sequence[Container], seconds: float) -> list[Usage]:
    """Return what containers that run use, from two looks so many seconds apart; those that have ended meanwhile are left out."""
    first = {container.id: look(container) for container in containers}
    began = time.monotonic()
    time.sleep(seconds)
    found = []
    for container in containers:
        before, after = first[container.id], look(container)
        if before is not None and after is not None:
            path, data = after
            used = cpu_percent(before[1]["cpu"]["usage"]["total"], data["cpu"]["usage"]["total"], time.monotonic() - began)
            found.append(Usage(container, used, data, path))
    return found


def look(container: Container) -> tuple[str, dict[str, Any]] | None:
    """Return a container's cgroup and its counters; None where it has none or has ended."""
    group = container.cgroup if container.running else None
    try:
        return (group.path, group.stats()) if group is not None else None
    except OSError:
        return None
