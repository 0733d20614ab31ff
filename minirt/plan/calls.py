"""The system calls of a plan: a method each, named after it, with its arguments in the man page's order.

A method without a body is a declaration: `@syscall` makes of it one that appends a record. A parameter's annotation is the
name of a kind (kinds.py), which decode.py prints by: `MS` are flags whose constants begin with MS_, `Path` is text, `Fd` a
descriptor. Arguments are given by place, as in C; by name what every method takes besides (`Unpack[How]`):

    why        one sentence for a learner
    tolerate   errnos after which the plan goes on at the next record
    otherwise  errno -> label: goes on there instead
    at_least   the smallest result that is no failure
    store      a Slot (or an address in memory) that the result is kept in
    positive   label to go on at if the result is > 0
    barrier    the name of the barrier that it is half of (Plan.barrier)
"""

from __future__ import annotations

import os

from minirt.plan.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping  # noqa: I001  # kinds, a line each, would be a screen
    from typing import Any, ParamSpec, Self, TypeVar, Unpack

    from minirt.plan.kinds import (
        AF, AT, CLONE, CLOSE_RANGE, FSCONFIG, FSMOUNT, FSOPEN, KEYCTL, MNT, MOUNT_ATTR, MOVE_MOUNT, MS, MSG, OPEN_TREE, PR,
        RLIMIT, SECCOMP, SOCK, TIO, Argv, Data, Device, Dirfd, Fd, How, Id, Mode, Number, O, OpenHow, Path, Pointer, Signal,
        Size, Text,
    )  # fmt: skip
    from minirt.plan.record import Address, Argument, Label, Slot

    P = ParamSpec("P")
    R = TypeVar("R")

__all__ = ["SystemCalls"]


def syscall(method: Callable[P, R]) -> Callable[P, R]:
    """Turn a method without a body into one that appends a record of the system call it is named after."""
    name: str = method.__name__
    wanted = method.__code__.co_argcount - 1  # not of __annotations__: those are made a dictionary when a call is told
    defaults = method.__defaults__ or ()

    def append(
        self: SystemCalls, *args: Argument, why: str = "", tolerate: tuple[int, ...] = (),
        otherwise: Mapping[int, str] | None = None, at_least: int = 0, store: Slot | Address | None = None,
        positive: str | None = None, barrier: str = "",
    ) -> SystemCalls:  # fmt: skip
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

    append.__name__, append.__qualname__ = name, method.__qualname__
    append.__doc__ = method.__doc__
    append.__wrapped__ = method  # type: ignore[attr-defined]
    return append  # type: ignore[return-value]


