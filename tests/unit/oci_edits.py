"""Edits of a configuration, each with what it breaks: from the specification's sentences, a valid neighbour beside each.

`wrong_values` and `right_values` say what a kind of oci_fields.py takes; EDITS are what fields mean to each other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["EDITS", "Edit", "right_values", "wrong_values"]

Config = dict[str, Any]
RANGES = {
    "uint32": (0, 2**32 - 1), "uint": (0, 65535), "uint64": (0, 2**64 - 1), "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1), "positive": (1, 2**31 - 1), "bytes": (-1, 2**63 - 1), "id": (0, 2**32 - 2),
    "device": (0, 4095), "weight": (10, 1000),
}  # fmt: skip
# What may not be, and the word of the rule that the error has to have.
WRONG_TEXTS = {
    "string": [("a\0b", "NUL"), ("\ud800", "Unicode")],
    "filled": [("", "empty"), ("a\0b", "NUL")],
    "semver": [("1.3", "SemVer"), ("01.3.0", "SemVer"), ("1.3.0-", "SemVer"), ("v1.3.0", "SemVer"), ("1.3.0+a..b", "SemVer"),
               ("1.0.0-01", "SemVer"), ("0.9.0", "supported"), ("2.0.0", "supported")],
    "path": [("usr/bin", "absolute path"), ("../x", "absolute path"), ("/a\0b", "NUL")],
    "variable": [("PATH", "NAME=VALUE"), ("=x", "NAME=VALUE"), ("A=\0", "NUL")],
    "cpus": [("0-65536", "no machine has"),
             ("0-", "list of numbers"), ("a", "list of numbers"), ("3-1", "ends before"), ("0,,1", "list of numbers")],
    "interface": [("", "network device"), ("a" * 16, "network device"), ("a/b", "network device"), ("..", "network device"),
                  ("a b", "network device"), ("a:0", "network device")],
    "access": [("rwx", "r, w and m"), ("R", "r, w and m")],
    "pages": [("2", "size of huge pages"), ("2MiB", "size of huge pages"), ("MB", "size of huge pages"),
              ("02MB", "size of huge pages")],
}  # fmt: skip
RIGHT_TEXTS = {
    "string": ["", "other", "äö", "x" * 60],
    "filled": ["/other", "other"],
    "semver": ["1.0.0", "1.0.2-dev", "1.3.0-rc.1+build.007", "1.2.3--1.x-y", "1.99.0"],
    "path": ["/", "/usr/bin/x", "/a b", "/ä"],
    "variable": ["A=", "A=b=c", "ä=ö", "A B=1"],
    "cpus": ["0", "0-3", "0,2,4-5", "1-3, 7", "", " "],
    "interface": ["a" * 15, "eth0.100", "ä", "..."],
    "access": ["", "r", "wm", "mwr"],
    "pages": ["64KB", "2MB", "1GB"],
}


def wrong_values(kind: str) -> list[tuple[Any, str]]:
    """Return values that a kind does not take, each with a word of the rule."""
    if kind.startswith("one:"):
        name = kind[4:].split("|")[0]
        return [(value, "is none of") for value in ("foo", name + "X", name.swapcase(), " " + name)] + not_a("a string", "")
    if kind == "bool":
        return [(value, "true or false") for value in (0, 1, "true", [], {}, 1.0)]
    if kind == "array":
        return not_a("an array", [])
    if kind == "object":
        return not_a("an object", {})
    if kind in RIGHT_TEXTS:
        return not_a("a string", "") + WRONG_TEXTS[kind]
    low, high = limits(kind)
    beyond = [(low - 1, "whole number")] if kind not in ("device",) else [(-2, "whole number")]
    beyond += [(high + 1, "whole number")] if kind not in ("device", "uint") else [(2**64, "whole number")]
    return [*beyond, (1.5, "whole number"), (1.0, "whole number"), ("1", "whole number"), (True, "whole number"),
            ([], "whole number")]  # fmt: skip


def not_a(words: str, model: object) -> list[tuple[Any, str]]:
    """Return values of other types than the model's."""
    return [(value, words) for value in (7, True, 1.5, "text", ["text"], {"a": "b"}) if type(value) is not type(model)]


