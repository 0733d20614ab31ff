"""The plan: an ordered list of system calls, each with the reason it is there.

    from minirt.plan import Plan
    from minirt.linux.constants import CLONE_NEWUTS
    Plan().unshare(CLONE_NEWUTS).sethostname("box").execve("/bin/sh").run()

A method is a system call's name and takes its arguments in the man page's order; it appends one record and calls
nothing. What every method takes besides (`Unpack[How]`):

    why        one sentence for a learner
    tolerate   errnos after which the plan goes on at the next record
    otherwise  errno -> label: goes on there instead
    at_least   the smallest result that is no failure
    store      a Slot (or an address in memory) that the result is kept in
    positive   label to go on at if the result is > 0

A parameter's annotation is the name of a kind (minirt/plan/kinds.py), which `minirt.plan.decode` prints by: `MS`
are flags whose constants begin with MS_, `Path` is text, `Fd` a descriptor.
"""

from __future__ import annotations

import os

from minirt.linux import constants
from minirt.plan import common
from minirt.plan.record import END, Label, Late, Memory, Record, Slot, Words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping
    from typing import Any, ParamSpec, TypeVar, Unpack

    from minirt.plan.kinds import (
        AF,
        AT,
        CLONE,
        CLOSE_RANGE,
        FSCONFIG,
        FSMOUNT,
        FSOPEN,
        KEYCTL,
        MNT,
        MOUNT_ATTR,
        MOVE_MOUNT,
        MS,
        MSG,
        OPEN_TREE,
        PR,
        RLIMIT,
        SECCOMP,
        SOCK,
        TIO,
        Argv,
        Data,
        Device,
        Dirfd,
        Fd,
        How,
        Id,
        Mode,
        Number,
        O,
        OpenHow,
        Path,
        Pointer,
        Signal,
        Size,
        Text,
    )  # fmt: skip
    from minirt.plan.record import Address, Argument

    P = ParamSpec("P")
    R = TypeVar("R")

__all__ = ["Plan", "Step"]


class Step:
    """A named group of records: what it does for a learner, and which steps must stand before it."""

    __slots__ = ("name", "needs", "why")

    def __init__(self, name: str, needs: tuple[str, ...] = (), why: str = "") -> None:
        self.name = name
        self.needs = needs
        self.why = why


def message(data: bytes, control: Memory, size: int) -> Words:
    """Return a struct msghdr of one piece of data, and ancillary data of `size` bytes (man 2 sendmsg)."""
    return Words(0, 0, Words(Memory(data), len(data)), 1, control, size, 0)


def syscall(method: Callable[P, R]) -> Callable[P, R]:
    """Turn a method without a body into one that appends a record of the system call it is named after."""
    name: str = method.__name__
    wanted = method.__code__.co_argcount - 1  # not of __annotations__: those are made a dictionary when a call is told
    defaults = method.__defaults__ or ()

    def append(
        self: Plan, *args: Argument, why: str = "", tolerate: tuple[int, ...] = (),
        otherwise: Mapping[int, str] | None = None, at_least: int = 0, store: Slot | Address | None = None,
        positive: str | None = None, barrier: str = "",
    ) -> Plan:  # fmt: skip
        missing = wanted - len(args)
        if missing:
            if not 0 < missing <= len(defaults):
                names = method.__code__.co_varnames[1 : wanted + 1]
                raise TypeError(f"{name}({', '.join(names)}): {len(args)} arguments given")
            args += defaults[-missing:]
        # By place, not by name: two dictionaries a record would be half of what a plan costs to build.
        self.items.append(
            Record(name, method, args, self.current, self.side, why, tolerate, otherwise, at_least, store, positive, barrier)
        )
        return self

    append.__name__ = name
    append.__doc__ = method.__doc__
    append.__wrapped__ = method  # type: ignore[attr-defined]
    return append  # type: ignore[return-value]


