"""The jail of a machine's process: what a guest finds that breaks out of KVM and of our devices.

When all that the machine needs is open (KVM, disks, console, trace), the process gives up the rest, by a plan of system
calls as a container's birth is one (minirt/plan), run by the process itself before it starts a thread:

    namespaces   no network, none of the host's mounts, host names, IPC objects, cgroup paths
    root         an empty, read-only file system of one directory is /
    user         a number that no user has; no groups, no capabilities, none to be had
    limits       no more descriptors than are open now (and the threads' few, and the guest's connections), no core files; of a
                 machine by name, whose logs we keep, no file longer than the longest that it needs
    seccomp      the calls of confinement.py, on all threads to come

Firecracker's jailer does this before it starts its program (docs/jailer.md there). Ours is an interpreter, whose files an
empty root would lack: so all that it will import is imported first. There is no pid namespace, which would take a second
process: without /proc, and with kill(2) for itself alone, the process has no way to see or reach another one.
"""

from __future__ import annotations

import os
from time import monotonic, sleep

from minivm.errors import MinivmError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.plan import Plan
    from minirt.trace import Sink

__all__ = ["enter", "jail_plan"]

NOWHERE = "/proc"  # a directory that every host has, to put the new root on
USERS = 0x7000_0000  # numbers from here on belong to nobody: neither login.defs nor systemd gives them out
JOINED = 1  # seconds in which a thread that was joined must be gone
DESCRIPTORS = 16  # that the run itself opens: pipes, eventfds
# With a debugger, or for a dump
LOOKING = ("minivm.machine.dump", "minivm.inspect.core", "minivm.inspect.gdb.server", "minivm.inspect.paging")
NEEDED = (  # what is imported while a machine runs and ends, by name, for there will be no file to import from
    "json", "signal", "select", "termios", "tty", "traceback", "linecache", "encodings.ascii", "encodings.latin_1",
    "minivm.machine.foreground", "minivm.machine.loop", "minivm.machine.terminal", "minivm.machine.gate", "minivm.cli.report",
    "minivm.inspect.registers", "minivm.inspect.sites", "minivm.inspect.times", "minivm.inspect.profile",
    "minirt.trace", "minirt.plan.explain", "minirt.plan.here", "minirt.plan.decode", "minirt.linux.seccomp.compiler",
)  # fmt: skip


def jail_plan(uid: int, root: bool, looked_at: bool = False, connections: int = 0, longest: int | None = None) -> Plan:
    """Return the plan.

    Args:
        uid: the user and group to become.
        root: whether this process may do all that; else it makes a user namespace first, and stays who it is.
        looked_at: whether a debugger or a dump is asked for (confinement.py).
        connections: descriptors that the guest may come to hold, besides our own.
        longest: bytes that a file may come to have; None: any.
    """
    from minirt.linux import constants as k
    from minirt.plan import Plan

    p = Plan()
    p.step("namespaces", why="leave what the host's processes share")
    spaces = k.CLONE_NEWNS | k.CLONE_NEWNET | k.CLONE_NEWIPC | k.CLONE_NEWUTS | k.CLONE_NEWCGROUP
    if not root:
        p.unshare(k.CLONE_NEWUSER, why="in a user namespace of its own an unprivileged process may do the following")
    p.unshare(spaces, why="no network, and mounts, names and IPC objects of its own")
    p.step("root", ("namespaces",), why="an empty file system instead of the host's")
    p.mount(None, "/", None, k.MS_REC | k.MS_PRIVATE, why="what is mounted here from now on is not seen outside")
    flags = k.MS_RDONLY | k.MS_NOSUID | k.MS_NODEV | k.MS_NOEXEC
    p.mount("jail", NOWHERE, "tmpfs", flags, b"size=4k,nr_inodes=1,mode=0555\0", why="one directory, and no room for more")
    p.chdir(NOWHERE, why="pivot_root takes two paths, and both may be .")
    p.pivot_root(".", ".", why="this is / now; the old root lies on it")
    p.umount2(".", k.MNT_DETACH, why="and is taken off: no path leads to the host's files any more")
    p.chdir("/", why="nor does the working directory")
    _limits(p, DESCRIPTORS + connections, longest)
    p.step("user", ("root",), why="be nobody")
    _capabilities(p)
    if root:
        p.setgroups(0, None, why="no supplementary groups")
        p.setresgid(uid, uid, uid, why="a group that nobody else has")
        p.setresuid(uid, uid, uid, why="a user that nobody else is; leaving 0, all capabilities go")
    p.capset(k_header(), bytes(24), why="effective, permitted and inheritable: none")
    p.prctl(k.PR_SET_DUMPABLE, 0, why="no other process of this user may trace it or read its memory")
    p.prctl(k.PR_SET_NO_NEW_PRIVS, 1, why="no execve gives more rights; a filter may be loaded without any")
    _seccomp(p, looked_at)
    return p


