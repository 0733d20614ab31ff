"""From config.json's linux.resources to the files of a cgroup: what is written where, in which order.

config.json still speaks version 1's language (shares, blkio weights, memory and swap as one sum), version 2's
kernel its own. The translation is pure: nothing here touches the kernel, so a wrong limit is refused
before anything is made. It follows runc's, so that one config.json means the same under both.

What version 2 has no word for (swappiness, net_cls, real-time shares) is an error, or a warning where the caller
can give one: an engine's other runtimes leave it out, and a person who typed it wants to know.

Sources: runtime-spec config-linux.md#control-groups; Documentation/admin-guide/cgroup-v2.rst
"""

from __future__ import annotations

from minirt.linux.cgroup_files import CgroupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Any

    File = tuple[str, str]  # name and text
    Warn = Callable[[str], None]

__all__ = [
    "blkio_to_io_weight", "controllers_of", "io_weight", "is_no_limit", "limits", "possible", "shares_to_weight", "swap_alone",
]  # fmt: skip

PERIOD = 100_000  # us, the kernel's default for cpu.max
THROTTLES = {"ReadBps": "rbps", "WriteBps": "wbps", "ReadIOPS": "riops", "WriteIOPS": "wiops"}  # config.json: io.max

CORE = ("cgroup",)  # files that every group has begin with it; no controller
# Writing these moves processes; they are no limits.
NO_LIMITS = ("cgroup.procs", "cgroup.threads", "cgroup.kill")


def shares_to_weight(shares: int) -> int:
    """Return cpu.weight (1 to 10000) for version 1's cpu.shares (2 to 262144, beyond these the nearest).

    weight = 1 + (shares - 2) * 9999 // 262142, a straight line through the least and the most of both. It gives
    the default of 1024 shares only 39, where a group's default weight is 100. That is what the runc (up to 1.3.1) and
    crun (up to 1.22) of the distributions do, and a container is to weigh the same under each. Newer ones
    lay a curve through the defaults too: ceil(10 ** ((l*l + 125*l) / 612 - 7/34)) with l = log2(shares).

    Source: runtime-spec config-linux.md#cpu; opencontainers/cgroups#20 for the curve
    """
    return 1 + (min(max(shares, 2), 262144) - 2) * 9999 // 262142


def blkio_to_io_weight(weight: int) -> int:
    """Return io.weight (1 to 10000) for version 1's blkio weight (10 to 1000): 1 + (weight - 10) * 9999 // 990.

    Raises: CgroupError beyond these.
    """
    if not 10 <= weight <= 1000:
        raise CgroupError(f"blockIO.weight {weight}: from 10 to 1000 (unified io.weight: from 1 to 10000)")
    return 1 + (weight - 10) * 9999 // 990


def io_weight(text: str) -> str:
    """Return the line for io.weight that says what a line for io.bfq.weight says ("default 500", "8:0 500")."""
    who, _, weight = text.rpartition(" ")
    return f"{who} {blkio_to_io_weight(int(weight))}"


def swap_alone(swap: int, memory: int) -> int:
    """Return memory.swap.max for config.json's memory.swap, which is memory and swap together.

    Args:
        swap: bytes of both; -1 is no limit.
        memory: bytes of memory.limit; -1 is no limit, and swap then counts as it is; 0 is not known.

    Raises: CgroupError where the sum cannot be divided.
    """
    if swap < 0 or memory < 0:
        return swap
    if memory == 0:
        raise CgroupError("memory.swap is memory and swap together: it needs memory.limit too")
    if swap < memory:
        raise CgroupError("memory.swap is memory and swap together: it cannot be less than memory.limit")
    return swap - memory


def limits(resources: Mapping[str, Any], warn: Warn | None = None) -> list[File]:
    """Return the files that linux.resources come to, in the order of writing.

    Zero and null mean "not set", -1 "no limit". `unified` comes last, as it is, and so overrules.

    Args:
        resources: config.json's linux.resources; `devices` are not files (device_filter.py).
        warn: gets a sentence for each limit that version 2 has not.

    Raises: CgroupError for what cannot be said to version 2, if there is no `warn`.
    """
    tell = warn or _refuse
    memory, cpu = resources.get("memory") or {}, resources.get("cpu") or {}
    _only_in_version_1(memory, cpu, tell)
    return [
        *_memory(memory),
        *_cpu(cpu),
        *_pids(resources.get("pids") or {}),
        *_io(resources.get("blockIO") or {}, tell),
        *_hugetlb(resources.get("hugepageLimits") or ()),
        *_rdma(resources.get("rdma") or {}),
        *_network(resources.get("network") or {}, tell),
        *_unified(resources.get("unified") or {}),
    ]


def _refuse(sentence: str) -> None:
    raise CgroupError(sentence)


def _only_in_version_1(memory: Mapping[str, Any], cpu: Mapping[str, Any], tell: Warn) -> None:
    """Tell what of memory and cpu version 2 has not. Raises: CgroupError for what cannot be left out."""
    if memory.get("disableOOMKiller"):
        tell("memory.disableOOMKiller: cgroup v2 has none; unified memory.high slows down instead")
    if memory.get("swappiness") is not None:
        tell("memory.swappiness: cgroup v2 has none; memory.swap limits swap")
    for key in ("kernel", "kernelTCP"):
        if memory.get(key):
            tell(f"memory.{key}: cgroup v2 counts the kernel's memory in memory.limit")
    for key in ("realtimeRuntime", "realtimePeriod"):
        if cpu.get(key):
            raise CgroupError(f"cpu.{key}: cgroup v2's cpu controller does not divide real-time scheduling")
    if cpu.get("idle") not in (None, 0, 1):
        raise CgroupError(f"cpu.idle {cpu['idle']}: 0 or 1")


