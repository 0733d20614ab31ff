"""Configurations for the differential test: every field of config.json, in something that runs (or that all refuse).

Each is a function that changes the base configuration; its name is the configuration's. What it needs of the host, and
what the kernel must say of it beyond what runtimes are compared by, it says to `configuration`. `{rootfs}`, `{bundle}`
and `{holder}` (the /proc directory of a process in namespaces of its own) in strings are filled in for a run.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from minirt.linux.seccomp.tables import numbers

__all__ = ["CONFIGURATIONS", "EXECS", "Configuration", "Exec", "base"]

Config = dict[str, Any]
SAFE = ["nosuid", "noexec", "nodev"]
MAP = [{"containerID": 0, "hostID": 100000, "size": 65536}]
CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_CHOWN", "CAP_SYS_CHROOT"]
NUMBERS = numbers("x86_64")

# System calls that do nothing when they are let through: what they say then is known to the peers too.
CALLS = {
    "getcwd": "here:256", "chmod": "here:0", "mkdir": "here:0", "mount": "0:0:0:0:0", "umount2": "0:0", "keyctl": "0:-5:0",
    "unshare": "0", "setns": "-1:0", "ptrace": "-1:0:0:0", "reboot": "0:0:0:0", "sethostname": "here:-1", "swapon": "0:0",
    "personality": "0xffffffff", "bpf": "-1:0:0", "perf_event_open": "0:0:-1:-1:0", "clone3": "0:0", "kexec_load": "0:99:0:-1",
    "init_module": "0:0:here", "open_by_handle_at": "-1:0:0", "io_uring_setup": "0:0", "userfaultfd": "-1", "pivot_root": "0:0",
    "chroot": "here", "setuid": "-1", "iopl": "4", "acct": "here", "settimeofday": "1:1", "uname": "here", "getppid": "",
    "getitimer": "0:here", "times": "here", "sync": "",
}  # fmt: skip


def call(name: str, arguments: str | None = None) -> str:
    """Return the question what a system call says."""
    arguments = CALLS.get(name, "") if arguments is None else arguments
    return f"call:{NUMBERS[name]}" + (f":{arguments}" if arguments else "")


NAMESPACES = ("mnt", "pid", "net", "ipc", "uts", "user", "cgroup", "time")
DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "ptmx", "console", "fd", "stdin", "stdout", "stderr", "core", "shm",
           "mqueue", "pts", "kmsg")  # fmt: skip
QUESTIONS = (
    "self",
    *(f"read:/proc/self/{name}" for name in (
        "status", "mountinfo", "uid_map", "gid_map", "setgroups", "cgroup", "oom_score_adj", "timens_offsets", "sessionid"
    )),
    *(f"link:/proc/self/ns/{name}" for name in NAMESPACES),
    *(f"stat:/dev/{name}" for name in DEVICES),
    *(f"link:/dev/{name}" for name in ("fd", "stdin", "stdout", "stderr", "ptmx", "core")),
    "list:/", "list:/dev", "list:/dev/pts", "list:/tmp", "stat:/", "write:/", "write:/dev", "write:/dev/shm", "write:/dev/null",
    "write:/proc/sys/kernel/hostname", "write:/proc/sysrq-trigger", "write:/sys", "write:/sys/fs/cgroup", "stat:/proc/kcore",
    "stat:/proc/keys", "read:/proc/keys", "read:/proc/timer_list", "list:/proc/acpi", "list:/proc/scsi", "list:/sys/firmware",
    "list:/sys/class/net", "write:/tmp", "write:/etc/passwd", "exec:/probe", "read:/dev/null", "read:/proc/sys/kernel/hostname",
    *map(call, CALLS),
)  # fmt: skip

BASE: Config = {
    "ociVersion": "1.0.2",
    "root": {"path": "rootfs", "readonly": False},
    "process": {
        "terminal": False,
        "user": {"uid": 0, "gid": 0},
        "args": ["/probe"],
        "env": ["PATH=/bin:/", "HOME=/root"],
        "cwd": "/",
        "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES),
        "noNewPrivileges": False,
    },
    "hostname": "probed",
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": SAFE},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
         "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
         "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": [*SAFE, "mode=1777", "size=65536k"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": SAFE},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*SAFE, "ro"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": [*SAFE, "relatime", "ro"]},
    ],
    "linux": {
        "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")],
        "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware"],
        "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    },
}  # fmt: skip


def base() -> Config:
    """Return a copy of the base configuration."""
    return copy.deepcopy(BASE)


class Configuration:
    """One configuration, and how it is run.

    Args:
        edit: makes it from the base.
        asks: questions to the probe, beyond those that are always asked.
        facts: what the kernel must say in a container of ours: path in the answers -> value.
        lab: whether it needs cgroup v2 with all its controllers.
        owner: who owns the root file system's files.
        size: rows and columns of the terminal that the runtime is started at.
        refused: whether ours refuses it, as the specification wants where the kernel or the machine has no such thing.
    """

    def __init__(self, edit: Callable[[Config], object], asks: tuple[str, ...] = (), facts: dict[str, Any] | None = None,
                 lab: bool = False, owner: int = 0, size: tuple[int, int] = (0, 0), refused: bool = False) -> None:  # fmt: skip
        self.name = edit.__name__.replace("_", "-")
        self.edit = edit
        self.asks = asks
        self.facts = facts or {}
        self.lab = lab
        self.owner = owner
        self.size = size
        self.refused = refused

    def config(self, **places: str) -> Config:
        """Return config.json, with places filled in."""
        made = base()
        self.edit(made)
        # What is not about limits was asked on the host; in the lab each answer costs twenty times as much.
        questions = QUESTIONS[:1] if self.lab else QUESTIONS
        made["process"]["args"] = [*made["process"]["args"], *questions, *self.asks]
        filled: Config = fill(made, places)
        return filled


def fill(value: Any, places: dict[str, str]) -> Any:
    """Return a document with the places in its strings filled in."""
    if isinstance(value, dict):
        return {fill(key, places): fill(item, places) for key, item in value.items()}
    if isinstance(value, list):
        return [fill(item, places) for item in value]
    if isinstance(value, str):
        for name, text in places.items():
            value = value.replace("{" + name + "}", text)
    return value


CONFIGURATIONS: list[Configuration] = []


def configuration(*asks: str, **more: Any) -> Callable[[Callable[[Config], object]], Callable[[Config], object]]:
    """Make a function one of the configurations."""

    def add(edit: Callable[[Config], object]) -> Callable[[Config], object]:
        CONFIGURATIONS.append(Configuration(edit, asks, **more))
        return edit

    return add


def named(name: str, edit: Callable[[Config], object], *asks: str, **more: Any) -> None:
    """Add a configuration of a family."""
    edit.__name__ = name
    configuration(*asks, **more)(edit)


def mount(c: Config, destination: str, source: str, *options: str, type: str = "none", **more: Any) -> None:
    """Add an entry to the mounts."""
    c["mounts"].append({"destination": destination, "source": source, "type": type, "options": list(options), **more})


def share(c: Config, *kinds: str) -> None:
    """Share namespaces with the host."""
    c["linux"]["namespaces"] = [entry for entry in c["linux"]["namespaces"] if entry["type"] not in kinds]


def user_namespace(c: Config, maps: list[dict[str, int]] = MAP) -> None:
    """Give it a user namespace."""
    c["linux"]["namespaces"].append({"type": "user"})
    c["linux"].update(uidMappings=copy.deepcopy(maps), gidMappings=copy.deepcopy(maps))


@configuration()
def plain(c: Config) -> None:
    """The base itself."""


# -- namespaces ----------------------------------------------------------------------------------------------------

for _kind in ("pid", "network", "ipc", "uts", "cgroup"):

    def _shared(c: Config, kind: str = _kind) -> None:
        share(c, kind)
        if kind == "uts":
            del c["hostname"]

    named(f"share-{_kind}", _shared)

for _kind, _file in (("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("pid", "pid"), ("cgroup", "cgroup")):

    def _joined(c: Config, kind: str = _kind, file: str = _file) -> None:
        share(c, kind)
        c["linux"]["namespaces"].append({"type": kind, "path": "{holder}/ns/" + file})

    named(f"join-{_kind}", _joined)


@configuration(facts={"self.clocks.boottime": "+16667 min", "self.clocks.monotonic": "+2880 min"})
def time_namespace(c: Config) -> None:
    c["linux"]["namespaces"].append({"type": "time"})
    c["linux"]["timeOffsets"] = {"monotonic": {"secs": 172800, "nanosecs": 5}, "boottime": {"secs": 1000000, "nanosecs": 0}}


@configuration(facts={"self.clocks.boottime": "+117 min"})
def time_namespace_and_user_namespace(c: Config) -> None:
    user_namespace(c)
    c["linux"]["namespaces"].append({"type": "time"})
    c["linux"]["timeOffsets"] = {"boottime": {"secs": 7000, "nanosecs": 999999999}}


CONFIGURATIONS[-1].owner = 100000


@configuration("stat:/etc/passwd", owner=100000)
def user_namespace_of_one_range(c: Config) -> None:
    user_namespace(c)


@configuration("stat:/etc/passwd", owner=100000)
def user_namespace_of_two_ranges(c: Config) -> None:
    user_namespace(c, [{"containerID": 0, "hostID": 100000, "size": 1000}, {"containerID": 1000, "hostID": 300000, "size": 5}])
    c["process"]["user"] = {"uid": 1003, "gid": 1004, "additionalGids": [7, 1001]}


@configuration(owner=100000)
def user_namespace_with_all_capabilities(c: Config) -> None:
    user_namespace(c)
    everything = [*CAPABILITIES, "CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_SYS_RESOURCE"]
    c["process"]["capabilities"] = dict.fromkeys(("bounding", "permitted", "effective", "inheritable", "ambient"), everything)


# -- process -------------------------------------------------------------------------------------------------------


@configuration()
def user_and_groups(c: Config) -> None:
    c["process"]["user"] = {"uid": 1000, "gid": 1001, "umask": 0o077, "additionalGids": [5, 6, 2000]}


@configuration()
def umask_alone(c: Config) -> None:
    c["process"]["user"]["umask"] = 0o027


@configuration()
def capabilities_none(c: Config) -> None:
    c["process"]["capabilities"] = {}


@configuration()
def capabilities_ambient(c: Config) -> None:
    sets = ["CAP_NET_BIND_SERVICE", "CAP_KILL"]
    c["process"]["user"] = {"uid": 1000, "gid": 1000}
    c["process"]["capabilities"] = dict.fromkeys(("bounding", "permitted", "effective", "inheritable", "ambient"), sets)


@configuration()
def capabilities_different_in_each_set(c: Config) -> None:
    c["process"]["capabilities"] = {
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_SYS_CHROOT", "CAP_MKNOD"],
        "permitted": ["CAP_CHOWN", "CAP_KILL", "CAP_SYS_CHROOT"],
        "effective": ["CAP_CHOWN"],
        "inheritable": ["CAP_KILL", "CAP_SYS_CHROOT"],
        "ambient": ["CAP_KILL"],
    }


@configuration()
def capabilities_absent(c: Config) -> None:
    del c["process"]["capabilities"]


@configuration(facts={"self.rlimits.RLIMIT_NOFILE": [512, 1024]})
def capabilities_unknown(c: Config) -> None:
    c["process"]["capabilities"]["permitted"] = [*CAPABILITIES, "CAP_OF_THE_FUTURE"]
    c["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 512, "hard": 1024}]


@configuration("call:157:39")
def no_new_privileges(c: Config) -> None:
    c["process"]["noNewPrivileges"] = True


@configuration()
def rlimits(c: Config) -> None:
    limits = {"NOFILE": 1000, "NPROC": 1000, "CORE": 0, "STACK": 8 << 20, "AS": 1 << 40, "FSIZE": 1 << 30, "NICE": 0, "RTPRIO": 0}
    c["process"]["rlimits"] = [{"type": f"RLIMIT_{name}", "soft": value // 2, "hard": value} for name, value in limits.items()]


@configuration()
def rlimits_of_all_kinds(c: Config) -> None:
    kinds = "CPU LOCKS MEMLOCK MSGQUEUE RTTIME SIGPENDING"
    c["process"]["rlimits"] = [{"type": f"RLIMIT_{name}", "soft": 4096, "hard": 8192} for name in kinds.split()]
    c["process"]["rlimits"] += [{"type": f"RLIMIT_{name}", "soft": 1 << 30, "hard": 1 << 31} for name in ("DATA", "RSS")]


@configuration()
def oom_score(c: Config) -> None:
    c["process"]["oomScoreAdj"] = 321


@configuration()
def oom_score_zero_and_affinity_of_exec(c: Config) -> None:
    c["process"]["oomScoreAdj"] = 0
    c["process"]["execCPUAffinity"] = {"initial": "0", "final": "0-1"}


@configuration()
def affinity_of_exec(c: Config) -> None:
    c["process"]["execCPUAffinity"] = {"initial": "0-1", "final": "1"}


@configuration()
def working_directory(c: Config) -> None:
    c["process"]["cwd"] = "/etc"


@configuration("stat:/made", "stat:/made/for/it")
def working_directory_missing(c: Config) -> None:
    c["process"]["cwd"] = "/made/for/it"


@configuration()
def environment(c: Config) -> None:
    c["process"]["env"] = ["PATH=/bin:/", "HOME=/elsewhere", "EMPTY=", "EQUALS=a=b", "ä=ö", "A B=c d", "NEWLINE=a\nb"]


@configuration()
def environment_with_a_name_twice(c: Config) -> None:
    c["process"]["env"] = ["PATH=/", "A=1", "HOME=/x", "A=2", "PATH=/bin:/"]


@configuration()
def environment_without_home(c: Config) -> None:
    c["process"]["env"] = ["PATH=/"]
    c["process"]["args"] = ["probe"]


@configuration(size=(33, 101))
def terminal(c: Config) -> None:
    c["process"].update(terminal=True, env=["PATH=/", "HOME=/", "TERM=xterm"])


@configuration(size=(24, 80), facts={"self.terminal": [[11, 22], [11, 22], [11, 22]]})
def terminal_of_a_size(c: Config) -> None:
    c["process"].update(terminal=True, consoleSize={"height": 11, "width": 22})


@configuration()
def terminal_size_without_terminal(c: Config) -> None:
    c["process"]["consoleSize"] = {"height": 11, "width": 22}


@configuration(size=(24, 80), owner=100000)
def terminal_in_a_user_namespace(c: Config) -> None:
    user_namespace(c)
    c["process"].update(terminal=True, user={"uid": 7, "gid": 7})


for _policy, _number, _more in (
    ("BATCH", 3, {"nice": 5}), ("IDLE", 5, {}), ("OTHER", 0, {"nice": -3}), ("FIFO", 1, {"priority": 7}),
    ("RR", 2, {"priority": 9, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}),
):  # fmt: skip

    def _scheduled(c: Config, policy: str = _policy, more: dict[str, Any] = _more) -> None:
        c["process"]["scheduler"] = {"policy": f"SCHED_{policy}", **more}

    named(f"scheduler-{_policy.lower()}", _scheduled, facts={"self.scheduler.policy": _number})


for _n in (1, 2):

    def _deadline(c: Config, n: int = _n) -> None:
        times = {"runtime": n * 10**6, "deadline": n * 10**7, "period": n * 10**8}
        c["process"]["scheduler"] = {"policy": "SCHED_DEADLINE", "flags": ["SCHED_FLAG_RESET_ON_FORK"], "priority": 0, **times}

    _times = [_n * 10**6, _n * 10**7, _n * 10**8]
    named(f"scheduler-deadline-{_n}", _deadline, facts={"self.scheduler.policy": 6, "self.scheduler.times": _times})


for _name, _class, _level, _value in (("rt", "RT", 2, 1 << 13 | 2), ("be", "BE", 6, 2 << 13 | 6), ("idle", "IDLE", 0, 3 << 13)):

    def _prioritised(c: Config, kind: str = _class, level: int = _level) -> None:
        c["process"]["ioPriority"] = {"class": f"IOPRIO_CLASS_{kind}", "priority": level}

    named(f"io-priority-{_name}", _prioritised, facts={"self.ioprio": _value})


@configuration(facts={"self.personality": 8, "self.machine": "i686"})
def personality_32(c: Config) -> None:
    c["linux"]["personality"] = {"domain": "LINUX32", "flags": []}


@configuration(facts={"self.personality": 0})
def personality_64(c: Config) -> None:
    c["linux"]["personality"] = {"domain": "LINUX", "flags": []}


@configuration("read:/proc/sys/kernel/domainname")
def names(c: Config) -> None:
    c.update(hostname="x" * 64, domainname="example.com")


@configuration("read:/proc/sys/kernel/domainname")
def domain_name_alone(c: Config) -> None:
    del c["hostname"]
    c["domainname"] = "d"


@configuration()
def annotations(c: Config) -> None:
    c["annotations"] = {"com.example.key": "value", "com.example.empty": ""}


@configuration()
def annotations_and_a_root_by_an_absolute_path(c: Config) -> None:
    c["annotations"] = {"k": "v"}
    c["root"]["path"] = "{bundle}/rootfs"


@configuration(refused=True)
def labels(c: Config) -> None:
    """There is no AppArmor here: a profile that does not hold would be believed in."""
    c["process"].update(apparmorProfile="probed")


@configuration()
def label_that_asks_for_nothing(c: Config) -> None:
    c["process"].update(apparmorProfile="unconfined", selinuxLabel="")
    c["linux"]["mountLabel"] = ""


@configuration(refused=True)
def label_of_selinux(c: Config) -> None:
    c["process"].update(selinuxLabel="system_u:system_r:svirt_lxc_net_t:s0:c124,c675")


@configuration()
def label_of_mounts(c: Config) -> None:
    c["linux"]["mountLabel"] = "system_u:object_r:svirt_sandbox_file_t:s0:c715,c811"


# -- hooks ---------------------------------------------------------------------------------------------------------

SCRIPT = 'read -r state; printf \'%s %s %s\\n\' "$0" "$X" "${state:+state}" >>{bundle}/hooks'


@configuration()
def hooks(c: Config) -> None:
    host = {"path": "/bin/sh", "env": ["X=y"], "timeout": 10}
    kinds = ("prestart", "createRuntime", "createContainer", "poststart", "poststop")
    c["hooks"] = {kind: [{**host, "args": ["sh", "-c", SCRIPT, kind]}] for kind in kinds}
    c["hooks"]["startContainer"] = [{"path": "/probe", "args": ["probe"], "env": ["A=b"], "timeout": 5}]


@configuration()
def hooks_more_than_one_each(c: Config) -> None:
    def hook(kind: str) -> Config:
        return {"path": "/bin/sh", "args": ["sh", "-c", SCRIPT, kind], "env": ["X=1"], "timeout": 10}

    kinds = ("prestart", "createRuntime", "createContainer", "poststart", "poststop")
    c["hooks"] = {kind: [hook(kind + "1"), hook(kind + "2")] for kind in kinds}
    c["hooks"]["startContainer"] = [{"path": "/probe", "args": ["probe"], "env": ["A=b"], "timeout": 5}] * 2


# -- files ---------------------------------------------------------------------------------------------------------


@configuration()
def root_read_only(c: Config) -> None:
    c["root"]["readonly"] = True


for _kind in ("shared", "slave", "private", "unbindable", "rshared", "rslave", "rprivate", "runbindable"):

    def _spread(c: Config, kind: str = _kind) -> None:
        c["linux"]["rootfsPropagation"] = kind

    named(f"root-{_kind}", _spread)


@configuration("stat:/m", "write:/m", "list:/m", "exec:/m/probe")
def mount_tmpfs(c: Config) -> None:
    mount(c, "/m", "tmpfs", "nodev", "noexec", "nosuid", "noatime", "size=1m", "mode=1770", "uid=5", type="tmpfs")


@configuration("write:/m", "exec:/m/probe", "list:/m")
def mount_bind_read_only(c: Config) -> None:
    mount(c, "/m", "{rootfs}", "bind", "ro", "noexec", type="bind")


@configuration("read:/m/file", "write:/m/file", "stat:/m/file")
def mount_bind_of_a_file(c: Config) -> None:
    mount(c, "/m/file", "{rootfs}/etc/passwd", "bind", "ro")


@configuration("write:/m")
def mount_bind_times(c: Config) -> None:
    mount(c, "/m", "{tree}", "rbind", "rw", "noatime", "nodiratime", "nosuid", "nodev")


@configuration("write:/m")
def mount_bind_recursive_attributes(c: Config) -> None:
    mount(c, "/m", "{tree}", "rbind", "rro", "rnosuid", "rnodev", "rnoexec")


@configuration("write:/m", "write:/m/below")
def mount_bind_top_only_read_only(c: Config) -> None:
    mount(c, "/m", "{tree}", "rbind", "ro")


@configuration("list:/m/below")
def mount_bind_not_recursive(c: Config) -> None:
    mount(c, "/m", "{tree}", "bind", "nosymfollow")


for _kind in ("shared", "rslave", "rprivate", "unbindable"):

    def _bound(c: Config, kind: str = _kind) -> None:
        mount(c, "/m", "{tree}", "rbind", kind)

    named(f"mount-bind-{_kind}", _bound)


@configuration("stat:/m")
def mount_relative(c: Config) -> None:
    mount(c, "m", "tmpfs", "size=64k", type="tmpfs")


@configuration("list:/etc", "stat:/etc/passwd", "write:/etc")
def mount_tmpfs_with_what_was_there(c: Config) -> None:
    mount(c, "/etc", "tmpfs", "tmpcopyup", "mode=755", type="tmpfs")


@configuration("stat:/m/etc/passwd", owner=100000)
def mount_id_mapped(c: Config) -> None:
    user_namespace(c)
    mount(c, "/m", "{tree}", "rbind", "idmap", uidMappings=copy.deepcopy(MAP), gidMappings=copy.deepcopy(MAP))


@configuration("stat:/m", facts={"stat:/m.uid": 0}, owner=100000)
def mount_id_mapped_as_the_container(c: Config) -> None:
    user_namespace(c)
    mount(c, "/m", "{tree}/flat", "bind", "idmap")


@configuration("stat:/m", owner=100000, refused=True)
def mount_of_less_than_was_mounted_in_a_user_namespace(c: Config) -> None:
    """What lies below a mount may not be seen there (man 7 mount_namespaces: mounts come as a unit)."""
    user_namespace(c)
    mount(c, "/m", "{tree}", "bind", "idmap")


@configuration("stat:/m", facts={"stat:/m.uid": 42, "stat:/m.gid": 43})
def mount_id_mapped_without_user_namespace(c: Config) -> None:
    uids, gids = [{"containerID": 0, "hostID": 42, "size": 1}], [{"containerID": 0, "hostID": 43, "size": 1}]
    mount(c, "/m", "{tree}", "bind", "ridmap", uidMappings=uids, gidMappings=gids)


@configuration("write:/sys", "write:/proc/sys/kernel/hostname", "list:/sys/fs/cgroup")
def mount_system_directories_writable(c: Config) -> None:
    c["mounts"][5]["options"] = ["rw", "nosuid"]
    c["mounts"][6]["options"] = ["rw"]
    c["linux"].update(maskedPaths=[], readonlyPaths=[])


@configuration("stat:/deep/er/and/deeper")
def mount_at_a_missing_path(c: Config) -> None:
    mount(c, "/deep/er/and/deeper", "tmpfs", type="tmpfs")


@configuration("read:/etc/passwd", "list:/tmp", "write:/tmp", "write:/bin")
def masked_and_read_only_paths(c: Config) -> None:
    c["linux"]["maskedPaths"] += ["/etc/passwd", "/nowhere"]
    c["linux"]["readonlyPaths"] += ["/tmp", "/bin", "/nowhere"]


NODES = ("/dev/fuse", "/dev/pipe", "/dev/loop", "/opt/dev/zero")


@configuration(*(f"stat:{path}" for path in NODES))
def devices(c: Config) -> None:
    c["linux"]["devices"] = [
        {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 3, "gid": 4},
        {"path": "/dev/pipe", "type": "p", "fileMode": 0o622},
        {"path": "/dev/loop", "type": "b", "major": 7, "minor": 0, "fileMode": 0o660, "uid": 0, "gid": 6},
        {"path": "/opt/dev/zero", "type": "c", "major": 1, "minor": 5},
    ]


@configuration("stat:/dev/null", "stat:/dev/full")
def devices_that_are_there_anyway(c: Config) -> None:
    c["linux"]["devices"] = [{"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600, "uid": 1, "gid": 1}]


@configuration("read:/proc/sys/net/ipv4/ip_unprivileged_port_start", "read:/proc/sys/kernel/shmmax")
def kernel_settings(c: Config) -> None:
    c["linux"]["sysctl"] = {"net.ipv4.ip_unprivileged_port_start": "80", "kernel.shmmax": "65536"}


@configuration("read:/proc/sys/net/ipv4/conf/lo/forwarding", "read:/proc/sys/fs/mqueue/msg_max")
def kernel_settings_with_slashes(c: Config) -> None:
    c["linux"]["sysctl"] = {"net/ipv4/conf/lo/forwarding": "1", "fs.mqueue.msg_max": "7"}


@configuration("stat:/dev/lo", "list:/sys/class/net", facts={"list:/sys/class/net.moved": True})
def network_device(c: Config) -> None:
    c["linux"]["netDevices"] = {"{device}": {"name": "moved"}}


@configuration(facts={"list:/sys/class/net.probe1": True})
def network_device_with_its_name(c: Config) -> None:
    c["linux"]["netDevices"] = {"{device}": {"name": "probe1"}}


# -- seccomp -------------------------------------------------------------------------------------------------------


def profile(c: Config, *rules: Config, **fields: Any) -> None:
    """Give it a filter."""
    c["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [*rules],
        **fields,
    }


def rule(action: str, *names: str, **more: Any) -> Config:
    """Return an entry of a filter."""
    return {"names": list(names), "action": f"SCMP_ACT_{action}", **more}


def argument(index: int, op: str, value: int, two: int = 0) -> Config:
    """Return a condition."""
    return {"index": index, "value": value, "valueTwo": two, "op": f"SCMP_CMP_{op}"}


@configuration()
def seccomp_errors(c: Config) -> None:
    profile(c, rule("ERRNO", "getitimer", "chmod", errnoRet=95), rule("ERRNO", "mkdir"), rule("LOG", "uname"))


@configuration()
def seccomp_kills(c: Config) -> None:
    profile(
        c,
        rule("KILL", "times"),
        rule("KILL_PROCESS", "swapon"),
        rule("KILL_THREAD", "acct"),
        rule("TRAP", "iopl"),
        rule("TRACE", "chroot", errnoRet=7),
    )
    c["process"]["noNewPrivileges"] = True


@configuration(*(call("getpriority", f"{n}:0") for n in range(3)), *(call("lseek", f"-1:{n}:0") for n in (0, 1, 5, 2**32, 2**63)))
def seccomp_arguments(c: Config) -> None:
    profile(
        c,
        rule("ERRNO", "getpriority", errnoRet=90, args=[argument(0, "EQ", 1)]),
        rule("ERRNO", "lseek", errnoRet=91, args=[argument(1, "GT", 2**32 - 1)]),
        rule("ERRNO", "lseek", errnoRet=92, args=[argument(1, "MASKED_EQ", 7, 5)]),
    )


@configuration(*(call("lseek", f"-1:{n}:{m}") for n in (0, 3, 4) for m in (0, 1)))
def seccomp_operators(c: Config) -> None:
    profile(
        c,
        rule("ERRNO", "lseek", errnoRet=93, args=[argument(1, "LT", 1), argument(2, "NE", 0)]),
        rule("ERRNO", "lseek", errnoRet=94, args=[argument(1, "GE", 3), argument(2, "LE", 0)]),
        flags=["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"],
    )


@configuration("call32:20", "call32:122:0", "call32:105:0:0", "call32:39:0:0")
def seccomp_other_architectures(c: Config) -> None:
    profile(c, rule("ERRNO", "getitimer", errnoRet=95), architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            flags=["SECCOMP_FILTER_FLAG_TSYNC"])  # fmt: skip


@configuration("call32:20")
def seccomp_allows_what_is_listed(c: Config) -> None:
    refused = ("getitimer", "times", "sync", "ptrace", "reboot", "userfaultfd", "io_uring_setup")
    allowed = [name for name in NUMBERS if name not in refused]
    profile(c, rule("ALLOW", *allowed), defaultAction="SCMP_ACT_ERRNO", defaultErrnoRet=38)


@configuration()
def seccomp_default_error(c: Config) -> None:
    allowed = [name for name in NUMBERS if name not in ("getitimer", "times", "sync")]
    profile(c, rule("ALLOW", *allowed), defaultAction="SCMP_ACT_ERRNO", defaultErrnoRet=1)


@configuration(call("dup", "-1"), call("dup", "77"))
def seccomp_with_an_agent_that_is_not_asked(c: Config) -> None:
    """listenerPath and listenerMetadata are ignored where no rule notifies (config-linux.md#seccomp)."""
    profile(c, rule("ERRNO", "dup", errnoRet=9), listenerPath="/nowhere.sock", listenerMetadata="text")


@configuration(refused=True)
def seccomp_with_an_agent_that_is_not_there(c: Config) -> None:
    profile(c, rule("NOTIFY", "chmod"), listenerPath="/nowhere.sock", listenerMetadata="text")


# -- NUMA, cache: of the machine -----------------------------------------------------------------------------------


@configuration(facts={"self.mempolicy": [0, 2, 1]})
def memory_policy_bind(c: Config) -> None:
    c["linux"]["memoryPolicy"] = {"mode": "MPOL_BIND", "nodes": "0", "flags": []}


@configuration(facts={"self.mempolicy": [0, 32768 | 3, 1]})
def memory_policy_interleave(c: Config) -> None:
    c["linux"]["memoryPolicy"] = {"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}


@configuration(facts={"self.mempolicy": [0, 32768 | 1, 1]})
def memory_policy_preferred(c: Config) -> None:
    c["linux"]["memoryPolicy"] = {"mode": "MPOL_PREFERRED", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}


RDT = {"closID": "probed", "l3CacheSchema": "L3:0=ff", "memBwSchema": "MB:0=20"}


@configuration(refused=True)
def cache_allocation(c: Config) -> None:
    c["linux"]["intelRdt"] = RDT


@configuration(refused=True)
def cache_monitoring(c: Config) -> None:
    c["linux"]["intelRdt"] = {"schemata": ["MB:0=20"], "enableMonitoring": True, "enableCMT": True, "enableMBM": True}


@configuration(refused=True)
def cache_allocation_and_monitoring(c: Config) -> None:
    c["linux"]["intelRdt"] = {**RDT, "schemata": ["L3:0=ff"], "enableMonitoring": True, "enableCMT": True, "enableMBM": True}


# -- control groups ------------------------------------------------------------------------------------------------


@configuration(call("openat", "-100:here"), "read:/dev/zero-not-there", "write:/dev/full", "read:/dev/fuse", "write:/dev/kmsg")
def device_rules(c: Config) -> None:
    c["linux"]["resources"] = {
        "devices": [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"}]
    }
    c["linux"]["devices"] = [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229},
                             {"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11}]  # fmt: skip


@configuration("write:/dev/kmsg", "read:/dev/rtc-not-there")
def device_rules_with_wildcards(c: Config) -> None:
    c["linux"]["resources"] = {
        "devices": [
            {"allow": False, "type": "a", "access": "rwm"},
            {"allow": True, "type": "c", "major": 1, "access": "w"},
            {"allow": False, "type": "c", "major": 1, "minor": 11, "access": "r"},
        ]
    }
    c["linux"]["devices"] = [{"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11}]


for _n in (1, 2):

    def _placed(c: Config, n: int = _n) -> None:
        c["linux"]["cgroupsPath"] = f"/minirt-probed/{n}"
        share(c, "cgroup")

    named(f"cgroup-path-{_n}", _placed)


def limits(name: str, files: str, *variants: Config, **more: Any) -> None:
    """Add configurations of resources; the container reads what its group's files say then."""
    for n, resources in enumerate(variants):

        def limited(c: Config, resources: Config = resources) -> None:
            c["linux"]["resources"] = resources

        named(f"{name}-{n + 1}", limited, *(f"read:/sys/fs/cgroup/{file}" for file in files.split()), lab=True, **more)


MIB = 1 << 20
limits(
    "memory", "memory.max memory.low memory.swap.max",
    {"memory": {"limit": 64 * MIB, "reservation": 32 * MIB, "swap": 128 * MIB, "useHierarchy": True, "checkBeforeUpdate": True}},
    {"memory": {"limit": 64 * MIB, "swap": -1, "reservation": 1 * MIB, "useHierarchy": True, "checkBeforeUpdate": False}},
)  # fmt: skip
limits(
    "memory-of-version-1", "memory.max memory.swap.max",
    {"memory": {"limit": 64 * MIB, "kernel": -1, "kernelTCP": -1, "swappiness": 10, "disableOOMKiller": False}},
    {"memory": {"limit": 64 * MIB, "kernel": 64 * MIB, "kernelTCP": 64 * MIB, "disableOOMKiller": True, "swappiness": 60}},
)  # fmt: skip
limits(
    "cpu", "cpu.max cpu.weight cpu.max.burst cpu.idle cpuset.cpus cpuset.mems",
    {"cpu": {"shares": 512, "quota": 50000, "period": 100000, "burst": 20000, "cpus": "0-1", "mems": "0"}},
    {"cpu": {"shares": 2048, "quota": -1, "period": 200000, "cpus": "1", "mems": "0", "burst": 0}},
    {"cpu": {"idle": 1}}, {"cpu": {"idle": 0}},
)  # fmt: skip
limits(
    "cpu-realtime", "cpu.max",
    {"cpu": {"realtimeRuntime": 950000, "realtimePeriod": 1000000}}, {"cpu": {"realtimeRuntime": 1000, "realtimePeriod": 2000}},
    refused=True,
)  # fmt: skip
limits("pids", "pids.max", {"pids": {"limit": 77}}, {"pids": {"limit": -1}})
DISK = {"major": 254, "minor": 0}  # the lab's /dev/vda
limits(
    "block-io", "io.max io.weight io.bfq.weight",
    {"blockIO": {f"throttle{kind}Device": [{**DISK, "rate": 1000 + n}]
                 for n, kind in enumerate(("ReadBps", "WriteBps", "ReadIOPS", "WriteIOPS"))}},
    {"blockIO": {f"throttle{kind}Device": [{**DISK, "rate": 7777}] for kind in ("ReadBps", "WriteBps", "ReadIOPS", "WriteIOPS")}},
    {"blockIO": {"weight": 500, "leafWeight": 300}}, {"blockIO": {"weight": 10, "leafWeight": 10}},
)  # fmt: skip
# The lab's disk has no scheduler that knows weights.
limits(
    "block-io-of-a-device", "io.weight",
    *({"blockIO": {"weightDevice": [{**DISK, "weight": n, "leafWeight": 30}]}} for n in (50, 500)), refused=True,
)  # fmt: skip
limits(
    "huge-pages", "hugetlb.2MB.max hugetlb.2MB.rsvd.max",
    {"hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}]}, {"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]},
)  # fmt: skip
limits(
    "network-classes", "cgroup.procs",
    {"network": {"classID": 1048577, "priorities": [{"name": "lo", "priority": 5}]}},
    {"network": {"classID": 7, "priorities": [{"name": "lo", "priority": 500}]}},
)  # fmt: skip
limits("rdma", "rdma.max", *({"rdma": {"none_there": {"hcaHandles": n, "hcaObjects": 100}}} for n in (3, 4)), refused=True)
limits(
    "unified", "memory.high cpu.weight pids.max",
    {"unified": {"memory.high": "67108864", "cpu.weight": "77"}}, {"unified": {"pids.max": "55"}},
)  # fmt: skip


# -- processes that join a container --------------------------------------------------------------------------------


class Exec:
    """A process for `exec --process`.

    Args:
        name: of it.
        process: what it has besides args; {} joins as the container's own first process would.
        container: name of the configuration that it joins.
        size: of the terminal that `exec` is started at.
        facts: as a configuration's.
    """

    def __init__(self, name: str, process: Config, container: str = "plain", size: tuple[int, int] = (0, 0),
                 facts: dict[str, Any] | None = None) -> None:  # fmt: skip
        self.name = f"exec-{name}"
        self.container = container
        self.size = size
        self.facts = facts or {}
        self.lab = self.refused = False
        plain = {key: BASE["process"][key] for key in ("user", "env", "cwd", "capabilities")}
        self.process = copy.deepcopy({**plain, **process, "args": ["/probe", *QUESTIONS]})


def sets(kinds: str, *names: str) -> Config:
    """Return capabilities in some of the sets."""
    return {"capabilities": {kind: list(names) for kind in kinds.split()}}


GRANTED = "bounding permitted effective"
EXECS = [
    Exec("plain", {}),
    Exec("user", {"user": {"uid": 1000, "gid": 1001, "umask": 0o077, "additionalGids": [5, 2000]}}),
    Exec("no-capabilities", {"capabilities": {}}),
    Exec("fewer-capabilities", sets(GRANTED, "CAP_KILL")),
    Exec("user-with-capabilities",
         {"user": {"uid": 7, "gid": 7}, **sets(f"{GRANTED} inheritable ambient", "CAP_KILL", "CAP_CHOWN")}),
    Exec("no-new-privileges", {"noNewPrivileges": True}),
    Exec("environment", {"env": ["PATH=/", "A=b=c", "EMPTY="], "cwd": "/etc"}),
    Exec("limits", {"rlimits": [{"type": "RLIMIT_NOFILE", "soft": 90, "hard": 99}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 1}]}),
    Exec("oom-score", {"oomScoreAdj": 77}),
    Exec("terminal", {"terminal": True, "consoleSize": {"height": 11, "width": 22}}, size=(33, 101),
         facts={"self.terminal": [[11, 22]] * 3}),
    Exec("affinity", {"execCPUAffinity": {"initial": "0", "final": "1"}}, facts={"self.affinity": [1]}),
    Exec("priorities",
         {"scheduler": {"policy": "SCHED_BATCH", "nice": 3}, "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 7}},
         facts={"self.scheduler.policy": 3, "self.scheduler.nice": 3, "self.ioprio": 2 << 13 | 7}),
    Exec("in-user-namespace", {}, "user-namespace-of-one-range"),
    Exec("user-in-user-namespace", {"user": {"uid": 1003, "gid": 1004, "additionalGids": [7]}}, "user-namespace-of-two-ranges"),
    Exec("under-seccomp", {}, "seccomp-errors"),
    Exec("under-seccomp-and-no-new-privileges", {"noNewPrivileges": True}, "seccomp-allows-what-is-listed"),
    Exec("in-read-only-root", {}, "root-read-only"),
    Exec("under-masks", {}, "masked-and-read-only-paths"),
    Exec("in-joined-namespaces", {}, "join-network"),
    Exec("with-devices", {}, "devices"),
]  # fmt: skip