def _limits(p: Plan, more: int, longest: int | None) -> None:
    from resource import RLIM_INFINITY, RLIMIT_NOFILE, getrlimit

    from minirt.linux import constants as k
    from minirt.plan import Words

    most, hard = max(map(int, os.listdir("/proc/self/fd"))) + 1 + more, getrlimit(RLIMIT_NOFILE)[1]
    most = most if hard == RLIM_INFINITY else min(most, hard)
    p.step("limits", why="what a broken machine cannot use up")
    p.prlimit64(0, k.RLIMIT_NOFILE, Words(most, most), why=f"{more} more descriptors than there are")
    p.prlimit64(0, k.RLIMIT_CORE, Words(0, 0), why="a core file would hold the guest's memory")
    if longest is not None:
        p.prlimit64(0, k.RLIMIT_FSIZE, Words(longest, longest), why="no log fills the host's disk")


def _capabilities(p: Plan) -> None:
    from minirt.linux import constants as k

    with open("/proc/sys/kernel/cap_last_cap") as file:
        last = int(file.read())
    for number in range(last + 1):
        p.prctl(k.PR_CAPBSET_DROP, number, why="from the bounding set: what is never to be had again")


def k_header() -> bytes:
    """Return struct __user_cap_header_struct, version 3, for this thread (man 2 capset)."""
    return (0x20080522).to_bytes(4, "little") + bytes(4)


def _seccomp(p: Plan, looked_at: bool) -> None:
    from minirt.linux import constants as k
    from minirt.linux import seccomp
    from minirt.plan import Memory, Words
    from minivm.machine.confinement import profile

    filter = seccomp.compile(profile(os.getpid(), looked_at), newer_enosys=False)
    p.step("seccomp", ("user",), why="only the calls that a running machine makes")
    program = Words(filter.instructions, Memory(filter.program))
    p.seccomp(k.SECCOMP_SET_MODE_FILTER, 0, program, why=f"{filter.instructions} instructions, before each call from now on")


def _alone() -> bool:
    """Whether this process has one thread: one that has just been joined is still listed for a moment (man 3 pthread_join)."""
    end = monotonic() + JOINED
    while len(os.listdir("/proc/self/task")) != 1:
        if monotonic() > end:
            return False
        sleep(0.001)
    return True


def enter(sink: Sink | None = None, looked_at: bool = False, connections: int = 0, longest: int | None = None) -> None:
    """Confine this process, which must have one thread. There is no way back.

    Args:
        sink: told each call.
        looked_at: whether a debugger or a dump is asked for.
        connections: Machine.connections of the machine that it runs.
        longest: bytes that a file which it has open may come to have; None: any.

    Raises MinivmError where something of it cannot be done here: then the process must end.
    """
    from importlib import import_module

    from minirt.errors import MinirtError

    for name in NEEDED + LOOKING * looked_at:
        import_module(name)
    if not _alone():
        raise MinivmError("the jail must be entered before a thread is started")
    try:
        from minirt.plan.here import perform

        uid = USERS + os.getpid() % (1 << 22)
        perform(jail_plan(uid, os.geteuid() == 0, looked_at, connections, longest), sink)
    except MinirtError as error:
        raise MinivmError(f"cannot jail this process: {error}") from None
