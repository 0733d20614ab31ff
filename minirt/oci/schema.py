"""config.json for Linux, as data: every field of runtime-spec 1.3.0, what it may be, and what must be there.

Types, ranges, enumerations and forms, as config.md and config-linux.md give them; what fields mean to each other is in
validate.py. Where the document leaves a range open and the kernel does not, the kernel's is here, with its source.
"""

from __future__ import annotations

from minirt.oci.shapes import List, Map, Number, Object, Switch, Text

__all__ = ["CONFIG", "HOOKS", "MEMORY_FLAGS", "MEMORY_MODES", "NAMESPACES", "PROCESS", "RESOURCES", "RLIMITS"]

UINT32, UINT64 = Number(0, 2**32 - 1), Number(0, 2**64 - 1)
INT32, INT64 = Number(-(2**31), 2**31 - 1), Number(-(2**63), 2**63 - 1)
ID = Number(0, 2**32 - 2)  # of a user or group: 2**32 - 1 means "unchanged" to the kernel (man 2 setresuid)
TEXT, SWITCH = Text(), Switch()
TEXTS = List(TEXT)


def absolute(path: str) -> str:
    """An absolute path."""
    return "" if path.startswith("/") else "is not an absolute path"


def absolute_or_none(path: str) -> str:
    """An absolute path, or an empty string where that means "not given" (encoders write it so)."""
    return "" if not path or path.startswith("/") else "is not an absolute path"


def filled(text: str) -> str:
    """Anything but nothing."""
    return "" if text else "is empty"


def cpu_list(text: str) -> str:
    """Numbers and ranges with commas between: 0-3,7 (man 7 cpuset, List format)."""
    from minirt.linux.cpulist import numbers

    try:
        numbers(text)
    except ValueError as error:
        return str(error)
    return ""


def host_name(name: str) -> str:
    """At most __NEW_UTS_LEN bytes (man 2 sethostname)."""
    return "" if len(name.encode()) <= 64 else "is longer than 64 bytes"


def variable(item: str) -> str:
    """NAME=VALUE, as in environ (man 7 environ); runc refuses others too."""
    return "" if item.find("=") > 0 else "is not NAME=VALUE"


def page_size(size: str) -> str:
    """<size><unit-prefix>B, as in the names of the hugetlb controller's files."""
    number = size[:-2]
    right = size[-2:] in ("KB", "MB", "GB") and number.isascii() and number.isdigit() and number[0] != "0"
    return "" if right else "is not a size of huge pages, as 64KB, 2MB or 1GB"


def cgroup_file(name: str) -> str:
    """CONTROLLER.PARAMETER, a file of the group's own directory."""
    controller, _, parameter = name.partition(".")
    right = controller and parameter and not any(c in "/\n" for c in name)
    return "" if right else "is not a file of a cgroup, CONTROLLER.PARAMETER"


def access(letters: str) -> str:
    """A composition of r, w and m."""
    return "" if set(letters) <= set("rwm") else "is not made of r, w and m"


def interface(name: str) -> str:
    """What the kernel takes as the name of a network device (net/core/dev.c, dev_valid_name)."""
    bad = not 0 < len(name.encode()) < 16 or name in (".", "..") or any(c in "/:" or c.isspace() for c in name)
    return "is not a name of a network device: 1 to 15 bytes, no '/', ':' or space, not . or .." if bad else ""


def clock(name: str) -> str:
    """The clocks that a time namespace has (man 7 time_namespaces)."""
    return "" if name in ("monotonic", "boottime") else "is none of monotonic, boottime"


def bandwidth(text: str) -> str:
    """The value MUST start with `MB:` and MUST NOT contain newlines."""
    return "" if text.startswith("MB:") and "\n" not in text else "does not start with MB:, or has a newline"


PATH, FILLED, CPUS = Text(form=absolute), Text(form=filled), Text(form=cpu_list)
PATHS = List(PATH)
ENV = List(Text(form=variable))

# -- process (config.md#process) ---------------------------------------------------------------------------------

RLIMITS = tuple(
    f"RLIMIT_{name}"
    for name in (
        "AS", "CORE", "CPU", "DATA", "FSIZE", "LOCKS", "MEMLOCK", "MSGQUEUE", "NICE", "NOFILE", "NPROC", "RSS", "RTPRIO",
        "RTTIME", "SIGPENDING", "STACK",
    )
)  # fmt: skip

