"""config.json as the specification's text has it (runtime-spec 1.3.0, config.md and config-linux.md), read by hand.

One line a field: its path, what it is, and ! where it is REQUIRED in what holds it. [] is an entry of an array, {} a value
of an object whose keys are the user's. It is written from the documents and not from minirt/oci/schema.py, so that
each can find the other's mistakes. FULL is a configuration that has every field.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

__all__ = ["FIELDS", "FULL", "SCALARS", "Field", "at", "full", "json_path", "put", "remove"]

ACTIONS = "KILL KILL_PROCESS KILL_THREAD TRAP ERRNO TRACE ALLOW LOG NOTIFY"
ARCHITECTURES = (
    "X86 X86_64 X32 ARM AARCH64 MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 PPC PPC64 PPC64LE S390 S390X PARISC "
    "PARISC64 RISCV64"
)


def one_of(prefix: str, names: str) -> str:
    """Return an enumeration's kind."""
    return "one:" + "|".join(prefix + name for name in names.split())


TABLE = f"""
ociVersion semver !
root object !
root.path filled !
root.readonly bool
mounts array
mounts[] object
mounts[].destination filled !
mounts[].source string
mounts[].type string
mounts[].options array
mounts[].options[] string
mounts[].uidMappings array
mounts[].uidMappings[] object
mounts[].uidMappings[].containerID uint32 !
mounts[].uidMappings[].hostID uint32 !
mounts[].uidMappings[].size uint32 !
mounts[].gidMappings array
mounts[].gidMappings[] object
mounts[].gidMappings[].containerID uint32 !
mounts[].gidMappings[].hostID uint32 !
mounts[].gidMappings[].size uint32 !
process object
process.terminal bool
process.consoleSize object
process.consoleSize.height uint !
process.consoleSize.width uint !
process.cwd path !
process.env array
process.env[] variable
process.args array !
process.args[] string
process.rlimits array
process.rlimits[] object
process.rlimits[].type {one_of("RLIMIT_", "AS CORE CPU DATA FSIZE LOCKS MEMLOCK MSGQUEUE NICE NOFILE NPROC RSS RTPRIO RTTIME SIGPENDING STACK")} !
process.rlimits[].soft uint64 !
process.rlimits[].hard uint64 !
process.apparmorProfile string
process.capabilities object
process.capabilities.effective array
process.capabilities.effective[] string
process.capabilities.bounding array
process.capabilities.bounding[] string
process.capabilities.inheritable array
process.capabilities.inheritable[] string
process.capabilities.permitted array
process.capabilities.permitted[] string
process.capabilities.ambient array
process.capabilities.ambient[] string
process.noNewPrivileges bool
process.oomScoreAdj -1000..1000
process.scheduler object
process.scheduler.policy {one_of("SCHED_", "OTHER FIFO RR BATCH ISO IDLE DEADLINE")} !
process.scheduler.nice -20..19
process.scheduler.priority int32
process.scheduler.flags array
process.scheduler.flags[] {one_of("SCHED_FLAG_", "RESET_ON_FORK RECLAIM DL_OVERRUN KEEP_POLICY KEEP_PARAMS UTIL_CLAMP_MIN UTIL_CLAMP_MAX")}
process.scheduler.runtime uint64
process.scheduler.deadline uint64
process.scheduler.period uint64
process.selinuxLabel string
process.ioPriority object
process.ioPriority.class {one_of("IOPRIO_CLASS_", "RT BE IDLE")} !
process.ioPriority.priority 0..7
process.execCPUAffinity object
process.execCPUAffinity.initial cpus
process.execCPUAffinity.final cpus
process.user object
process.user.uid id
process.user.gid id
process.user.umask uint
process.user.additionalGids array
process.user.additionalGids[] id
hostname string
domainname string
hooks object
hooks.prestart array
hooks.prestart[] object
hooks.prestart[].path path !
hooks.prestart[].args array
hooks.prestart[].args[] string
hooks.prestart[].env array
hooks.prestart[].env[] variable
hooks.prestart[].timeout positive
hooks.createRuntime array
hooks.createRuntime[] object
hooks.createRuntime[].path path !
hooks.createContainer array
hooks.createContainer[] object
hooks.createContainer[].path path !
hooks.startContainer array
hooks.startContainer[] object
hooks.startContainer[].path path !
hooks.poststart array
hooks.poststart[] object
hooks.poststart[].path path !
hooks.poststop array
hooks.poststop[] object
hooks.poststop[].path path !
annotations object
annotations{{}} string
linux object
linux.namespaces array
linux.namespaces[] object
linux.namespaces[].type {one_of("", "pid network mount ipc uts user cgroup time")} !
linux.namespaces[].path path
linux.uidMappings array
linux.uidMappings[] object
linux.uidMappings[].containerID uint32 !
linux.uidMappings[].hostID uint32 !
linux.uidMappings[].size uint32 !
linux.gidMappings array
linux.gidMappings[] object
linux.gidMappings[].containerID uint32 !
linux.gidMappings[].hostID uint32 !
linux.gidMappings[].size uint32 !
linux.timeOffsets object
linux.timeOffsets{{}} object
linux.timeOffsets{{}}.secs int64
linux.timeOffsets{{}}.nanosecs 0..999999999
linux.devices array
linux.devices[] object
linux.devices[].type one:c|b|u|p !
linux.devices[].path path !
linux.devices[].major device
linux.devices[].minor device
linux.devices[].fileMode uint32
linux.devices[].uid id
linux.devices[].gid id
linux.netDevices object
linux.netDevices{{}} object
linux.netDevices{{}}.name interface
linux.cgroupsPath string
linux.resources object
linux.resources.devices array
linux.resources.devices[] object
linux.resources.devices[].allow bool !
linux.resources.devices[].type one:a|c|b
linux.resources.devices[].major device
linux.resources.devices[].minor device
linux.resources.devices[].access access
linux.resources.memory object
linux.resources.memory.limit bytes
linux.resources.memory.reservation bytes
linux.resources.memory.swap bytes
linux.resources.memory.kernel bytes
linux.resources.memory.kernelTCP bytes
linux.resources.memory.swappiness 0..100
linux.resources.memory.disableOOMKiller bool
linux.resources.memory.useHierarchy bool
linux.resources.memory.checkBeforeUpdate bool
linux.resources.cpu object
linux.resources.cpu.shares uint64
linux.resources.cpu.quota int64
linux.resources.cpu.burst uint64
linux.resources.cpu.period uint64
linux.resources.cpu.realtimeRuntime int64
linux.resources.cpu.realtimePeriod uint64
linux.resources.cpu.cpus cpus
linux.resources.cpu.mems cpus
linux.resources.cpu.idle 0..1
linux.resources.blockIO object
linux.resources.blockIO.weight weight
linux.resources.blockIO.leafWeight weight
linux.resources.blockIO.weightDevice array
linux.resources.blockIO.weightDevice[] object
linux.resources.blockIO.weightDevice[].major int64 !
linux.resources.blockIO.weightDevice[].minor int64 !
linux.resources.blockIO.weightDevice[].weight weight
linux.resources.blockIO.weightDevice[].leafWeight weight
linux.resources.blockIO.throttleReadBpsDevice array
linux.resources.blockIO.throttleReadBpsDevice[] object
linux.resources.blockIO.throttleReadBpsDevice[].major int64 !
linux.resources.blockIO.throttleReadBpsDevice[].minor int64 !
linux.resources.blockIO.throttleReadBpsDevice[].rate uint64 !
linux.resources.blockIO.throttleWriteBpsDevice array
linux.resources.blockIO.throttleReadIOPSDevice array
linux.resources.blockIO.throttleWriteIOPSDevice array
linux.resources.hugepageLimits array
linux.resources.hugepageLimits[] object
linux.resources.hugepageLimits[].pageSize pages !
linux.resources.hugepageLimits[].limit uint64 !
linux.resources.network object
linux.resources.network.classID uint32
linux.resources.network.priorities array
linux.resources.network.priorities[] object
linux.resources.network.priorities[].name string !
linux.resources.network.priorities[].priority uint32 !
linux.resources.pids object
linux.resources.pids.limit int64 !
linux.resources.rdma object
linux.resources.rdma{{}} object
linux.resources.rdma{{}}.hcaHandles uint32
linux.resources.rdma{{}}.hcaObjects uint32
linux.resources.unified object
linux.resources.unified{{}} string
linux.memoryPolicy object
linux.memoryPolicy.mode {one_of("MPOL_", "DEFAULT BIND INTERLEAVE WEIGHTED_INTERLEAVE PREFERRED PREFERRED_MANY LOCAL")} !
linux.memoryPolicy.nodes cpus
linux.memoryPolicy.flags array
linux.memoryPolicy.flags[] {one_of("MPOL_F_", "NUMA_BALANCING RELATIVE_NODES STATIC_NODES")}
linux.sysctl object
linux.sysctl{{}} string
linux.seccomp object
linux.seccomp.defaultAction {one_of("SCMP_ACT_", ACTIONS)} !
linux.seccomp.defaultErrnoRet uint
linux.seccomp.architectures array
linux.seccomp.architectures[] {one_of("SCMP_ARCH_", ARCHITECTURES)}
linux.seccomp.flags array
linux.seccomp.flags[] {one_of("SECCOMP_FILTER_FLAG_", "TSYNC LOG SPEC_ALLOW WAIT_KILLABLE_RECV")}
linux.seccomp.listenerPath path
linux.seccomp.listenerMetadata string
linux.seccomp.syscalls array
linux.seccomp.syscalls[] object
linux.seccomp.syscalls[].names array !
linux.seccomp.syscalls[].names[] string
linux.seccomp.syscalls[].action {one_of("SCMP_ACT_", ACTIONS)} !
linux.seccomp.syscalls[].errnoRet uint
linux.seccomp.syscalls[].args array
linux.seccomp.syscalls[].args[] object
linux.seccomp.syscalls[].args[].index 0..5 !
linux.seccomp.syscalls[].args[].value uint64 !
linux.seccomp.syscalls[].args[].valueTwo uint64
linux.seccomp.syscalls[].args[].op {one_of("SCMP_CMP_", "NE LT LE EQ GE GT MASKED_EQ")} !
linux.rootfsPropagation one:shared|slave|private|unbindable
linux.maskedPaths array
linux.maskedPaths[] path
linux.readonlyPaths array
linux.readonlyPaths[] path
linux.mountLabel string
linux.personality object
linux.personality.domain one:LINUX|LINUX32 !
linux.personality.flags array
"""  # noqa: E501