class Plan:
    """A list of records, grouped into steps.

    Args:
        preserve_fds: descriptors 3 .. 3+N-1 of the caller that the program keeps (runc's --preserve-fds).
    """

    def __init__(self, preserve_fds: int = 0) -> None:
        self.items: list[Record | Label] = []
        self.steps: dict[str, Step] = {}
        self.late: dict[str, Late | Slot] = {}
        self.notes: list[str] = []  # what was decided while building, worth telling
        self.preserve_fds = preserve_fds
        self.control = 3 + preserve_fds  # the number of the control socket in the executor and the child
        self.side = "executor"
        self.current = ""
        self.pid: Slot | None = None  # where clone3 puts the child's pid; None: the executor becomes the program
        self.barriers: list[tuple[str, str]] = []  # name, side

    # -- building --------------------------------------------------------------------------------------------

    def step(self, name: str, needs: tuple[str, ...] = (), why: str = "") -> Plan:
        """Begin a step: what is appended from now on belongs to it."""
        self.current = name
        if name not in self.steps:
            self.steps[name] = Step(name, needs, why)
        return self

    def label(self, name: str) -> Plan:
        """Mark this place, to go on at from an earlier record."""
        self.items.append(Label(name, self.current, self.side))
        return self

    def common(self, key: Hashable, write: Callable[[], Any]) -> Any:
        """Append a passage that many plans have: what `write` appended when this key was met for the first time (common.py).

        Args:
            key: all that the passage depends on.
            write: appends it.

        Returns: what `write` returned: what else follows from the key.
        """
        passage = common.passages.get((self.side, key))
        if passage is None:
            begin, steps = len(self.items), len(self.steps)
            value = write()
            common.keep((self.side, key), self.items[begin:], list(self.steps.values())[steps:], self.current, value)
            return value
        self.items += passage.records
        for step in passage.steps:
            self.steps.setdefault(step.name, step)
        self.current = passage.current
        return passage.value

    def append(self, call: str, kinds: Mapping[str, str], args: tuple[Argument, ...], how: Mapping[str, Any]) -> Plan:
        """Append one record; what the methods named after system calls come down to."""
        self.items.append(Record(call, kinds, args, self.current, self.side, **how))
        return self

    def at_barrier(self, name: str, room: int = 0, data: bytes = b"") -> Any:
        """Declare something that is decided at a barrier: a number, or `room` bytes (at first: data).

        Returns its memory, for the argument that it is.
        """
        memory = Late(name, room, data) if room else Slot(name)
        self.late[name] = memory
        return memory

    def barrier(self, name: str, why: str = "", give: Slot | None = None, take: Memory | None = None) -> Plan:
        """Wait here until Python, having looked, lets go on: a message, then its answer (`Birth.barriers`).

        Args:
            name: what Python is told.
            why: what it decides there.
            give: a descriptor to send along (a pty's master).
            take: a `struct cmsghdr` that the descriptors in the answer are put into.
        """
        self.barriers.append((name, self.side))
        number = len(self.barriers).to_bytes(2, "little")
        if give is None:
            self.write(self.control, number, 2, why=why, barrier=name)
        else:
            rights = Words(20, constants.SOL_SOCKET | constants.SCM_RIGHTS << 32, give)
            self.sendmsg(self.control, message(number, rights, 24), why=why, barrier=name)
        dead = "0 bytes: the parent has died"
        if take is None:
            return self.read(self.control, Memory(bytes(8)), 1, at_least=1, barrier=name, why=dead)
        cloexec = constants.MSG_CMSG_CLOEXEC
        return self.recvmsg(self.control, message(bytes(1), take, take.size), cloexec, at_least=1, barrier=name, why=dead)

    def check(self, have: Memory | Address, want: bytes, mask: bytes, error: int, why: str = "") -> Plan:
        """Compare memory under a mask; where it differs, fail as a system call with this errno would."""
        kinds = {"have": "Pointer", "want": "Data", "mask": "Data", "size": "Size", "errno": "Number"}
        args = (have, want, mask, len(want), error)
        return self.append("check", kinds, args, {"why": why})

    @property
    def records(self) -> list[Record]:
        """The records alone, in order."""
        return [item for item in self.items if isinstance(item, Record)]

    # -- running ---------------------------------------------------------------------------------------------

    def run(self, **options: Any) -> int:
        """Run the plan and wait; see `minirt.plan.birth.run`. Returns the exit status, 128+n for signal n."""
        from minirt.plan.birth import run

        return run(self, **options)

    def __str__(self) -> str:
        from minirt.plan.decode import describe

        return "\n".join(describe(self))

    # -- birth -----------------------------------------------------------------------------------------------

    def clone3(self, flags: CLONE, cgroup: Slot | None = None, **how: Unpack[How]) -> Plan:
        """Make the child: the records that follow are its own; the executor has done its part (man 2 clone3).

        struct clone_args is made here: CLONE_PARENT makes the child Python's own (and so has Python's
        exit signal, which is why exit_signal must be 0); `cgroup` is the fd for CLONE_INTO_CGROUP.
        """
        fd: Argument = 0
        if cgroup is not None:
            assert isinstance(flags, int)
            flags |= constants.CLONE_INTO_CGROUP
            fd = cgroup
        self.pid = self.pid or Slot("child's pid")
        kinds = {"args": "Clone", "size": "Size"}
        #            flags  pidfd child parent exit stack size tls set_tid size cgroup
        args = Words(flags, 0, 0, 0, 0, 0, 0, 0, 0, 0, fd)
        self.append("clone3", kinds, (args, 88), {"store": self.pid, "positive": END, **how})
        self.side = "container"
        return self

    def await_rest(self) -> Plan:
        """Wait until the rest of the plan is written, which minirt has been making since it started the executor.

        Not after a barrier, which would take the message for its answer: `Birth` writes such a plan as a whole.
        """
        if self.barriers:
            return self
        return self.read(self.control, Memory(bytes(8)), 1, at_least=1,
                         why="the rest of this plan, which minirt wrote meanwhile; 0 bytes: it has died")  # fmt: skip

    @syscall
    def unshare(self, flags: CLONE, **how: Unpack[How]) -> Plan:
        """Leave namespaces shared with others for new ones (man 2 unshare)."""

    @syscall
    def setns(self, fd: Fd, nstype: CLONE = 0, **how: Unpack[How]) -> Plan:
        """Enter the namespace that a descriptor refers to (man 2 setns)."""

    @syscall
    def pidfd_open(self, pid: Id, flags: Number = 0, **how: Unpack[How]) -> Plan:
        """Open a descriptor that stands for a process (man 2 pidfd_open)."""

    @syscall
    def exit_group(self, status: Number, **how: Unpack[How]) -> Plan:
        """End the process (man 2 exit_group)."""

    def execve(self, pathname: Path, argv: Argv | None = None, envp: Argv | None = None, **how: Unpack[How]) -> Plan:
        """Become another program (man 2 execve). By default argv is the path alone, and envp the caller's."""
        if envp is None:
            envp = [f"{name}={value}" for name, value in os.environ.items()]
        kinds = {"pathname": "Path", "argv": "Argv", "envp": "Env"}
        return self.append("execve", kinds, (pathname, argv or [pathname], envp), how)

    @syscall
    def setsid(self, **how: Unpack[How]) -> Plan:
        """Become the leader of a session of one's own, with no controlling terminal (man 2 setsid)."""

    # -- mounts ----------------------------------------------------------------------------------------------

    @syscall
    def mount(self, source: Path, target: Path, fstype: Text, flags: MS = 0, data: Data = None, **how: Unpack[How]) -> Plan:
        """Attach a file system, or change a mount (man 2 mount)."""

    @syscall
    def umount2(self, target: Path, flags: MNT = 0, **how: Unpack[How]) -> Plan:
        """Detach a mount (man 2 umount2)."""

    @syscall
    def pivot_root(self, new_root: Path, put_old: Path, **how: Unpack[How]) -> Plan:
        """Make another mount the root of this mount namespace (man 2 pivot_root)."""

    @syscall
    def chroot(self, path: Path, **how: Unpack[How]) -> Plan:
        """Move only this process's idea of / (man 2 chroot)."""

    @syscall
    def open_tree(self, dirfd: Dirfd, pathname: Path, flags: OPEN_TREE, **how: Unpack[How]) -> Plan:
        """Take hold of a mount, or of a detached copy of it (man 2 open_tree)."""

    @syscall
    def move_mount(
        self, from_dirfd: Dirfd, from_path: Path, to_dirfd: Dirfd, to_path: Path, flags: MOVE_MOUNT, **how: Unpack[How]
    ) -> Plan:
        """Attach a detached mount somewhere (man 2 move_mount)."""

    @syscall
    def fsopen(self, fsname: Text, flags: FSOPEN = 0, **how: Unpack[How]) -> Plan:
        """Begin a new file system (man 2 fsopen)."""

    @syscall
    def fsconfig(self, fd: Fd, cmd: FSCONFIG, key: Text = None, value: Data = None, aux: Number = 0, **how: Unpack[How]) -> Plan:
        """Configure it (man 2 fsconfig)."""

    @syscall
    def fsmount(self, fsfd: Fd, flags: FSMOUNT = 0, attr: MOUNT_ATTR = 0, **how: Unpack[How]) -> Plan:
        """Get a detached mount of it (man 2 fsmount)."""

    @syscall
    def mount_setattr(self, dirfd: Dirfd, path: Path, flags: AT, attr: Pointer, size: Size, **how: Unpack[How]) -> Plan:
        """Change a mount's attributes, with AT_RECURSIVE those below it too (man 2 mount_setattr)."""

    # -- files -----------------------------------------------------------------------------------------------

    @syscall
    def openat(self, dirfd: Dirfd, path: Path, flags: O, mode: Mode = 0, **how: Unpack[How]) -> Plan:
        """Open a file (man 2 openat)."""

    @syscall
    def openat2(self, dirfd: Dirfd, path: Path, open_how: OpenHow, size: Size, **how: Unpack[How]) -> Plan:
        """Open a file with a say in how its path is resolved (man 2 openat2)."""

    @syscall
    def close(self, fd: Fd, **how: Unpack[How]) -> Plan:
        """Close a descriptor (man 2 close)."""

    @syscall
    def close_range(self, first: Fd, last: Fd, flags: CLOSE_RANGE = 0, **how: Unpack[How]) -> Plan:
        """Close many descriptors, or mark them close-on-exec (man 2 close_range)."""

    @syscall
    def dup3(self, oldfd: Fd, newfd: Fd, flags: O = 0, **how: Unpack[How]) -> Plan:
        """Give an open file another number (man 2 dup3)."""

    @syscall
    def read(self, fd: Fd, buf: Pointer, count: Size, **how: Unpack[How]) -> Plan:
        """Read from a descriptor (man 2 read)."""

    @syscall
    def write(self, fd: Fd, buf: Data, count: Size, **how: Unpack[How]) -> Plan:
        """Write to a descriptor (man 2 write)."""

    @syscall
    def mkdirat(self, dirfd: Dirfd, path: Path, mode: Mode, **how: Unpack[How]) -> Plan:
        """Make a directory (man 2 mkdirat)."""

    @syscall
    def mknodat(self, dirfd: Dirfd, path: Path, mode: Mode, dev: Device, **how: Unpack[How]) -> Plan:
        """Make a device node (man 2 mknodat)."""

    @syscall
    def symlinkat(self, target: Text, newdirfd: Dirfd, linkpath: Path, **how: Unpack[How]) -> Plan:
        """Make a symbolic link (man 2 symlinkat)."""

    @syscall
    def unlinkat(self, dirfd: Dirfd, path: Path, flags: AT = 0, **how: Unpack[How]) -> Plan:
        """Remove a name (man 2 unlinkat)."""

    @syscall
    def fchmodat(self, dirfd: Dirfd, path: Path, mode: Mode, **how: Unpack[How]) -> Plan:
        """Change permissions (man 2 fchmodat)."""

    @syscall
    def fchownat(self, dirfd: Dirfd, path: Path, owner: Id, group: Id, flags: AT = 0, **how: Unpack[How]) -> Plan:
        """Change the owner (man 2 fchownat)."""

    @syscall
    def fchmod(self, fd: Fd, mode: Mode, **how: Unpack[How]) -> Plan:
        """Change an open file's permissions (man 2 fchmod)."""

    @syscall
    def chdir(self, path: Path, **how: Unpack[How]) -> Plan:
        """Change the working directory (man 2 chdir)."""

    @syscall
    def fchdir(self, fd: Fd, **how: Unpack[How]) -> Plan:
        """Change the working directory to an open one (man 2 fchdir)."""

    @syscall
    def umask(self, mask: Mode, **how: Unpack[How]) -> Plan:
        """Set which permissions new files do not get (man 2 umask)."""

    @syscall
    def statfs(self, path: Path, buf: Pointer, **how: Unpack[How]) -> Plan:
        """Ask which file system a path is on (man 2 statfs)."""

    @syscall
    def fstatfs(self, fd: Fd, buf: Pointer, **how: Unpack[How]) -> Plan:
        """Ask which file system an open file is on (man 2 fstatfs)."""

    @syscall
    def newfstatat(self, dirfd: Dirfd, path: Path, statbuf: Pointer, flags: AT = 0, **how: Unpack[How]) -> Plan:
        """Ask what a file is (man 2 fstatat)."""

    # -- names, limits, identity -----------------------------------------------------------------------------

    def sethostname(self, name: str, **how: Unpack[How]) -> Plan:
        """Set this UTS namespace's host name; its length in bytes is counted here (man 2 sethostname)."""
        return self.append("sethostname", {"name": "Text", "len": "Size"}, (name, len(name.encode())), how)

    def setdomainname(self, name: str, **how: Unpack[How]) -> Plan:
        """Set this UTS namespace's NIS domain name (man 2 setdomainname)."""
        return self.append("setdomainname", {"name": "Text", "len": "Size"}, (name, len(name.encode())), how)

    @syscall
    def prlimit64(self, pid: Id, resource: RLIMIT, new_limit: Pointer, old_limit: Pointer = None, **how: Unpack[How]) -> Plan:
        """Set a resource limit (man 2 prlimit)."""

    @syscall
    def setgroups(self, size: Size, list: Pointer, **how: Unpack[How]) -> Plan:
        """Set the supplementary groups (man 2 setgroups)."""

    @syscall
    def setresgid(self, rgid: Id, egid: Id, sgid: Id, **how: Unpack[How]) -> Plan:
        """Set real, effective and saved group (man 2 setresgid)."""

    @syscall
    def setresuid(self, ruid: Id, euid: Id, suid: Id, **how: Unpack[How]) -> Plan:
        """Set real, effective and saved user (man 2 setresuid)."""

    @syscall
    def prctl(
        self,
        option: PR,
        arg2: Pointer | Number = 0,
        arg3: Number = 0,
        arg4: Number = 0,
        arg5: Number = 0,
        **how: Unpack[How],
    ) -> Plan:
        """Change something about this process (man 2 prctl)."""

    @syscall
    def capset(self, hdrp: Pointer, datap: Pointer, **how: Unpack[How]) -> Plan:
        """Set the effective, permitted and inheritable capabilities (man 2 capset)."""

    @syscall
    def seccomp(self, operation: SECCOMP, flags: Number, args: Pointer, **how: Unpack[How]) -> Plan:
        """Filter the system calls that may be made from now on (man 2 seccomp)."""

    @syscall
    def keyctl(self, operation: KEYCTL, arg2: Pointer = None, **how: Unpack[How]) -> Plan:
        """Work on the kernel's keyrings (man 2 keyctl)."""

    @syscall
    def sched_setattr(self, pid: Id, attr: Pointer, flags: Number = 0, **how: Unpack[How]) -> Plan:
        """Set scheduling policy and attributes (man 2 sched_setattr)."""

    @syscall
    def sched_setaffinity(self, pid: Id, size: Size, mask: Data, **how: Unpack[How]) -> Plan:
        """Set which processors a process may run on (man 2 sched_setaffinity)."""

    @syscall
    def ioprio_set(self, which: Number, who: Id, ioprio: Number, **how: Unpack[How]) -> Plan:
        """Set the priority of reading and writing (man 2 ioprio_set)."""

    @syscall
    def set_mempolicy(self, mode: Number, nodemask: Pointer, maxnode: Size, **how: Unpack[How]) -> Plan:
        """Say from which memory nodes this process gets its memory (man 2 set_mempolicy)."""

    @syscall
    def personality(self, persona: Number, **how: Unpack[How]) -> Plan:
        """Set the execution domain (man 2 personality)."""

    # -- signals, sockets, terminals -------------------------------------------------------------------------

    @syscall
    def rt_sigaction(self, signum: Signal, act: Pointer, oldact: Pointer = None, sigsetsize: Size = 8, **how: Unpack[How]) -> Plan:
        """Set what a signal does (man 2 sigaction)."""

    @syscall
    def rt_sigprocmask(self, how_: Number, set: Pointer, oldset: Pointer = None, size: Size = 8, **how: Unpack[How]) -> Plan:
        """Set which signals are blocked (man 2 sigprocmask)."""

    @syscall
    def socket(self, domain: AF, type: SOCK, protocol: Number = 0, **how: Unpack[How]) -> Plan:
        """Make a socket (man 2 socket)."""

    @syscall
    def sendmsg(self, sockfd: Fd, msg: Pointer, flags: MSG = 0, **how: Unpack[How]) -> Plan:
        """Send bytes, and descriptors with them (man 2 sendmsg, man 7 unix)."""

    @syscall
    def recvmsg(self, sockfd: Fd, msg: Pointer, flags: MSG = 0, **how: Unpack[How]) -> Plan:
        """Receive bytes, and descriptors with them (man 2 recvmsg, man 7 unix)."""

    @syscall
    def ioctl(self, fd: Fd, request: TIO, arg: Pointer | Number = 0, **how: Unpack[How]) -> Plan:
        """Ask a device for what has no call of its own (man 2 ioctl)."""

    def extend(self, steps: Iterable[Callable[[Plan, Any], None]], context: Any) -> Plan:
        """Let each function append its records. Returns the plan."""
        for function in steps:
            function(self, context)
        return self