PROCESS = Object(
    "cwd args",
    terminal=SWITCH,
    consoleSize=Object("height width", height=UINT32, width=UINT32),
    cwd=PATH,
    env=ENV,
    args=List(TEXT, least=1),
    user=Object(uid=ID, gid=ID, umask=UINT32, additionalGids=List(ID)),
    rlimits=List(Object("type soft hard", type=Text(*RLIMITS), soft=UINT64, hard=UINT64)),
    apparmorProfile=TEXT,
    capabilities=Object(bounding=TEXTS, effective=TEXTS, inheritable=TEXTS, permitted=TEXTS, ambient=TEXTS),
    noNewPrivileges=SWITCH,
    oomScoreAdj=Number(-1000, 1000),  # man 5 proc_pid_oom_score_adj
    selinuxLabel=TEXT,
    scheduler=Object(
        "policy",
        policy=Text(
            "SCHED_OTHER", "SCHED_FIFO", "SCHED_RR", "SCHED_BATCH", "SCHED_ISO", "SCHED_IDLE", "SCHED_DEADLINE"
        ),
        nice=Number(-20, 19),  # man 2 sched_setattr
        priority=INT32,
        flags=List(
            Text(
                "SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_RECLAIM", "SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_KEEP_POLICY",
                "SCHED_FLAG_KEEP_PARAMS", "SCHED_FLAG_UTIL_CLAMP_MIN", "SCHED_FLAG_UTIL_CLAMP_MAX",
            )
        ),
        runtime=UINT64,
        deadline=UINT64,
        period=UINT64,
    ),
    ioPriority=Object(
        "class", **{"class": Text("IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE")}, priority=Number(0, 7)
    ),
    execCPUAffinity=Object(initial=CPUS, final=CPUS),
)  # fmt: skip

# -- linux (config-linux.md) -------------------------------------------------------------------------------------

NAMESPACES = ("pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time")

# A pid namespace, a map's least size, ...: what is zero would be nothing.
MAPPINGS = List(Object("containerID hostID size", containerID=UINT32, hostID=UINT32, size=Number(1, 2**32 - 1)))

MAJOR, MINOR = Number(0, 2**12 - 1), Number(0, 2**20 - 1)  # man 3 makedev, as the kernel's dev_t has 12 and 20 bits
ANY_MAJOR, ANY_MINOR = Number(-1, 2**32 - 1), Number(-1, 2**32 - 1)  # -1 is the engines' way to say all

WEIGHT = Number(0, 1000)  # 0 is "not set"
THROTTLE = List(Object("major minor rate", major=INT64, minor=INT64, rate=UINT64))
BYTES = Number(-1, 2**63 - 1)  # -1 is no limit

RESOURCES = Object(
    devices=List(
        Object("allow", allow=SWITCH, type=Text("", "a", "c", "b"), major=ANY_MAJOR, minor=ANY_MINOR, access=Text(form=access))
    ),
    memory=Object(
        limit=BYTES, reservation=BYTES, swap=BYTES, kernel=BYTES, kernelTCP=BYTES, swappiness=Number(0, 100),
        disableOOMKiller=SWITCH, useHierarchy=SWITCH, checkBeforeUpdate=SWITCH,
    ),
    cpu=Object(
        shares=UINT64, quota=INT64, burst=UINT64, period=UINT64, realtimeRuntime=INT64, realtimePeriod=UINT64, cpus=CPUS,
        mems=CPUS, idle=Number(0, 1),
    ),
    blockIO=Object(
        weight=WEIGHT, leafWeight=WEIGHT,
        weightDevice=List(Object("major minor", major=INT64, minor=INT64, weight=WEIGHT, leafWeight=WEIGHT)),
        throttleReadBpsDevice=THROTTLE, throttleWriteBpsDevice=THROTTLE, throttleReadIOPSDevice=THROTTLE,
        throttleWriteIOPSDevice=THROTTLE,
    ),
    hugepageLimits=List(Object("pageSize limit", pageSize=Text(form=page_size), limit=UINT64)),
    network=Object(classID=UINT32, priorities=List(Object("name priority", name=TEXT, priority=UINT32))),
    pids=Object("limit", limit=INT64),
    rdma=Map(Object(hcaHandles=UINT32, hcaObjects=UINT32)),
    unified=Map(TEXT, cgroup_file),
)  # fmt: skip

