"""The last steps: what the program may use, who it is, what it may do; and the program itself."""

from __future__ import annotations

import os
import struct
from errno import EPERM

from minirt.errors import MinirtError
from minirt.linux import capabilities
from minirt.linux import constants as k
from minirt.oci.begin import needs_resolving
from minirt.oci.step import Context, step
from minirt.oci.targets import open_directory
from minirt.plan import Memory, Plan, Slot, Words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable
    from typing import Any

__all__ = [
    "GIVING_UP", "await_start", "bounding", "capability_sets", "execute", "limits", "no_new_privileges", "resolve", "scheduling",
    "seccomp_early", "seccomp_late", "seccomp_listened", "security_labels", "untraceable", "user", "working_directory",
]  # fmt: skip

@step("workdir", why="stand in the directory that the program expects")
def working_directory(p: Plan, c: Context) -> None:
    """Made if missing, as docker and runc do.

    A path like /proc/self/fd/7 would lead to what this process has open until execve: the host's directory of the cgroup,
    from which ".." leads to the host's others (CVE-2024-21626). So magic links are not followed.
    """
    path = os.path.normpath("/" + (c.process.get("cwd") or "").lstrip("/"))
    if path == "/":
        p.chdir("/")
        return
    fd = open_directory(p, c, path)
    p.fchdir(fd)
    p.close(fd)


@step("resolve", why="let minirt look into the finished root: who the user is there, and where the command lies")
def resolve(p: Plan, c: Context) -> None:
    """A barrier: minirt reads /etc/passwd and follows PATH through /proc/PID/root, as no path of the host could."""
    if needs_resolving(c):
        p.barrier("resolve", why="minirt fills in user, groups, HOME and the command's path")


@step("labels", why="say which profile of a security module holds from the execve on")
def security_labels(p: Plan, c: Context) -> None:
    """Written to the kernel's own /proc and nowhere else (procfs.py). An empty profile, or "unconfined", asks for nothing.

    Where the kernel has no such module it is an error: a profile that does not hold would be believed in.
    """
    profile, label = c.process.get("apparmorProfile") or "", c.process.get("selinuxLabel") or ""
    if profile not in ("", "unconfined"):
        if not os.path.isdir("/sys/kernel/security/apparmor") and not os.path.isdir("/sys/module/apparmor"):
            raise MinirtError(f"config.json: process.apparmorProfile {profile!r}: this kernel has no AppArmor")
        from minirt.oci import procfs

        proc = procfs.open_proc(p, c)
        procfs.write(p, proc, "self/attr/apparmor/exec", f"exec {profile}", why="man 7 apparmor: holds after the next execve")
        p.close(proc)
    if label:
        if not os.path.isdir("/sys/fs/selinux"):
            raise MinirtError(f"config.json: process.selinuxLabel {label!r}: this kernel has no SELinux")
        from minirt.oci import procfs

        proc = procfs.open_proc(p, c)
        procfs.write(p, proc, "self/attr/exec", label, why="the label of the next execve")
        p.close(proc)


@step("untraceable", "namespaces", why="let no other process of a shared pid namespace look into this one")
def untraceable(p: Plan, c: Context) -> None:
    """What this process has open until its execve is the host's: the cgroup's directory, the FIFO of the start.

    A container of the same pid namespace (a pod's) that has the same user and rights would get it from /proc/PID/fd, all the
    time between `create` and `start` (man 2 ptrace, access mode checking). execve makes the process dumpable again.

    Simplified: not for a user's runtime, which then could not look into its own child either.
    """
    if not ("pid" in c.fresh or c.join or c.rootless):
        p.prctl(k.PR_SET_DUMPABLE, 0, why="its /proc/PID belongs to the host's root, and its memory to nobody else")


@step("scheduling", why="say how this process shares the processors and the disks with others")
def scheduling(p: Plan, c: Context) -> None:
    """runtime-spec config.md#linux-process: scheduler, ioPriority; config-linux.md: personality, memoryPolicy."""
    if c.process.get("scheduler"):
        from minirt.oci.scheduling import sched_attr

        attr = sched_attr(c.process["scheduler"])
        p.sched_setattr(0, attr, 0, why="man 2 sched_setattr")
    if c.process.get("ioPriority"):
        from minirt.oci.scheduling import io_priority

        p.ioprio_set(1, 0, io_priority(c.process["ioPriority"]), why="IOPRIO_WHO_PROCESS (man 2 ioprio_set)")
    personality = c.linux.get("personality")
    if personality:
        from minirt.oci.scheduling import persona

        p.personality(persona(personality), why=f"linux.personality {personality.get('domain')}")
    policy = c.linux.get("memoryPolicy")
    if policy:
        from minirt.oci.scheduling import memory_policy

        mode, nodes = memory_policy(policy)
        p.set_mempolicy(mode, nodes or None, 8 * len(nodes) + 1 if nodes else 0,
                        why=f"{policy['mode']} {policy.get('nodes') or ''}".rstrip())  # fmt: skip