class SystemCalls:
    """A list of records, which each method makes longer by one."""

    def __init__(self) -> None:
        self.items: list[Record | Label] = []
        self.current = ""  # the step that the next record belongs to
        self.side = "executor"  # who makes its call: executor, container

    def append(self, call: str, kinds: Mapping[str, str], args: tuple[Argument, ...], how: Mapping[str, Any]) -> Self:
        """Append one record of a call whose arguments are not as the caller gave them (execve, clone3, check ...)."""
        self.items.append(Record(call, kinds, args, self.current, self.side, **how))
        return self

    # -- processes -------------------------------------------------------------------------------------------

    @syscall
    def unshare(self, flags: CLONE, **how: Unpack[How]) -> Self:
        """Leave namespaces shared with others for new ones (man 2 unshare)."""

    @syscall
    def setns(self, fd: Fd, nstype: CLONE = 0, **how: Unpack[How]) -> Self:
        """Enter the namespace that a descriptor refers to (man 2 setns)."""

    @syscall
    def pidfd_open(self, pid: Id, flags: Number = 0, **how: Unpack[How]) -> Self:
        """Open a descriptor that stands for a process (man 2 pidfd_open)."""

    @syscall
    def exit_group(self, status: Number, **how: Unpack[How]) -> Self:
        """End the process (man 2 exit_group)."""

    def execve(self, pathname: Path, argv: Argv | None = None, envp: Argv | None = None, **how: Unpack[How]) -> Self:
        """Become another program (man 2 execve). By default argv is the path alone, and envp the caller's."""
        if envp is None:
            envp = [f"{name}={value}" for name, value in os.environ.items()]
        kinds = {"pathname": "Path", "argv": "Argv", "envp": "Env"}
        return self.append("execve", kinds, (pathname, argv or [pathname], envp), how)

    @syscall
    def setsid(self, **how: Unpack[How]) -> Self:
        """Become the leader of a session of one's own, with no controlling terminal (man 2 setsid)."""

    # -- mounts ----------------------------------------------------------------------------------------------

    @syscall
    def mount(self, source: Path, target: Path, fstype: Text, flags: MS = 0, data: Data = None, **how: Unpack[How]) -> Self:
        """Attach a file system, or change a mount (man 2 mount)."""

    @syscall
    def umount2(self, target: Path, flags: MNT = 0, **how: Unpack[How]) -> Self:
        """Detach a mount (man 2 umount2)."""

    @syscall
    def pivot_root(self, new_root: Path, put_old: Path, **how: Unpack[How]) -> Self:
        """Make another mount the root of this mount namespace (man 2 pivot_root)."""

    @syscall
    def chroot(self, path: Path, **how: Unpack[How]) -> Self:
        """Move only this process's idea of / (man 2 chroot)."""

    @syscall
    def open_tree(self, dirfd: Dirfd, pathname: Path, flags: OPEN_TREE, **how: Unpack[How]) -> Self:
        """Take hold of a mount, or of a detached copy of it (man 2 open_tree)."""

    @syscall
    def move_mount(
        self, from_dirfd: Dirfd, from_path: Path, to_dirfd: Dirfd, to_path: Path, flags: MOVE_MOUNT, **how: Unpack[How]
    ) -> Self:
        """Attach a detached mount somewhere (man 2 move_mount)."""

    @syscall
    def fsopen(self, fsname: Text, flags: FSOPEN = 0, **how: Unpack[How]) -> Self:
        """Begin a new file system (man 2 fsopen)."""

    @syscall
    def fsconfig(self, fd: Fd, cmd: FSCONFIG, key: Text = None, value: Data = None, aux: Number = 0, **how: Unpack[How]) -> Self:
        """Configure it (man 2 fsconfig)."""

    @syscall
    def fsmount(self, fsfd: Fd, flags: FSMOUNT = 0, attr: MOUNT_ATTR = 0, **how: Unpack[How]) -> Self:
        """Get a detached mount of it (man 2 fsmount)."""

    @syscall
    def mount_setattr(self, dirfd: Dirfd, path: Path, flags: AT, attr: Pointer, size: Size, **how: Unpack[How]) -> Self:
        """Change a mount's attributes, with AT_RECURSIVE those below it too (man 2 mount_setattr)."""

    # -- files -----------------------------------------------------------------------------------------------

    @syscall
    def openat(self, dirfd: Dirfd, path: Path, flags: O, mode: Mode = 0, **how: Unpack[How]) -> Self:
        """Open a file (man 2 openat)."""

    @syscall
    def openat2(self, dirfd: Dirfd, path: Path, open_how: OpenHow, size: Size, **how: Unpack[How]) -> Self:
        """Open a file with a say in how its path is resolved (man 2 openat2)."""

    @syscall
    def close(self, fd: Fd, **how: Unpack[How]) -> Self:
        """Close a descriptor (man 2 close)."""

    @syscall
    def close_range(self, first: Fd, last: Fd, flags: CLOSE_RANGE = 0, **how: Unpack[How]) -> Self:
        """Close many descriptors, or mark them close-on-exec (man 2 close_range)."""

    @syscall
    def dup3(self, oldfd: Fd, newfd: Fd, flags: O = 0, **how: Unpack[How]) -> Self:
        """Give an open file another number (man 2 dup3)."""

    @syscall
    def read(self, fd: Fd, buf: Pointer, count: Size, **how: Unpack[How]) -> Self:
        """Read from a descriptor (man 2 read)."""

    @syscall
    def write(self, fd: Fd, buf: Data, count: Size, **how: Unpack[How]) -> Self:
        """Write to a descriptor (man 2 write)."""

    @syscall
    def mkdirat(self, dirfd: Dirfd, path: Path, mode: Mode, **how: Unpack[How]) -> Self:
        """Make a directory (man 2 mkdirat)."""

    @syscall
    def mknodat(self, dirfd: Dirfd, path: Path, mode: Mode, dev: Device, **how: Unpack[How]) -> Self:
        """Make a device node (man 2 mknodat)."""

    @syscall
    def symlinkat(self, target: Text, newdirfd: Dirfd, linkpath: Path, **how: Unpack[How]) -> Self:
        """Make a symbolic link (man 2 symlinkat)."""

    @syscall
    def unlinkat(self, dirfd: Dirfd, path: Path, flags: AT = 0, **how: Unpack[How]) -> Self:
        """Remove a name (man 2 unlinkat)."""

    @syscall
    def fchmodat(self, dirfd: Dirfd, path: Path, mode: Mode, **how: Unpack[How]) -> Self:
        """Change permissions (man 2 fchmodat)."""

    @syscall
    def fchownat(self, dirfd: Dirfd, path: Path, owner: Id, group: Id, flags: AT = 0, **how: Unpack[How]) -> Self:
        """Change the owner (man 2 fchownat)."""

    @syscall
    def fchmod(self, fd: Fd, mode: Mode, **how: Unpack[How]) -> Self:
        """Change an open file's permissions (man 2 fchmod)."""

    @syscall
    def chdir(self, path: Path, **how: Unpack[How]) -> Self:
        """Change the working directory (man 2 chdir)."""

    @syscall
    def fchdir(self, fd: Fd, **how: Unpack[How]) -> Self:
        """Change the working directory to an open one (man 2 fchdir)."""

    @syscall
    def umask(self, mask: Mode, **how: Unpack[How]) -> Self:
        """Set which permissions new files do not get (man 2 umask)."""

    @syscall
    def statfs(self, path: Path, buf: Pointer, **how: Unpack[How]) -> Self:
        """Ask which file system a path is on (man 2 statfs)."""

    @syscall
    def fstatfs(self, fd: Fd, buf: Pointer, **how: Unpack[How]) -> Self:
        """Ask which file system an open file is on (man 2 fstatfs)."""

    @syscall
    def newfstatat(self, dirfd: Dirfd, path: Path, statbuf: Pointer, flags: AT = 0, **how: Unpack[How]) -> Self:
        """Ask what a file is (man 2 fstatat)."""

    # -- names, limits, identity -----------------------------------------------------------------------------

    def sethostname(self, name: str, **how: Unpack[How]) -> Self:
        """Set this UTS namespace's host name; its length in bytes is counted here (man 2 sethostname)."""
        return self.append("sethostname", {"name": "Text", "len": "Size"}, (name, len(name.encode())), how)

    def setdomainname(self, name: str, **how: Unpack[How]) -> Self:
        """Set this UTS namespace's NIS domain name (man 2 setdomainname)."""
        return self.append("setdomainname", {"name": "Text", "len": "Size"}, (name, len(name.encode())), how)

    @syscall
    def prlimit64(self, pid: Id, resource: RLIMIT, new_limit: Pointer, old_limit: Pointer = None, **how: Unpack[How]) -> Self:
        """Set a resource limit (man 2 prlimit)."""

    @syscall
    def setgroups(self, size: Size, list: Pointer, **how: Unpack[How]) -> Self:
        """Set the supplementary groups (man 2 setgroups)."""

    @syscall
    def setresgid(self, rgid: Id, egid: Id, sgid: Id, **how: Unpack[How]) -> Self:
        """Set real, effective and saved group (man 2 setresgid)."""

    @syscall
    def setresuid(self, ruid: Id, euid: Id, suid: Id, **how: Unpack[How]) -> Self:
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
    ) -> Self:
        """Change something about this process (man 2 prctl)."""

    @syscall
    def capset(self, hdrp: Pointer, datap: Pointer, **how: Unpack[How]) -> Self:
        """Set the effective, permitted and inheritable capabilities (man 2 capset)."""

    @syscall
    def seccomp(self, operation: SECCOMP, flags: Number, args: Pointer, **how: Unpack[How]) -> Self:
        """Filter the system calls that may be made from now on (man 2 seccomp)."""

    @syscall
    def keyctl(self, operation: KEYCTL, arg2: Pointer = None, **how: Unpack[How]) -> Self:
        """Work on the kernel's keyrings (man 2 keyctl)."""

    @syscall
    def sched_setattr(self, pid: Id, attr: Pointer, flags: Number = 0, **how: Unpack[How]) -> Self:
        """Set scheduling policy and attributes (man 2 sched_setattr)."""

    @syscall
    def sched_setaffinity(self, pid: Id, size: Size, mask: Data, **how: Unpack[How]) -> Self:
        """Set which processors a process may run on (man 2 sched_setaffinity)."""

    @syscall
    def ioprio_set(self, which: Number, who: Id, ioprio: Number, **how: Unpack[How]) -> Self:
        """Set the priority of reading and writing (man 2 ioprio_set)."""

    @syscall
    def set_mempolicy(self, mode: Number, nodemask: Pointer, maxnode: Size, **how: Unpack[How]) -> Self:
        """Say from which memory nodes this process gets its memory (man 2 set_mempolicy)."""

    @syscall
    def personality(self, persona: Number, **how: Unpack[How]) -> Self:
        """Set the execution domain (man 2 personality)."""

    # -- signals, sockets, terminals -------------------------------------------------------------------------

    @syscall
    def rt_sigaction(self, signum: Signal, act: Pointer, oldact: Pointer = None, sigsetsize: Size = 8, **how: Unpack[How]) -> Self:
        """Set what a signal does (man 2 sigaction)."""

    @syscall
    def rt_sigprocmask(self, how_: Number, set: Pointer, oldset: Pointer = None, size: Size = 8, **how: Unpack[How]) -> Self:
        """Set which signals are blocked (man 2 sigprocmask)."""

    @syscall
    def socket(self, domain: AF, type: SOCK, protocol: Number = 0, **how: Unpack[How]) -> Self:
        """Make a socket (man 2 socket)."""

    @syscall
    def sendmsg(self, sockfd: Fd, msg: Pointer, flags: MSG = 0, **how: Unpack[How]) -> Self:
        """Send bytes, and descriptors with them (man 2 sendmsg, man 7 unix)."""

    @syscall
    def recvmsg(self, sockfd: Fd, msg: Pointer, flags: MSG = 0, **how: Unpack[How]) -> Self:
        """Receive bytes, and descriptors with them (man 2 recvmsg, man 7 unix)."""

    @syscall
    def ioctl(self, fd: Fd, request: TIO, arg: Pointer | Number = 0, **how: Unpack[How]) -> Self:
        """Ask a device for what has no call of its own (man 2 ioctl)."""