def right_values(kind: str) -> list[Any]:
    """Return values that a kind takes, alone; what other fields say of it is another matter."""
    if kind.startswith("one:"):
        return list(kind[4:].split("|"))
    if kind == "bool":
        return [True, False]
    if kind in RIGHT_TEXTS:
        return RIGHT_TEXTS[kind]
    if kind in ("array", "object"):
        return []
    low, high = limits(kind)
    return sorted({low, low + 1, (low + high) // 2, high - 1, high})


def limits(kind: str) -> tuple[int, int]:
    """Return the least and the most of a kind of number."""
    if kind in RANGES:
        return RANGES[kind]
    low, _, high = kind.partition("..")
    return int(low), int(high)


class Edit(NamedTuple):
    """A change of FULL that breaks a rule, and one beside it that does not."""

    path: str  # that the error names
    rule: str  # words of it
    wrong: Callable[[Config], object]
    right: Callable[[Config], object]


def namespaces(config: Config, *without: str, **paths: str) -> None:
    """Take namespaces away, and give some a path."""
    entries = config["linux"]["namespaces"]
    config["linux"]["namespaces"] = [
        {**entry, **({"path": paths[entry["type"]]} if entry["type"] in paths else {})}
        for entry in entries
        if entry["type"] not in without
    ]


def without(config: Config, kind: str) -> None:
    """Take a namespace away with everything that needs it."""
    namespaces(config, kind)
    linux = config["linux"]
    needs = {
        "uts": (config, "hostname", "domainname"), "time": (linux, "timeOffsets"),
        "network": (linux, "netDevices", "sysctl"), "user": (linux, "uidMappings", "gidMappings"), "ipc": (linux,),
    }  # fmt: skip
    owner, *keys = needs[kind]  # type: ignore[misc]
    for key in keys:
        del owner[key]


def scheduler(**fields: Any) -> Callable[[Config], object]:
    """Return an edit that gives another scheduler."""
    return lambda c: c["process"].update(scheduler=fields)


def linux(**fields: Any) -> Callable[[Config], object]:
    """Return an edit that gives fields of linux."""
    return lambda c: c["linux"].update(fields)


def setting(name: str) -> Callable[[Config], object]:
    """Return an edit that sets one more kernel setting."""
    return lambda c: c["linux"]["sysctl"].update({name: "1"})


def both(*edits: Callable[[Config], object]) -> Callable[[Config], object]:
    """Return an edit that does several."""
    return lambda c: [edit(c) for edit in edits]


def maps(*entries: tuple[int, int, int]) -> list[dict[str, int]]:
    """Return id mappings."""
    return [{"containerID": inside, "hostID": outside, "size": size} for inside, outside, size in entries]


def policy(mode: str, **fields: Any) -> Callable[[Config], object]:
    """Return an edit that gives another memory policy."""
    return linux(memoryPolicy={"mode": mode, **fields})


def profile(**fields: Any) -> Callable[[Config], object]:
    """Return an edit of linux.seccomp; None takes a field away."""

    def edit(config: Config) -> None:
        for key, value in fields.items():
            config["linux"]["seccomp"][key] = value
            if value is None:
                del config["linux"]["seccomp"][key]

    return edit


def rule(**fields: Any) -> Callable[[Config], object]:
    """Return an edit that adds an entry to the seccomp profile."""
    return lambda c: c["linux"]["seccomp"]["syscalls"].append({"names": ["x"], **fields})


def resource(part: str, **fields: Any) -> Callable[[Config], object]:
    """Return an edit of linux.resources."""
    return lambda c: c["linux"]["resources"][part].update(fields)


def mount(**fields: Any) -> Callable[[Config], object]:
    """Return an edit that adds a mount."""
    return lambda c: c["mounts"].append({"destination": "/x", **fields})


LIMIT = {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}
NODES = {"nodes": "0"}
OWN = "/proc/self/ns"
FIFO = {"policy": "SCHED_FIFO", "priority": 1}
DEADLINE = {"policy": "SCHED_DEADLINE", "runtime": 1024, "deadline": 1024, "period": 1024}

EDITS = [
    # config.md#process
    Edit("process.args", "at least 1", lambda c: c["process"].update(args=[]), lambda c: c["process"].update(args=["x"])),
    Edit(
        "process.consoleSize.width",
        "65535",
        lambda c: c["process"]["consoleSize"].update(width=65536),
        both(lambda c: c["process"]["consoleSize"].update(width=65536), lambda c: c["process"].update(terminal=False)),
    ),
    Edit(
        "process.rlimits[1].type",
        "twice",
        lambda c: c["process"]["rlimits"].append(dict(c["process"]["rlimits"][0])),
        lambda c: c["process"]["rlimits"].append(LIMIT),
    ),
    Edit(
        "process.rlimits[1].soft",
        "more than hard",
        lambda c: c["process"]["rlimits"].append({**LIMIT, "soft": 1}),
        lambda c: c["process"]["rlimits"].append({**LIMIT, "soft": 1, "hard": 1}),
    ),
    # config.md#linux-process; man 2 sched_setattr
    Edit("process.scheduler.priority", "1 to 99", scheduler(policy="SCHED_FIFO"), scheduler(**FIFO)),
    Edit(
        "process.scheduler.priority",
        "1 to 99",
        scheduler(policy="SCHED_RR", priority=100),
        scheduler(policy="SCHED_RR", priority=99),
    ),
    Edit("process.scheduler.priority", "SCHED_FIFO", scheduler(policy="SCHED_BATCH", priority=1), scheduler(policy="SCHED_BATCH")),
    Edit("process.scheduler.priority", "SCHED_FIFO", scheduler(**DEADLINE, priority=1), scheduler(**DEADLINE, priority=0)),
    Edit(
        "process.scheduler.runtime",
        "SCHED_DEADLINE",
        scheduler(policy="SCHED_OTHER", runtime=1),
        scheduler(policy="SCHED_OTHER", nice=19),
    ),
    Edit("process.scheduler.deadline", "SCHED_DEADLINE", scheduler(**FIFO, deadline=1), scheduler(**FIFO, deadline=0)),
    Edit("process.scheduler.period", "SCHED_DEADLINE", scheduler(policy="SCHED_IDLE", period=1), scheduler(policy="SCHED_IDLE")),
    Edit("process.scheduler.runtime", "1024", scheduler(**{**DEADLINE, "runtime": 1023}), scheduler(**DEADLINE)),
    Edit(
        "process.scheduler.deadline",
        "less than runtime",
        scheduler(**{**DEADLINE, "runtime": 1025}),
        scheduler(**{**DEADLINE, "deadline": 1025, "period": 1025}),
    ),
    Edit(
        "process.scheduler.period",
        "less than deadline",
        scheduler(**{**DEADLINE, "deadline": 1025}),
        scheduler(**{**DEADLINE, "period": 0}),
    ),
    # config.md#mounts, #posix-platform-mounts
    Edit("mounts[1].source", "bind mount", mount(options=["bind"]), mount(options=["bind", "remount", "ro"])),
    Edit("mounts[1].source", "bind mount", mount(options=["rbind"], source=""), mount(options=["rbind"], source="/srv")),
    Edit(
        "mounts[1].options",
        "bind mounts",
        mount(type="tmpfs", uidMappings=maps((0, 0, 1)), gidMappings=maps((0, 0, 1))),
        mount(type="tmpfs"),
    ),
    Edit("mounts[1].options", "bind mounts", mount(type="proc", options=["idmap"]), mount(type="proc", options=["ro"])),
    Edit(
        "mounts[1].gidMappings",
        "along with",
        mount(source="/a", options=["bind"], uidMappings=maps((0, 0, 1))),
        mount(source="/a", options=["bind"], uidMappings=maps((0, 0, 1)), gidMappings=maps((0, 0, 1))),
    ),
    Edit(
        "mounts[1].uidMappings",
        "along with",
        mount(source="/a", options=["bind"], gidMappings=maps((0, 0, 1))),
        mount(source="/a", options=["bind", "idmap"]),
    ),
    Edit(
        "mounts[0].options",
        "user namespace",
        both(
            lambda c: without(c, "user"), lambda c: c["mounts"][0].pop("uidMappings"), lambda c: c["mounts"][0].pop("gidMappings")
        ),
        lambda c: without(c, "user"),
    ),
    # config-linux.md#namespaces, #user-namespace-mappings
    Edit(
        "linux.namespaces[8].type",
        "twice",
        lambda c: c["linux"]["namespaces"].append({"type": "pid"}),
        lambda c: namespaces(c, "pid"),
    ),
    Edit(
        "linux.namespaces[8].type",
        "twice",
        lambda c: c["linux"]["namespaces"].append({"type": "network", "path": "/run/b"}),
        lambda c: namespaces(c, network="/run/b"),
    ),
    Edit(
        "linux.namespaces[0].path",
        "absolute path",
        lambda c: namespaces(c, network="run/x"),
        lambda c: namespaces(c, network="/run/x"),
    ),
    Edit(
        "hostname",
        "uts namespace",
        both(lambda c: namespaces(c, "uts"), lambda c: c.pop("domainname")),
        lambda c: without(c, "uts"),
    ),
    Edit(
        "domainname",
        "uts namespace",
        both(lambda c: namespaces(c, "uts"), lambda c: c.pop("hostname")),
        lambda c: namespaces(c, uts="/run/x"),
    ),
    Edit("hostname", "64 bytes", lambda c: c.update(hostname="x" * 65), lambda c: c.update(hostname="x" * 64)),
    Edit("domainname", "64 bytes", lambda c: c.update(domainname="ä" * 33), lambda c: c.update(domainname="ä" * 32)),
    Edit(
        "linux.maskedPaths",
        "mount namespace",
        both(lambda c: namespaces(c, "mount"), lambda c: c["linux"].pop("readonlyPaths")),
        lambda c: namespaces(c, mount="/run/x"),
    ),
    Edit(
        "linux.readonlyPaths",
        "mount namespace",
        both(lambda c: namespaces(c, "mount"), lambda c: c["linux"].update(maskedPaths=[])),
        lambda c: namespaces(c, mount="/run/y"),
    ),
    Edit(
        "linux.namespaces",
        "mount namespace",
        both(lambda c: namespaces(c, "mount"), lambda c: c["linux"].pop("maskedPaths"), lambda c: c["linux"].pop("readonlyPaths")),
        lambda c: namespaces(c, mount=""),
    ),
    Edit("linux.uidMappings", "user namespace", lambda c: namespaces(c, "user"), lambda c: without(c, "user")),
    Edit(
        "linux.gidMappings",
        "user namespace",
        both(lambda c: namespaces(c, "user"), lambda c: c["linux"].pop("uidMappings")),
        lambda c: namespaces(c, user="/run/x"),
    ),
    Edit(
        "linux.uidMappings",
        "missing",
        lambda c: c["linux"].pop("uidMappings"),
        both(lambda c: namespaces(c, user="/run/x"), lambda c: c["linux"].pop("uidMappings")),
    ),
    Edit("linux.gidMappings", "missing", linux(gidMappings=[]), linux(gidMappings=maps((0, 1, 1)))),
    Edit(
        "linux.uidMappings[0].size", "whole number from 1", linux(uidMappings=maps((0, 1, 0))), linux(uidMappings=maps((0, 1, 1)))
    ),
    Edit(
        "linux.uidMappings[1].containerID",
        "overlaps",
        linux(uidMappings=maps((0, 1000, 10), (9, 2000, 1))),
        linux(uidMappings=maps((0, 1000, 10), (10, 2000, 1))),
    ),
    Edit(
        "linux.gidMappings[0].hostID",
        "overlaps",
        linux(gidMappings=maps((0, 1009, 10), (20, 1000, 10))),
        linux(gidMappings=maps((0, 1010, 10), (20, 1000, 10))),
    ),
    Edit(
        "linux.uidMappings[0].size",
        "last id",
        linux(uidMappings=maps((2, 0, 2**32 - 2))),
        linux(uidMappings=maps((1, 0, 2**32 - 2))),
    ),
    Edit(
        "linux.gidMappings",
        "at most 340",
        linux(gidMappings=maps(*((n, n, 1) for n in range(341)))),
        linux(gidMappings=maps(*((n, n, 1) for n in range(340)))),
    ),
    # config-linux.md#time-offsets, man 7 time_namespaces
    Edit("linux.timeOffsets", "time namespace", lambda c: namespaces(c, "time"), lambda c: without(c, "time")),
    Edit(
        "linux.timeOffsets",
        "new time namespace",
        lambda c: namespaces(c, time="/run/x"),
        both(lambda c: namespaces(c, time="/run/x"), linux(timeOffsets={})),
    ),
    Edit(
        "linux.timeOffsets['realtime']",
        "monotonic, boottime",
        linux(timeOffsets={"realtime": {}}),
        linux(timeOffsets={"monotonic": {}}),
    ),
    # config-linux.md#devices
    Edit(
        "linux.devices[0].major",
        "missing",
        lambda c: c["linux"]["devices"][0].pop("major"),
        lambda c: c["linux"]["devices"][0].update(major=0),
    ),
    Edit(
        "linux.devices[0].minor",
        "missing",
        lambda c: c["linux"]["devices"][0].pop("minor"),
        lambda c: c["linux"]["devices"].append({"type": "p", "path": "/p"}),
    ),
    Edit(
        "linux.devices[0].major",
        "4095",
        lambda c: c["linux"]["devices"][0].update(major=4096),
        lambda c: c["linux"]["devices"][0].update(major=4095),
    ),
    Edit(
        "linux.devices[0].minor",
        "1048575",
        lambda c: c["linux"]["devices"][0].update(minor=2**20),
        lambda c: c["linux"]["devices"][0].update(minor=2**20 - 1),
    ),
    Edit(
        "linux.devices[0].major",
        "from 0",
        lambda c: c["linux"]["devices"][0].update(major=-1),
        lambda c: c["linux"]["resources"]["devices"][0].update(major=-1),
    ),
    # 1.3.0: config-linux.md#network-devices, #memory-policy; man 2 set_mempolicy
    Edit(
        "linux.netDevices",
        "network namespace",
        both(lambda c: namespaces(c, "network"), lambda c: c["linux"].pop("sysctl")),
        lambda c: without(c, "network"),
    ),
    Edit("linux.netDevices['a/b']", "network device", linux(netDevices={"a/b": {}}), linux(netDevices={"a.b": {}})),
    Edit(
        "linux.netDevices['e1'].name",
        "already",
        linux(netDevices={"e0": {"name": "x"}, "e1": {"name": "x"}}),
        linux(netDevices={"e0": {"name": "x"}, "e1": {"name": "y"}}),
    ),
    Edit(
        "linux.netDevices['e1'].name",
        "already",
        linux(netDevices={"e0": {}, "e1": {"name": "e0"}}),
        linux(netDevices={"e0": {"name": "e1"}, "e1": {"name": "e0"}}),
    ),
    Edit("linux.memoryPolicy.nodes", "takes no nodes", policy("MPOL_DEFAULT", **NODES), policy("MPOL_DEFAULT")),
    Edit("linux.memoryPolicy.nodes", "takes no nodes", policy("MPOL_LOCAL", **NODES), policy("MPOL_LOCAL", nodes="")),
    Edit("linux.memoryPolicy.nodes", "needs nodes", policy("MPOL_BIND"), policy("MPOL_BIND", **NODES)),
    Edit("linux.memoryPolicy.nodes", "needs nodes", policy("MPOL_INTERLEAVE", nodes=""), policy("MPOL_PREFERRED", nodes="")),
    Edit(
        "linux.memoryPolicy.flags",
        "exclude",
        policy("MPOL_BIND", **NODES, flags=["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"]),
        policy("MPOL_BIND", **NODES, flags=["MPOL_F_RELATIVE_NODES"]),
    ),
    Edit(
        "linux.memoryPolicy.flags",
        "not for",
        policy("MPOL_PREFERRED", flags=["MPOL_F_NUMA_BALANCING"]),
        policy("MPOL_BIND", **NODES, flags=["MPOL_F_NUMA_BALANCING"]),
    ),
    # config-linux.md#control-groups
    Edit(
        "linux.resources.cpu.burst", "more than quota", resource("cpu", burst=10**6 + 1), resource("cpu", burst=10**6 + 1, quota=-1)
    ),
    Edit("linux.resources.memory.swap", "less than limit", resource("memory", swap=2**29 - 1), resource("memory", swap=-1)),
    Edit("linux.resources.memory.swap", "needs memory.limit", resource("memory", limit=0), resource("memory", limit=-1)),
    Edit("linux.resources.memory.limit", "from -1", resource("memory", limit=-2), resource("memory", swap=2**29)),
    Edit("linux.resources.blockIO.weight", "10 to 1000", resource("blockIO", weight=9), resource("blockIO", weight=0)),
    Edit("linux.resources.blockIO.leafWeight", "1000", resource("blockIO", leafWeight=1001), resource("blockIO", leafWeight=1000)),
    Edit(
        "linux.resources.blockIO.weightDevice[0]",
        "weight or leafWeight",
        resource("blockIO", weightDevice=[{"major": 8, "minor": 0}]),
        resource("blockIO", weightDevice=[{"major": 8, "minor": 0, "leafWeight": 10}]),
    ),
    Edit("linux.resources.rdma['a']", "hcaHandles or hcaObjects", resource("rdma", a={}), resource("rdma", a={"hcaObjects": 0})),
    Edit(
        "linux.resources.unified['cpu']",
        "CONTROLLER.PARAMETER",
        resource("unified", cpu="1"),
        resource("unified", **{"cpu.weight": "1"}),
    ),
    Edit(
        "linux.resources.unified['../cpu.max']",
        "CONTROLLER.PARAMETER",
        resource("unified", **{"../cpu.max": "1"}),
        resource("unified", **{"cpu.max": "1"}),
    ),
    # config-linux.md#sysctl: only what belongs to a namespace of the container
    Edit("linux.sysctl['vm.swappiness']", "belongs to no namespace", setting("vm.swappiness"), setting("kernel.shmmax")),
    Edit("linux.sysctl['kernel.panic']", "belongs to no namespace", setting("kernel.panic"), setting("kernel.msgmax")),
    Edit("linux.sysctl['kernel/core_pattern']", "belongs to no namespace", setting("kernel/core_pattern"), setting("kernel/sem")),
    Edit("linux.sysctl['kernel.shm.x']", "belongs to no namespace", setting("kernel.shm.x"), setting("kernel.shm_rmid_forced")),
    Edit(
        "linux.sysctl['net.ipv4.ip_forward']",
        "network namespace",
        both(lambda c: without(c, "network"), linux(sysctl={"net.ipv4.ip_forward": "1"})),
        setting("net/ipv4/conf/a.b/forwarding"),
    ),
    Edit(
        "linux.sysctl['net.ipv4.ip_forward']",
        "the host's",
        both(lambda c: namespaces(c, network=f"{OWN}/net"), linux(sysctl={"net.ipv4.ip_forward": "1"})),
        setting("net.ipv4.ip_forward"),
    ),
    Edit(
        "linux.sysctl['fs.mqueue.msg_max']",
        "ipc namespace",
        both(lambda c: without(c, "ipc"), setting("fs.mqueue.msg_max")),
        setting("fs.mqueue.msg_max"),
    ),
    Edit(
        "linux.sysctl['kernel.sem']",
        "ipc namespace",
        both(lambda c: without(c, "ipc"), setting("kernel.sem")),
        setting("kernel.sem"),
    ),
    Edit(
        "linux.sysctl['kernel.sem']",
        "the host's",
        both(lambda c: namespaces(c, ipc=f"{OWN}/ipc"), setting("kernel.sem")),
        both(lambda c: namespaces(c, ipc="/run/x"), setting("kernel.sem")),
    ),
    Edit("linux.sysctl['kernel.hostname']", "hostname says it", setting("kernel.hostname"), setting("kernel.domainname")),
    Edit(
        "linux.sysctl['kernel.domainname']",
        "uts namespace",
        both(lambda c: without(c, "uts"), setting("kernel.domainname")),
        lambda c: without(c, "uts"),
    ),
    Edit(
        "linux.sysctl['net/../vm/swappiness']",
        "name of a kernel setting",
        setting("net/../vm/swappiness"),
        setting("net/ipv4/vs/x"),
    ),
    # config-linux.md#seccomp
    Edit(
        "linux.seccomp.listenerMetadata",
        "listenerPath",
        profile(listenerPath=None),
        profile(listenerPath=None, listenerMetadata=None),
    ),
    Edit(
        "linux.seccomp.defaultErrnoRet",
        "no errno",
        profile(defaultAction="SCMP_ACT_ALLOW"),
        profile(defaultAction="SCMP_ACT_TRACE"),
    ),
    Edit(
        "linux.seccomp.defaultErrnoRet",
        "no errno",
        profile(defaultAction="SCMP_ACT_KILL_PROCESS"),
        profile(defaultAction="SCMP_ACT_KILL_PROCESS", defaultErrnoRet=None),
    ),
    Edit("linux.seccomp.defaultErrnoRet", "4095", profile(defaultErrnoRet=4096), profile(defaultErrnoRet=4095)),
    Edit(
        "linux.seccomp.defaultAction",
        "default",
        profile(defaultAction="SCMP_ACT_NOTIFY", defaultErrnoRet=None),
        profile(defaultAction="SCMP_ACT_LOG", defaultErrnoRet=None),
    ),
    Edit("linux.seccomp.syscalls[1].errnoRet", "no errno", rule(action="SCMP_ACT_KILL", errnoRet=1), rule(action="SCMP_ACT_KILL")),
    Edit(
        "linux.seccomp.syscalls[1].action",
        "needs listenerPath",
        both(profile(listenerPath=None, listenerMetadata=None), rule(action="SCMP_ACT_NOTIFY")),
        rule(action="SCMP_ACT_NOTIFY"),
    ),
    Edit(
        "linux.seccomp.syscalls[1].names",
        "at least 1",
        rule(action="SCMP_ACT_LOG", names=[]),
        rule(action="SCMP_ACT_LOG", names=["y"]),
    ),
    # config-linux.md#personality, #intelrdt
    Edit(
        "linux.personality.flags[0]",
        "not supported",
        linux(personality={"domain": "LINUX", "flags": ["X"]}),
        linux(personality={"domain": "LINUX32"}),
    ),
    Edit("linux.intelRdt", "not supported", linux(intelRdt={"closID": "x"}), linux(intelRdt=None)),
    Edit("linux.intelRdt.memBwSchema", "MB:", linux(intelRdt={"memBwSchema": "L3:0=1"}), linux(unknown={"memBwSchema": "L3:0=1"})),
    # config.md#posix-platform-hooks, #annotations
    Edit(
        "hooks.poststop[0].timeout",
        "whole number from 1",
        lambda c: c["hooks"]["poststop"][0].update(timeout=0),
        lambda c: c["hooks"]["poststop"][0].update(timeout=1),
    ),
    Edit(
        "hooks.startContainer[0].path",
        "absolute path",
        lambda c: c["hooks"]["startContainer"][0].update(path="true"),
        lambda c: c["hooks"].update(startContainer=[]),
    ),
    Edit("annotations['']", "empty key", lambda c: c["annotations"].update({"": "x"}), lambda c: c["annotations"].update(x="")),
]