@step("start", why="wait for the start")
def await_start(p: Plan, c: Context) -> None:
    """`create` ends here, `start` begins: all is ready, and the process holds nothing but a few pages."""
    if c.created:
        p.barrier("created", why="minirt writes down that the container is created")
    if c.start_fifo:
        p.read(c.slots["start"], Memory(bytes(8)), 1, at_least=1,
               why="until `start` writes a byte")  # fmt: skip


@step("limits", why="limit what one process may use")
def limits(p: Plan, c: Context) -> None:
    """runtime-spec config.md#posix-process, rlimits (man 2 getrlimit)."""
    for limit in c.process.get("rlimits") or ():
        p.prlimit64(0, getattr(k, limit["type"]), Words(limit["soft"], limit["hard"]), None)


def known(c: Context, kind: str) -> list[str]:
    """Return the capabilities of a set; one that nobody knows is no error, the caller was warned of it (validate.py)."""
    return [name for name in (c.process.get("capabilities") or {}).get(kind) or () if name in capabilities.NAMES]


def held(c: Context) -> int:
    """Return the capabilities that can be granted, as a mask: what this process has not, it cannot allow (man 2 capset).

    "Runtimes SHOULD NOT fail" for the others (config.md#linux-process). Of a user namespace's own there are all.
    """
    if any(namespace["type"] == "user" for namespace in c.linux.get("namespaces") or ()):
        return -1
    return capabilities.permitted()


def drop_bounding(c: Context) -> list[int]:
    """Return the capabilities that the bounding set loses, by number."""
    kept = {capabilities.number(name) for name in known(c, "bounding")}
    return [n for n in range(capabilities.last_cap() + 1) if n not in kept]


def asked_bounding(c: Context) -> Hashable:
    """Return which capabilities the bounding set is to keep (`step`)."""
    asked = c.process.get("capabilities")
    return None if asked is None else tuple(asked.get("bounding") or ())


@step("bounding", "namespaces", why="say which capabilities can never come back", common=asked_bounding)
def bounding(p: Plan, c: Context) -> None:
    """No execve, not even of a set-user-ID program, gives more than the bounding set (man 7 capabilities)."""
    if c.process.get("capabilities") is None:
        return
    for n in drop_bounding(c):
        p.prctl(k.PR_CAPBSET_DROP, n, why=capabilities.name(n))


def identity(p: Plan, c: Context) -> tuple[Any, Any, Any, Any]:
    """Return user, group, how many supplementary groups, and these: config.json's numbers, or memory for what is found later.

    `--user` as typed is looked up in the image, at the barrier `resolve`.
    """
    if c.user is not None:
        return p.late["uid"], p.late["gid"], p.late["groups_count"], p.late["groups"]
    who = c.process.get("user") or {}
    groups = who.get("additionalGids") or ()
    return who.get("uid") or 0, who.get("gid") or 0, len(groups), struct.pack(f"{len(groups)}I", *groups) or None


def numbers(c: Context) -> Hashable:
    """Return who the program runs as, where config.json says it by numbers (`step`)."""
    who: dict[str, Any] = c.process.get("user") or {}
    if c.user is not None or who.get("additionalGids"):
        return None
    return c.rootless, who.get("uid"), who.get("gid"), who.get("umask")


@step("user", "namespaces", why="become the user that the program runs as", common=numbers)
def user(p: Plan, c: Context) -> None:
    """runtime-spec config.md#user, man 7 credentials."""
    uid, gid, count, groups = identity(p, c)
    # The user last: who is not root may change neither groups nor group.
    denied = (EPERM,) if c.rootless else ()
    p.setgroups(count, groups, tolerate=denied, why="the supplementary groups; it has none of minirt's own")
    umask = (c.process.get("user") or {}).get("umask")
    p.umask(0o022 if umask is None else umask)
    p.prctl(k.PR_SET_KEEPCAPS, 1, why="changing to another user would clear the permitted capabilities")
    p.setresgid(gid, gid, gid)
    p.setresuid(uid, uid, uid)