def _memory(memory: Mapping[str, Any]) -> Iterator[File]:
    """runtime-spec config-linux.md#memory"""
    limit, swap = memory.get("limit") or 0, memory.get("swap") or 0
    if limit:
        yield "memory.max", _number(limit)
    if swap or limit < 0:
        # as version 1 does: with no limit on memory, and none given on swap, there is none on either
        yield "memory.swap.max", _number(swap_alone(swap or -1, limit))
    if memory.get("reservation"):
        yield "memory.low", _number(memory["reservation"])


def _cpu(cpu: Mapping[str, Any]) -> Iterator[File]:
    """runtime-spec config-linux.md#cpu"""
    idle = cpu.get("idle")
    if idle == 0:
        yield "cpu.idle", "0"  # before the weight, which an idle group cannot be given
    if cpu.get("shares"):
        yield "cpu.weight", str(shares_to_weight(cpu["shares"]))
    if idle == 1:
        yield "cpu.idle", "1"
    if cpu.get("quota") or cpu.get("period"):
        quota = cpu.get("quota") or -1
        yield "cpu.max", f"{_number(quota)} {cpu.get('period') or PERIOD}"
    if cpu.get("burst") is not None:
        yield "cpu.max.burst", str(cpu["burst"])  # after cpu.max: it must not exceed the quota
    for key in ("cpus", "mems"):
        if cpu.get(key):
            yield f"cpuset.{key}", cpu[key]


def _pids(pids: Mapping[str, Any]) -> Iterator[File]:
    """Zero is no limit, as engines write it (podman for --pids-limit -1); with a true zero nobody could be born."""
    limit = pids.get("limit")
    if limit is not None:
        yield "pids.max", _number(limit or -1)


def _io(io: Mapping[str, Any], tell: Warn) -> Iterator[File]:
    """Weights are said in BFQ's scale, 1 to 1000, which is version 1's; without BFQ see `io_weight`."""
    devices = [device for device in io.get("weightDevice") or () if device.get("weight")]
    if io.get("leafWeight") or any(device.get("leafWeight") for device in io.get("weightDevice") or ()):
        tell("blockIO.leafWeight: cgroup v2 has none, as no process competes with the groups beside it")
    if io.get("weight"):
        blkio_to_io_weight(io["weight"])
        yield "io.bfq.weight", f"default {io['weight']}"
    for device in devices:
        blkio_to_io_weight(device["weight"])
        yield "io.bfq.weight", f"{device['major']}:{device['minor']} {device['weight']}"
    for name, key in THROTTLES.items():
        for device in io.get(f"throttle{name}Device") or ():
            yield "io.max", f"{device['major']}:{device['minor']} {key}={_number(device['rate'] or -1)}"


def _hugetlb(pages: Any) -> Iterator[File]:
    for page in pages:
        size = str(page["pageSize"])
        number = size[:-2]
        if size[-2:] not in ("KB", "MB", "GB") or not (number.isascii() and number.isdigit()) or number[0] == "0":
            raise CgroupError(f"hugepageLimits.pageSize {size!r}: as 64KB, 2MB or 1GB (/sys/kernel/mm/hugepages)")
        # .rsvd limits mmap, which says ENOMEM; .max alone limits the first touch, which is SIGBUS
        for kind in ("max", "rsvd.max"):
            yield f"hugetlb.{size}.{kind}", _number(page["limit"])


def _rdma(devices: Mapping[str, Any]) -> Iterator[File]:
    for name, device in devices.items():
        if not name or any(letter.isspace() for letter in name):
            raise CgroupError(f"rdma {name!r}: no name of a device (/sys/class/infiniband)")
        for key, word in (("hcaHandles", "hca_handle"), ("hcaObjects", "hca_object")):
            if device.get(key) is not None:
                yield "rdma.max", f"{name} {word}={device[key]}"


def _network(network: Mapping[str, Any], tell: Warn) -> Iterator[File]:
    """version 1's net_cls and net_prio marked packets; version 2 leaves that to BPF and nftables' socket cgroupv2."""
    for key in ("classID", "priorities"):
        if network.get(key):
            tell(f"network.{key}: cgroup v2 has none; nftables can match a cgroup instead")
    yield from ()


def _unified(unified: Mapping[str, Any]) -> Iterator[File]:
    """Any file of any controller, as it is; runtime-spec config-linux.md#unified."""
    for name, text in unified.items():
        controller, _, parameter = name.partition(".")
        if not controller or not parameter or any(letter in "/\0\n" for letter in name):
            raise CgroupError(f"linux.resources.unified: {name!r} is no file of a cgroup: CONTROLLER.PARAMETER")
        if name in NO_LIMITS:
            raise CgroupError(f"linux.resources.unified: {name} moves or kills processes, and limits nothing")
        # io.max and its like take one device a write
        for line in str(text).splitlines():
            yield name, line


def possible(wanted: Iterable[File], have: Sequence[str]) -> list[File]:
    """Return limits without those that say "none" to a controller that is not there: engines send such."""
    return [(file, text) for file, text in wanted if file.partition(".")[0] in (*have, *CORE) or not is_no_limit(text)]


def controllers_of(wanted: Iterable[File]) -> list[str]:
    """Return the controllers that keep these limits."""
    return [name for name in dict.fromkeys(file.partition(".")[0] for file, _ in wanted) if name not in CORE]


def is_no_limit(text: str) -> bool:
    """Say whether a file's text takes a limit away; without the controller there is none to take away."""
    return text.split(" ", 1)[0] == "max"


def _number(value: int) -> str:
    """Return a number as the kernel takes it: below zero there is no limit."""
    return "max" if value < 0 else str(value)