class Field(NamedTuple):
    """One line of the table."""

    path: str
    kind: str
    required: bool


FIELDS = [Field(words[0], words[1], words[2:] == ["!"]) for words in map(str.split, TABLE.strip().splitlines())]
SCALARS = [field for field in FIELDS if field.kind not in ("object", "array")]

MAP = [{"containerID": 0, "hostID": 100000, "size": 65536}]
THROTTLE = [{"major": 8, "minor": 0, "rate": 1000}]

FULL: dict[str, Any] = {
    "ociVersion": "1.3.0",
    "root": {"path": "rootfs", "readonly": True},
    "mounts": [
        {
            "destination": "/data", "source": "/srv/data", "type": "none", "options": ["rbind", "ridmap"],
            "uidMappings": MAP, "gidMappings": MAP,
        }
    ],
    "process": {
        "terminal": True,
        "consoleSize": {"height": 25, "width": 80},
        "cwd": "/",
        "env": ["PATH=/bin"],
        "args": ["sh"],
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 2**64 - 1}],
        "apparmorProfile": "profile",
        "capabilities": {
            kind: ["CAP_KILL"] for kind in ("effective", "bounding", "inheritable", "permitted", "ambient")
        },
        "noNewPrivileges": True,
        "oomScoreAdj": 100,
        "scheduler": {
            "policy": "SCHED_DEADLINE", "nice": 0, "priority": 0, "flags": ["SCHED_FLAG_RECLAIM"], "runtime": 10**6,
            "deadline": 10**7, "period": 10**8,
        },
        "selinuxLabel": "label",
        "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 4},
        "execCPUAffinity": {"initial": "0-3,7", "final": "0"},
        "user": {"uid": 1, "gid": 1, "umask": 63, "additionalGids": [5, 6]},
    },
    "hostname": "box",
    "domainname": "example",
    "hooks": {
        "prestart": [{"path": "/bin/true", "args": ["true"], "env": ["A=b"], "timeout": 5}],
        "createRuntime": [{"path": "/bin/true", "args": ["true"], "env": ["A=b"], "timeout": 5}],
        "createContainer": [{"path": "/bin/true"}],
        "startContainer": [{"path": "/bin/true"}],
        "poststart": [{"path": "/bin/true"}],
        "poststop": [{"path": "/bin/true"}],
    },
    "annotations": {"com.example.key": "value"},
    "linux": {
        "namespaces": [
            {"type": "network", "path": "/run/netns/other"},
            *({"type": kind} for kind in ("pid", "mount", "ipc", "uts", "user", "cgroup", "time")),
        ],
        "uidMappings": MAP,
        "gidMappings": MAP,
        "timeOffsets": {"boottime": {"secs": 1000, "nanosecs": 5}},
        "devices": [{"type": "c", "path": "/dev/fuse", "major": 10, "minor": 229, "fileMode": 438, "uid": 0, "gid": 0}],
        "netDevices": {"eth0": {"name": "container_eth0"}},
        "cgroupsPath": "/group/box",
        "resources": {
            "devices": [{"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rwm"}],
            "memory": {
                "limit": 2**29, "reservation": 2**28, "swap": 2**30, "kernel": -1, "kernelTCP": -1, "swappiness": 0,
                "disableOOMKiller": False, "useHierarchy": True, "checkBeforeUpdate": False,
            },
            "cpu": {
                "shares": 1024, "quota": 10**6, "burst": 10**6, "period": 500000, "realtimeRuntime": 950000,
                "realtimePeriod": 10**6, "cpus": "2-3", "mems": "0-7", "idle": 0,
            },
            "blockIO": {
                "weight": 10, "leafWeight": 10, "weightDevice": [{"major": 8, "minor": 0, "weight": 500, "leafWeight": 300}],
                "throttleReadBpsDevice": THROTTLE, "throttleWriteBpsDevice": THROTTLE, "throttleReadIOPSDevice": THROTTLE,
                "throttleWriteIOPSDevice": THROTTLE,
            },
            "hugepageLimits": [{"pageSize": "2MB", "limit": 2**21}],
            "network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 500}]},
            "pids": {"limit": 32771},
            "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}},
            "unified": {"io.max": "259:0 rbps=2097152 wiops=120"},
        },
        "memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0-1", "flags": ["MPOL_F_STATIC_NODES"]},
        "sysctl": {"net.core.somaxconn": "256"},
        "seccomp": {
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": 38,
            "architectures": ["SCMP_ARCH_X86_64"],
            "flags": ["SECCOMP_FILTER_FLAG_LOG"],
            "listenerPath": "/run/agent.sock",
            "listenerMetadata": "text",
            "syscalls": [
                {
                    "names": ["getcwd", "chmod"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
                    "args": [{"index": 1, "value": 2080505856, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}],
                }
            ],
        },
        "rootfsPropagation": "slave",
        "maskedPaths": ["/proc/kcore"],
        "readonlyPaths": ["/proc/sys"],
        "mountLabel": "label",
        "personality": {"domain": "LINUX", "flags": []},
    },
}  # fmt: skip


