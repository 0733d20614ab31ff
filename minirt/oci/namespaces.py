"""The first steps: signals, the cgroup to be born into, the namespaces, who is root in them, the session."""

from __future__ import annotations

from errno import EACCES, EDQUOT, ENOSYS, EPERM

from minirt.errors import MinirtError
from minirt.linux import constants as k
from minirt.oci.step import Context, always, step
from minirt.plan import Memory, Plan, Slot

__all__ = [
    "TYPES", "cgroup", "cgroup_namespace", "namespaces", "oom", "session", "signals", "start_fifo", "time_namespace",
    "user_namespace",
]  # fmt: skip

# runtime-spec config-linux.md#namespaces: type -> flag (man 7 namespaces). The order is that in which they are joined:
# a user namespace gives the right to enter the others that it owns.
TYPES = {
    "user": "CLONE_NEWUSER",
    "mount": "CLONE_NEWNS",
    "pid": "CLONE_NEWPID",
    "uts": "CLONE_NEWUTS",
    "ipc": "CLONE_NEWIPC",
    "network": "CLONE_NEWNET",
    "cgroup": "CLONE_NEWCGROUP",
    "time": "CLONE_NEWTIME",
}


@step("signals", why="give the program the signals that a program expects", common=always)
def signals(p: Plan, c: Context) -> None:
    """Python ignores SIGPIPE and SIGXFSZ, and the executor was started with all signals blocked; both are inherited."""
    default = Memory(bytes(32))  # struct kernel_sigaction: SIG_DFL, no flags
    p.rt_sigaction(k.SIGPIPE, default, why="Python ignores it; a program whose reader has gone must end")
    p.rt_sigaction(k.SIGXFSZ, default, why="Python ignores it")
    p.rt_sigprocmask(k.SIG_SETMASK, Memory(bytes(8)), why="all were blocked while the memory was shared (csrc/plan/spawn.c)")


@step("oom", why="say how soon the kernel should end this process when memory is short")
def oom(p: Plan, c: Context) -> None:
    """The score is inherited over clone3, and here /proc is still the host's."""
    score = c.process.get("oomScoreAdj")
    if score is None:
        return
    fd = Slot("oom_score_adj")
    text = str(score).encode()
    p.openat(k.AT_FDCWD, "/proc/self/oom_score_adj", k.O_WRONLY | k.O_CLOEXEC, store=fd)
    p.write(fd, text, len(text), why="man 5 proc_pid_oom_score_adj; less than now needs CAP_SYS_RESOURCE")
    p.close(fd)


@step("start", why="take hold of the FIFO that the start will come through")
def start_fifo(p: Plan, c: Context) -> None:
    """Opened for both directions, so that opening does not wait, and who writes finds a reader as long as this one lives."""
    if c.start_fifo:
        c.slots["start"] = fd = Slot("start")
        p.openat(k.AT_FDCWD, c.start_fifo, k.O_RDWR | k.O_CLOEXEC, store=fd, why="man 7 fifo")


@step("cgroup", why="open the cgroup that the container is born into")
def cgroup(p: Plan, c: Context) -> None:
    """The directory was made, and its limits written, by the parent; or systemd moves this process there, and it stays."""
    if c.scope:
        p.barrier("scope", why="systemd makes a scope around this process; what it makes is born in there")
    elif c.cgroup:
        c.slots["cgroup"] = fd = Slot("cgroup")
        p.openat(
            k.AT_FDCWD, c.cgroup, k.O_PATH | k.O_DIRECTORY | k.O_CLOEXEC, store=fd,
            why="clone3 takes a descriptor: the process is never outside its limits, not for one instruction",
        )  # fmt: skip


@step("namespaces", why="make the process that will be the container, in namespaces of its own")
def namespaces(p: Plan, c: Context) -> None:
    """clone3 makes the process and its namespaces at once; those named by a path are entered before."""
    joined = joined_paths(c)
    for kind in {*joined, *c.fresh} - TYPES.keys():
        raise MinirtError(f"config.json: linux.namespaces: no namespace type {kind!r}; there are {', '.join(TYPES)}")
    opened = {}
    for kind, path in joined.items():
        opened[kind] = fd = Slot(f"{kind} namespace")
        p.openat(k.AT_FDCWD, path, k.O_RDONLY | k.O_CLOEXEC, store=fd, why="before paths and rights change")
    for kind, constant in TYPES.items():
        if kind in opened:
            p.setns(opened[kind], getattr(k, constant), why=f"share the {kind} namespace that this file stands for")
            p.close(opened[kind])
    p.clone3(
        k.CLONE_PARENT | new_flags(c), c.slots.get("cgroup"),
        why="the child; CLONE_PARENT: it is a child of minirt, not of the executor, which ends now",
    )  # fmt: skip


def new_flags(c: Context) -> int:
    """Return clone3's flags: one for each type of namespace that is to be new (c.fresh), but for those that are made later."""
    flags = 0
    for kind in c.fresh - made_later(c):
        flags |= getattr(k, TYPES[kind])
    return flags