ACTION = Text(
    "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP", "SCMP_ACT_ERRNO", "SCMP_ACT_TRACE",
    "SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY",
)  # fmt: skip
ARCHITECTURES = tuple(
    f"SCMP_ARCH_{name}"
    for name in (
        "X86", "X86_64", "X32", "ARM", "AARCH64", "MIPS", "MIPS64", "MIPS64N32", "MIPSEL", "MIPSEL64", "MIPSEL64N32", "PPC",
        "PPC64", "PPC64LE", "S390", "S390X", "PARISC", "PARISC64", "RISCV64", "LOONGARCH64", "M68K", "SH", "SHEB",
    )
)  # fmt: skip
ERRNO = Number(0, 65535)  # the low half of a filter's answer (man 2 seccomp)
OPERATORS = ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ")

SECCOMP = Object(
    "defaultAction",
    defaultAction=ACTION,
    defaultErrnoRet=ERRNO,
    architectures=List(Text(*ARCHITECTURES)),
    flags=List(
        Text(
            "SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
        )
    ),
    listenerPath=Text(form=absolute_or_none),
    listenerMetadata=TEXT,
    syscalls=List(
        Object(
            "names action",
            names=List(TEXT, least=1),
            action=ACTION,
            errnoRet=ERRNO,
            args=List(
                Object(
                    "index value op",
                    index=Number(0, 5),  # a system call has six arguments (man 2 syscall)
                    value=UINT64,
                    valueTwo=UINT64,
                    op=Text(*(f"SCMP_CMP_{name}" for name in OPERATORS)),
                )
            ),
        )
    ),
)  # fmt: skip

MEMORY_MODES = (
    "MPOL_DEFAULT", "MPOL_BIND", "MPOL_INTERLEAVE", "MPOL_WEIGHTED_INTERLEAVE", "MPOL_PREFERRED", "MPOL_PREFERRED_MANY",
    "MPOL_LOCAL",
)  # fmt: skip
MEMORY_FLAGS = ("MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES")

LINUX = Object(
    namespaces=List(Object("type", type=Text(*NAMESPACES), path=Text(form=absolute_or_none))),
    uidMappings=MAPPINGS,
    gidMappings=MAPPINGS,
    timeOffsets=Map(Object(secs=INT64, nanosecs=Number(0, 999_999_999)), clock),  # man 7 time_namespaces
    devices=List(
        Object("type path", type=Text("c", "b", "u", "p"), path=PATH, major=MAJOR, minor=MINOR, fileMode=UINT32, uid=ID, gid=ID)
    ),
    netDevices=Map(Object(name=Text(form=interface)), interface),
    cgroupsPath=TEXT,
    resources=RESOURCES,
    intelRdt=Object(
        closID=TEXT, schemata=TEXTS, l3CacheSchema=TEXT, memBwSchema=Text(form=bandwidth), enableMonitoring=SWITCH,
        enableCMT=SWITCH, enableMBM=SWITCH,
    ),
    memoryPolicy=Object("mode", mode=Text(*MEMORY_MODES), nodes=CPUS, flags=List(Text(*MEMORY_FLAGS))),
    sysctl=Map(TEXT),
    seccomp=SECCOMP,
    # The recursive ones are runc's and crun's, and what engines write.
    rootfsPropagation=Text(
        "", "shared", "slave", "private", "unbindable", "rshared", "rslave", "rprivate", "runbindable",
    ),
    maskedPaths=PATHS,
    readonlyPaths=PATHS,
    mountLabel=TEXT,
    personality=Object("domain", domain=Text("LINUX", "LINUX32"), flags=TEXTS),
)  # fmt: skip

# -- the rest (config.md) ----------------------------------------------------------------------------------------

HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
HOOK = List(Object("path", path=PATH, args=TEXTS, env=ENV, timeout=Number(1, 2**31 - 1)))

CONFIG = Object(
    "ociVersion root",
    ociVersion=TEXT,
    root=Object("path", path=FILLED, readonly=SWITCH),
    mounts=List(
        Object(
            "destination",
            destination=FILLED, source=TEXT, type=TEXT, options=TEXTS, uidMappings=MAPPINGS, gidMappings=MAPPINGS,
        )
    ),
    process=PROCESS,
    hostname=Text(form=host_name),
    domainname=Text(form=host_name),
    linux=LINUX,
    hooks=Object("", **dict.fromkeys(HOOKS, HOOK)),
    annotations=Map(TEXT),
)  # fmt: skip
