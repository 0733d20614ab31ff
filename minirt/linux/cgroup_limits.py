"""From config.json's linux.resources to the files of a cgroup: what is written where, in which order.

config.json still speaks version 1's language (shares, blkio weights, memory and swap as one sum), version 2's
kernel its own. The translation is pure: nothing here touches the kernel, so a wrong limit is refused
before anything is made. It follows runc's, so that one config.json means the same under both.

Sources: runtime-spec config-linux.md#control-groups; Documentation/admin-guide/cgroup-v2.rst
"""

from __future__ import annotations

from minirt.errors import MinirtError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    File = tuple[str, str]  # name and text

__all__ = ["CgroupError", "blkio_to_io_weight", "limits", "shares_to_weight", "swap_alone"]

PERIOD = 100_000  # us, the kernel's default for cpu.max
THROTTLES = {"ReadBps": "rbps", "WriteBps": "wbps", "ReadIOPS": "riops", "WriteIOPS": "wiops"}  # config.json: io.max


class CgroupError(MinirtError):
    """A limit cannot be set here; the message names the controller, or the file."""


def shares_to_weight(shares: int) -> int:
    """Return cpu.weight (1 to 10000) for version 1's cpu.shares (2 to 262144).

    The least, the default (1024, 100) and the most of one fall on those of the other: a quadratic through the
    three points on a doubly logarithmic scale. A straight line, which runtimes used before, gives 1024 only 39.

    Source: opencontainers/cgroups#20, in runc since 1.3.2 and crun since 1.23
    """
    import math

    if shares <= 2:
        return 1
    if shares >= 262144:
        return 10000
    log = math.log2(shares)
    return math.ceil(10 ** ((log * log + 125 * log) / 612 - 7 / 34))


def blkio_to_io_weight(weight: int) -> int:
    """Return io.weight (1 to 10000) for version 1's blkio weight (10 to 1000). Raises CgroupError beyond these."""
    if not 10 <= weight <= 1000:
        raise CgroupError(f"blockIO.weight {weight}: from 10 to 1000 (unified io.weight: from 1 to 10000)")
    return 1 + (weight - 10) * 9999 // 990


def swap_alone(swap: int, memory: int) -> int:
    """Return memory.swap.max for config.json's memory.swap, which is memory and swap together.

    Args:
        swap: bytes of both; -1 is no limit.
        memory: bytes of memory.limit; -1 or 0 is none.

    Raises: CgroupError where the sum cannot be divided.
    """
    if swap < 0:
        return -1
    if memory <= 0:
        raise CgroupError("memory.swap is memory and swap together: it needs memory.limit too")
    if swap < memory:
        raise CgroupError("memory.swap is memory and swap together: it cannot be less than memory.limit")
    return swap - memory


def limits(resources: Mapping[str, Any]) -> list[File]:
    """Return the files that linux.resources come to, in the order of writing.

    Zero and null mean "not set", -1 "no limit". `unified` comes last, as it is, and so overrules.

    Raises: CgroupError for what cannot be said to version 2.
    """
    files = [
        *_memory(resources.get("memory") or {}),
        *_cpu(resources.get("cpu") or {}),
        *_pids(resources.get("pids") or {}),
        *_io(resources.get("blockIO") or {}),
        *_hugetlb(resources.get("hugepageLimits") or ()),
        *_rdma(resources.get("rdma") or {}),
    ]
    for name, text in (resources.get("unified") or {}).items():
        if "/" in name or "." not in name:
            raise CgroupError(f"linux.resources.unified: {name!r} is no file of a cgroup")
        # io.max and its like take one device a write
        files += [(name, line) for line in str(text).splitlines()]
    return files


def _memory(memory: Mapping[str, Any]) -> Iterator[File]:
    if memory.get("disableOOMKiller"):
        raise CgroupError("memory.disableOOMKiller: cgroup v2 has none; unified memory.high slows down instead")
    if memory.get("swappiness") is not None:
        raise CgroupError("memory.swappiness: cgroup v2 has none; memory.swap limits swap")
    limit, swap = memory.get("limit") or 0, memory.get("swap") or 0
    if limit:
        yield "memory.max", _number(limit)
    if swap or limit < 0:
        # as version 1 does: with no limit on memory, and none given on swap, there is none on either
        yield "memory.swap.max", _number(swap_alone(swap or -1, limit))
    if memory.get("reservation"):
        yield "memory.low", _number(memory["reservation"])


def _cpu(cpu: Mapping[str, Any]) -> Iterator[File]:
    if cpu.get("realtimeRuntime") or cpu.get("realtimePeriod"):
        raise CgroupError("cpu.realtimeRuntime: cgroup v2 does not divide real-time scheduling")
    if cpu.get("shares"):
        yield "cpu.weight", str(shares_to_weight(cpu["shares"]))
    if cpu.get("idle") is not None:
        yield "cpu.idle", str(cpu["idle"])
    if cpu.get("quota") or cpu.get("period"):
        quota = cpu.get("quota") or -1
        yield "cpu.max", f"{_number(quota)} {cpu.get('period') or PERIOD}"
    if cpu.get("burst"):
        yield "cpu.max.burst", str(cpu["burst"])  # after cpu.max: it must not exceed the quota
    for key in ("cpus", "mems"):
        if cpu.get(key):
            yield f"cpuset.{key}", cpu[key]


def _pids(pids: Mapping[str, Any]) -> Iterator[File]:
    limit = pids.get("limit")
    if limit is not None:
        yield "pids.max", _number(limit or -1)


def _io(io: Mapping[str, Any]) -> Iterator[File]:
    if io.get("weight"):
        yield "io.weight", f"default {blkio_to_io_weight(io['weight'])}"
    for device in io.get("weightDevice") or ():
        if device.get("weight"):
            yield "io.weight", f"{device['major']}:{device['minor']} {blkio_to_io_weight(device['weight'])}"
    for name, key in THROTTLES.items():
        for device in io.get(f"throttle{name}Device") or ():
            yield "io.max", f"{device['major']}:{device['minor']} {key}={_number(device['rate'] or -1)}"


def _hugetlb(pages: Any) -> Iterator[File]:
    for page in pages:
        # .rsvd limits mmap, which says ENOMEM; .max alone limits the first touch, which is SIGBUS
        for kind in ("max", "rsvd.max"):
            yield f"hugetlb.{page['pageSize']}.{kind}", _number(page["limit"])


def _rdma(devices: Mapping[str, Any]) -> Iterator[File]:
    for name, device in devices.items():
        for key, word in (("hcaHandles", "hca_handle"), ("hcaObjects", "hca_object")):
            if device.get(key) is not None:
                yield "rdma.max", f"{name} {word}={device[key]}"


def _number(value: int) -> str:
    """Return a number as the kernel takes it: below zero there is no limit."""
    return "max" if value < 0 else str(value)
