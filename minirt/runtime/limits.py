"""pause, resume, update, events: a container's cgroup while it lives."""

from __future__ import annotations

import sys

from minirt.documents import dumps, load_file, loads
from minirt.runtime.container import Container, RuntimeFailure
from minirt.runtime.flags import Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["UPDATE", "events", "pause", "resume", "update"]

def in_bytes(text: str) -> int:
    """Return a number of bytes: 1048576, 64M, 1.5gb; -1 as it is (man 8 runc-update). Raises: ValueError."""
    if text == "-1":
        return -1
    number = text.lower().rstrip("kmgtpib ")
    unit = text.lower()[len(number) :].strip().removesuffix("b").removesuffix("i")
    if unit not in UNITS or number.startswith("-"):
        raise ValueError(text)
    return int(float(number) * UNITS[unit]) if "." in number else int(number) * UNITS[unit]


UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
# flag, help, where in linux.resources, unit in bytes or as it is
RESOURCES = (
    ("blkio-weight", "N weight of its disk requests, 10 to 1000", "blockIO weight", int),
    ("cpu-period", "US microseconds of a period of cpu-quota", "cpu period", int),
    ("cpu-quota", "US microseconds of processor time in each period; -1: no limit", "cpu quota", int),
    ("cpu-burst", "US microseconds that may be saved up", "cpu burst", int),
    ("cpu-share", "N share of the processors among others, 2 to 262144", "cpu shares", int),
    ("cpu-rt-period", "US (control groups version 1 alone have it)", "cpu realtimePeriod", int),
    ("cpu-rt-runtime", "US (control groups version 1 alone have it)", "cpu realtimeRuntime", int),
    ("cpuset-cpus", "LIST processors, as 0-3,7", "cpu cpus", str),
    ("cpuset-mems", "LIST memory nodes", "cpu mems", str),
    ("cpu-idle", "N 1: only what nobody else wants; 0: ordinary", "cpu idle", int),
    ("memory", "BYTES limit of memory, also as 64M; -1: none", "memory limit", in_bytes),
    ("memory-reservation", "BYTES protected while others can give", "memory reservation", in_bytes),
    ("memory-swap", "BYTES limit of memory and swap together; -1: none", "memory swap", in_bytes),
    ("pids-limit", "N limit of processes and threads; -1: none", "pids limit", int),
)
INTEL_RDT = ("l3-cache-schema", "mem-bw-schema")
OBSOLETE = ("kernel-memory", "kernel-memory-tcp")
UPDATE = (
    Flag("resources r", "FILE linux.resources as JSON; - is standard input; other flags are not read then", ""),
    *(Flag(name, text, "") for name, text, _, _ in RESOURCES),
    *(Flag(name, "SCHEMA of Intel RDT, which is not supported", "") for name in INTEL_RDT),
    *(Flag(name, "N (ignored: no kernel has it any more)", "") for name in OBSOLETE),
)  # fmt: skip


def group_of(container: Container) -> Any:
    """Return a live container's cgroup. Raises: RuntimeFailure."""
    if container.status() == "stopped":
        raise RuntimeFailure("container not running")
    group = container.cgroup()
    if group is None:
        raise RuntimeFailure(f"container {container.id} has no cgroup: cgroup v2 is missing here, or not ours to use")
    return group


def pause(root: str, id: str) -> int:
    """Stop all of a container's processes where they are (cgroup.freeze). Raises: RuntimeFailure."""
    container = Container(root, id).load(lock=True)
    if container.status() not in ("running", "created"):
        raise RuntimeFailure(f"container not running or created: {container.status()}")
    group_of(container).freeze()
    return 0


def resume(root: str, id: str) -> int:
    """Let them go on. Raises: RuntimeFailure."""
    container = Container(root, id).load(lock=True)
    if container.status() != "paused":
        raise RuntimeFailure("container not paused")
    group_of(container).thaw()
    return 0


def update(root: str, id: str, values: dict[str, Any], warn: Callable[[str], None]) -> int:
    """Change a container's limits; those that are not named stay. Raises: MinirtError."""
    for name in INTEL_RDT:
        if values[name.replace("-", "_")]:
            raise RuntimeFailure(f"--{name}: not supported: this runtime does not use the resctrl file system")
    for name in OBSOLETE:
        if values[name.replace("-", "_")]:
            warn(f"--{name} is ignored: cgroup v2 counts the kernel's memory in --memory")
    container = Container(root, id).load(lock=True)
    group, resources = group_of(container), asked(values)
    if container.state.get("unit"):
        from minirt.runtime.scope import update as update_scope

        update_scope(container, group, resources, warn)
    else:
        group.update(resources, warn)
    return 0


def asked(values: dict[str, Any]) -> dict[str, Any]:
    """Return linux.resources as --resources or the flags say. Raises: MinirtError."""
    path = values["resources"]
    if path:
        try:
            resources = loads(sys.stdin.read(), "standard input") if path == "-" else load_file(path)
        except OSError as error:
            raise RuntimeFailure(f"--resources {path}: {error.strerror}") from None
        from minirt.oci.validate import validate_resources

        validate_resources(resources, f"--resources {path}")
        return dict(resources)
    resources = {}
    for name, _, where, kind in RESOURCES:
        text = values[name.replace("-", "_")]
        if text == "":
            continue
        part, key = where.split()
        try:
            resources.setdefault(part, {})[key] = kind(text)
        except ValueError:
            raise RuntimeFailure(f"invalid value for {name}: {text}: a number is wanted") from None
    return resources


def events(root: str, id: str, stats: bool, interval: str) -> int:
    """Print statistics as JSON lines: once, or each interval, and when the kernel killed for memory. Raises: MinirtError."""
    container = Container(root, id).load()
    group = group_of(container)
    milliseconds = duration(interval)

    def tell(kind: str, data: Any = None) -> None:
        line = {"type": kind, "id": id}
        if data is not None:
            line["data"] = data
        print(dumps(line), flush=True)

    if stats:
        tell("stats", group.stats())
        return 0
    from minirt.linux.cgroup_events import OomWatch

    with OomWatch(group.path) as watch:
        while True:
            event = watch.wait(milliseconds)
            if event == "gone" or container.status() == "stopped":
                return 0
            if event == "oom":
                tell("oom")
            else:
                tell("stats", group.stats())


def duration(text: str) -> int:
    """Return milliseconds of 5s, 500ms, 1m, 1h (Go's ParseDuration, one unit). Raises: RuntimeFailure."""
    for unit, factor in (("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)):
        if text.endswith(unit):
            number = text.removesuffix(unit)
            if number.isdigit() and int(number):
                return int(number) * factor
    raise RuntimeFailure(f"--interval {text}: a time such as 5s is wanted")