def made_later(c: Context) -> set[str]:
    """Return the types that clone3 does not make.

    A new cgroup namespace has as its root the group that its maker is in, and a new time namespace is entered when its
    clocks are set. What lies in a new IPC namespace belongs to who makes it; with a new user namespace that is nobody yet.
    """
    return {"cgroup", "time", "ipc"} if "user" in c.fresh else {"cgroup", "time"}


def joined_paths(c: Context) -> dict[str, str]:
    """Return type and path of each namespace that is entered."""
    return {ns["type"]: ns["path"] for ns in c.linux.get("namespaces") or () if ns.get("path")}


@step("userns", "namespaces", why="become root of the new user namespace")
def user_namespace(p: Plan, c: Context) -> None:
    """Until its maps are written every id in it is the overflow id, and an execve would lose all capabilities."""
    if "user" in joined_paths(c):
        p.setresgid(0, 0, 0, why="group 0 of the namespace that was entered")
        p.setresuid(0, 0, 0, why="and user 0")
    if "user" not in c.fresh:
        return
    open_offsets(p, c)
    lower = c.overlay.lower if c.overlay is not None and not c.rootless else []
    from minirt.oci.sources import MOST

    first = lower[:MOST]
    take = Memory(bytes(16 + 4 * len(first))) if first else None
    p.barrier("idmaps", why="minirt writes uid_map and gid_map from outside (man 7 user_namespaces)", take=take)
    p.setresgid(0, 0, 0, why="group 0 of this namespace, which the map gives to another group outside")
    p.setresuid(0, 0, 0, why="user 0 of this namespace; the capabilities of its creator stay")
    if "ipc" in c.fresh:
        p.unshare(k.CLONE_NEWIPC, why="not with clone3: its /dev/mqueue belongs to who makes it, and that was nobody there yet")
    # A detached, id-mapped copy of each layer comes with the answer; in this mount namespace it covers the layer.
    for begin in range(0, len(lower), MOST):
        if begin:
            take = Memory(bytes(16 + 4 * len(lower[begin : begin + MOST])))
            p.barrier("layers", take=take, why="more layers than one message takes")
        assert take is not None
        for i in range(len(lower[begin : begin + MOST])):
            c.slots[f"layer {begin + i}"] = take.load(16 + 4 * i)


@step("cgroupns", "namespaces", why="see the cgroup that the container is in as the root of all cgroups")
def cgroup_namespace(p: Plan, c: Context) -> None:
    """Not with clone3: that takes the caller's cgroup as the root of the new namespace, not the one cloned into."""
    if "cgroup" in c.fresh:
        p.unshare(k.CLONE_NEWCGROUP, why="its root is the cgroup that this process is in now (man 7 cgroup_namespaces)")


def open_offsets(p: Plan, c: Context) -> None:
    """Open what the offsets of the clocks are written to, if there are any.

    Before another user is taken on: after that the process is not dumpable (man 2 prctl, PR_SET_DUMPABLE), and its
    files in /proc belong to the host's root.
    """
    if "time" in c.fresh and c.linux.get("timeOffsets") and "offsets" not in c.slots:
        c.slots["offsets"] = fd = Slot("timens_offsets")
        p.openat(k.AT_FDCWD, "/proc/self/timens_offsets", k.O_WRONLY | k.O_CLOEXEC, store=fd)


@step("timens", "namespaces", "userns", why="let the clocks that count from the boot show other times")
def time_namespace(p: Plan, c: Context) -> None:
    """Its offsets can only be written while nobody is in it; unshare(2) prepares one for children, and then we enter it.

    Linux man 7 time_namespaces; runtime-spec config-linux.md#time-offsets. Here /proc is still the host's.
    """
    if "time" not in c.fresh:
        return
    p.unshare(k.CLONE_NEWTIME, why="for children; this process stays outside for now")
    lines = [
        f"{clock} {offset.get('secs') or 0} {offset.get('nanosecs') or 0}\n"
        for clock, offset in (c.linux.get("timeOffsets") or {}).items()
    ]
    if lines:
        open_offsets(p, c)
        fd, data = c.slots["offsets"], "".join(lines).encode()
        p.write(fd, data, len(data), at_least=len(data), why="clock, seconds, nanoseconds; in one write")
        p.close(fd)
    fd = Slot("time namespace")
    p.openat(k.AT_FDCWD, "/proc/self/ns/time_for_children", k.O_RDONLY | k.O_CLOEXEC, store=fd)
    p.setns(fd, k.CLONE_NEWTIME, why="now this process too")
    p.close(fd)


@step("session", "namespaces", why="cut the ties to the caller's terminal and keys", common=lambda c: c.new_keyring)
def session(p: Plan, c: Context) -> None:
    """A terminal's signals go to a session; a session keyring is shared by what is forked."""
    p.setsid(why="Ctrl-C at the caller's terminal is minirt's to pass on")
    if c.new_keyring:
        p.keyctl(
            k.KEYCTL_JOIN_SESSION_KEYRING, None, tolerate=(EPERM, ENOSYS, EDQUOT, EACCES),
            why="a keyring of its own: the kernel's keyrings are not in any namespace (man 7 session-keyring)",
        )  # fmt: skip
    p.umask(0, why="the modes of what is made below are meant exactly")