def full() -> dict[str, Any]:
    """Return a copy of FULL, to be changed."""
    copied: dict[str, Any] = json.loads(json.dumps(FULL))  # as a document: nothing in it is the same object twice
    return copied


def steps(path: str, config: Any) -> list[str | int]:
    """Return the keys and places that lead to a field; [] is the first entry, {} the first key."""
    keys: list[str | int] = []
    for part in path.replace("[]", ".[]").replace("{}", ".{}").split("."):
        key = 0 if part == "[]" else next(iter(config)) if part == "{}" else part
        keys.append(key)
        config = config[key] if not isinstance(config, dict) else config.get(key)
    return keys


def json_path(path: str, config: Any) -> str:
    """Return a field's path as an error names it."""
    text = ""
    for key, part in zip(steps(path, config), path.replace("[]", ".[]").replace("{}", ".{}").split("."), strict=True):
        text += f"[{key!r}]" if part in ("[]", "{}") else f".{key}"
    return text[1:]


def at(config: Any, path: str) -> Any:
    """Return a field's value."""
    for key in steps(path, config):
        config = config[key]
    return config


def put(config: Any, path: str, value: Any) -> None:
    """Give a field a value."""
    *above, last = steps(path, config)
    for key in above:
        config = config[key]
    config[last] = value


def remove(config: Any, path: str) -> None:
    """Take a field away."""
    *above, last = steps(path, config)
    for key in above:
        config = config[key]
    del config[last]