@step("capabilities", "user", why="keep only the capabilities that were asked for")
def capability_sets(p: Plan, c: Context) -> None:
    """Effective, permitted and inheritable by one call; ambient ones, which survive execve, one by one."""
    if c.process.get("capabilities") is None:
        return
    mine = held(c)
    sets = {
        kind: [name for name in known(c, kind) if mine >> capabilities.number(name) & 1]
        for kind in ("effective", "permitted", "inheritable", "ambient")
    }
    masks = [capabilities.mask(sets[kind]) for kind in ("effective", "permitted", "inheritable")]
    names = ", ".join(n.removeprefix("CAP_").lower() for n in sets["permitted"]) or "none"
    p.capset(capabilities.pack_header(), capabilities.pack_sets(*masks), why=f"permitted: {names}")
    for name in sets["ambient"]:
        # One that is not permitted and inheritable cannot be ambient; runc goes on without it, and its own spec asks for such.
        p.prctl(k.PR_CAP_AMBIENT, k.PR_CAP_AMBIENT_RAISE, capabilities.number(name), tolerate=(EPERM,), why=name)


@step("no_new_privs", why="let no execve give more rights than there are now")
def no_new_privileges(p: Plan, c: Context) -> None:
    """Set-user-ID bits and file capabilities have no effect from here on (man 2 prctl)."""
    if c.process.get("noNewPrivileges"):
        p.prctl(k.PR_SET_NO_NEW_PRIVS, 1)


def load_filter(p: Plan, c: Context) -> None:
    if c.seccomp is not None:
        program, flags = c.seccomp
        count = len(program) // 8
        listener = Slot("seccomp listener") if flags & k.SECCOMP_FILTER_FLAG_NEW_LISTENER else None
        p.seccomp(k.SECCOMP_SET_MODE_FILTER, flags, Words(count, Memory(program)), store=listener,
                  why=f"{count} instructions that run before each system call from now on")  # fmt: skip
        if listener is not None:
            from minirt.linux.seccomp.listener import refuse_deadlock

            refuse_deadlock(c.linux["seccomp"])
            c.slots["listener"] = listener
            p.barrier("seccomp", why="minirt takes the listener (pidfd_getfd) and sends it to who answers; execve closes ours")


@step("seccomp", "namespaces", why="refuse system calls that the program does not need")
def seccomp_early(p: Plan, c: Context) -> None:
    """Without no_new_privs loading a filter needs CAP_SYS_ADMIN, so it comes before that is given up."""
    if not c.process.get("noNewPrivileges"):
        load_filter(p, c)


@step("seccomp", "namespaces", why="refuse system calls that the program does not need")
def seccomp_listened(p: Plan, c: Context) -> None:
    """With no_new_privs and an agent that answers: before `create` ends, as it is `create` that sends the listener."""
    if c.process.get("noNewPrivileges") and listened(c):
        load_filter(p, c)


@step("seccomp", "namespaces", why="refuse system calls that the program does not need")
def seccomp_late(p: Plan, c: Context) -> None:
    """With no_new_privs it is the last thing before execve, so that our own calls need not be allowed."""
    if c.process.get("noNewPrivileges") and not listened(c):
        load_filter(p, c)


def listened(c: Context) -> bool:
    """Say whether the filter has a listener."""
    return c.seccomp is not None and bool(c.seccomp[1] & k.SECCOMP_FILTER_FLAG_NEW_LISTENER)


@step("exec", why="become the program")
def execute(p: Plan, c: Context) -> None:
    """Everything opened on the way is close-on-exec; the control socket's closing tells the parent of success."""
    args = c.process.get("args")
    if not args:
        raise MinirtError("config.json: process.args is empty: there is no command to run")
    # Of a name that is there twice the last counts, as to runc and crun; a C library would take the first (man 3 getenv).
    env = list({item.partition("=")[0]: item for item in c.process.get("env") or ()}.values())
    path: Any = args[0]
    if needs_resolving(c):
        path = p.late["path"]
        if not any(item.startswith("HOME=") for item in env):
            env.append(p.late["home"])
    if c.init:
        p.execve(c.init, [c.init, "--", path, *args[1:]], env, why="pid 1, which starts the command and reaps orphans")
    else:
        p.execve(path, list(args), env)


# The last steps of any program's birth, in their order: what it may use, who it is, what it may do, and the program.
GIVING_UP = (
    scheduling,
    limits,
    security_labels,
    untraceable,
    seccomp_early,
    bounding,
    user,
    capability_sets,
    no_new_privileges,
    seccomp_listened,
    await_start,
    seccomp_late,
    execute,
)
