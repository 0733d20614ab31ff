"""What is mounted inside the new root: /proc, /dev, /sys, tmpfs, what came from the host.

Each entry of config.json's mounts comes to one of five: a new file system (`mount_new`), a copy of a mount of the host's
(`attach`), a tmpfs that begins with what the image has there (`copy_up`), a change of what is mounted already
(`remount`); and a cgroup tree that may be refused.
"""

from __future__ import annotations

import os
from errno import EACCES, EBUSY, EEXIST, EINVAL, ELOOP, ENOENT, ENOTDIR, EPERM

from minirt.errors import MinirtError
from minirt.linux import constants as k
from minirt.oci.checks import ST_MODE, STAT, check_directory, check_type
from minirt.oci.options import PROPAGATION, Mount
from minirt.oci.rootfs import wanted_propagation
from minirt.oci.step import Context, step
from minirt.oci.targets import HOW_SIZE, claim, enter, how, make_directories, on_ground, open_directory, open_file
from minirt.plan import Memory, Plan, Slot, Words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["mount_all", "read_only_mounts", "refuse_over_proc"]

# File systems in which nobody but the kernel and this plan has made anything when they are new; procfs has magic links.
GROUND = {"tmpfs", "sysfs", "devpts", "mqueue", "cgroup", "cgroup2"}

# What may be mounted below /proc: files that describe the machine, which LXCFS shows as the container's share.
BELOW_PROC = {
    "/proc/cpuinfo", "/proc/diskstats", "/proc/meminfo", "/proc/stat", "/proc/swaps", "/proc/uptime", "/proc/loadavg",
    "/proc/slabinfo", "/proc/net/dev", "/proc/sys/kernel/ns_last_pid", "/proc/sys/crypto/fips_enabled",
}  # fmt: skip

STEPS = {
    "/proc": ("proc", "show the processes of this pid namespace"),
    "/dev": ("dev", "an empty /dev in memory, for devices that are chosen one by one"),
    "/dev/pts": ("devpts", "terminals of its own, numbered from 0"),
    "/dev/shm": ("shm", "POSIX shared memory (man 7 shm_overview)"),
    "/dev/mqueue": ("mqueue", "POSIX message queues of this ipc namespace (man 7 mq_overview)"),
    "/sys": ("sys", "devices and kernel settings, read-only"),
    "/sys/fs/cgroup": ("cgroupfs", "the container's own cgroup, read-only"),
}


def mount_all(p: Plan, c: Context) -> None:
    """Append a step for each entry of config.json's mounts, in its order."""
    first = common_mounts(c)
    if first:
        made, ground = p.common((mount_all, first), lambda: append_mounts(p, c, first))
        c.made, c.ground = set(made), dict(ground)
    append_mounts(p, c, c.mounts[len(first) :])


def common_mounts(c: Context) -> tuple[Mount, ...]:
    """Return the first entries, as far as they depend on nothing but themselves: most containers begin with the same."""
    if c.shared_root or c.userns or c.linux.get("mountLabel") or c.ground or len(c.made) > 1:
        return ()
    own = (at for at, mount in enumerate(c.mounts) if not mount.plain)
    return tuple(c.mounts[: next(own, len(c.mounts))])


def append_mounts(p: Plan, c: Context, mounts: Sequence[Mount]) -> tuple[frozenset[str], tuple[tuple[str, bool], ...]]:
    """Append a step for each of these. Returns which directories are there now, and which ground there is."""
    for mount in mounts:
        refuse_over_proc(mount)
        name, why = STEPS.get(mount.target, (f"mount:{mount.target}", f"what the configuration wants at {mount.target}"))
        needs = ("pivot_root", mount.made_by) if mount.made_by else ("pivot_root",)
        above = STEPS.get(os.path.dirname(mount.target), ("",))[0]
        p.step(name, (*needs, above) if above in p.steps else needs, why)
        if mount.remount:
            remount(p, c, mount)
        elif mount.tree is not None:
            attach(p, c, mount)
        else:
            mount_new(p, c, mount)
    return frozenset(c.made), tuple(c.ground.items())


def refuse_over_proc(mount: Mount) -> None:
    """Refuse what would lie over the kernel's own /proc, where later steps and other programs read and write.

    As runc does (CVE-2019-16884, CVE-2023-27561). What a link leads there is found by `procfs.write`.
    """
    target, kind = mount.target, mount.kind
    if target == "/" and not mount.remount:
        raise MinirtError("config.json: mounts: a mount at / would lie over the container's root, where nobody sees it")
    if target == "/proc" and kind != "proc" and not mount.bind:
        raise MinirtError(f"config.json: mounts: /proc takes type proc, or a bind mount of a procfs; not type {kind!r}")
    if target.startswith("/proc/") and target not in BELOW_PROC and kind not in ("proc", "sysfs"):
        raise MinirtError(f"config.json: mounts: nothing can be mounted at {target}: it is inside /proc")


# -- the place -----------------------------------------------------------------------------------------------


def place(p: Plan, c: Context, mount: Mount, directory: bool = True) -> Slot | None:
    """Append what makes the target and opens it. Returns its descriptor's slot, or None where its path is safe."""
    target, ground = mount.target, mount.kind in GROUND and not mount.bind
    if directory and on_ground(c, os.path.dirname(target)):
        make_directories(p, c, target)
        claim(c, target, ground)
        return None
    if directory and (target == "/dev" or mount.kind in ("proc", "sysfs")) and target.count("/") == 1 and not mount.bind:
        fd = ordinary_directory(p, c, target)
        c.ground[target] = ground
        return fd
    if directory:
        fd = open_directory(p, c, target)
        claim(c, target, ground=False)
        return fd
    c.ground[target] = False
    return open_file(p, c, target)


def ordinary_directory(p: Plan, c: Context, target: str) -> Slot | None:
    """Append the check that a directory of the root is no link: /proc, /sys, /dev are where their names say, or nowhere.

    (CVE-2023-27561: an image whose /proc was a link.) The overlay is ours alone, so looking is enough; a bundle's root may
    be somebody else's too, so what was looked at is opened and used.
    """
    p.mkdirat(k.AT_FDCWD, target, 0o755, tolerate=(EEXIST,))
    c.made.add(target)
    if c.overlay is None:
        fd = Slot(target)
        p.openat(k.AT_FDCWD, target, k.O_PATH | k.O_DIRECTORY | k.O_NOFOLLOW | k.O_CLOEXEC, store=fd,
                 why="an ordinary directory: a link would put it elsewhere")  # fmt: skip
        return fd
    check_directory(p, target, "an ordinary directory: a link would put it elsewhere")
    return None


def stand(p: Plan, target: str, fd: Slot | None) -> str:
    """Append what makes a place the working directory, and return its name for mount(2), which takes no descriptor."""
    if fd is None:
        return target
    p.fchdir(fd, why=f"{target} is . from here on")
    p.close(fd)
    return "."


# -- the five kinds ------------------------------------------------------------------------------------------


def mount_new(p: Plan, c: Context, mount: Mount) -> None:
    """Mount a file system that is not a copy of the host's."""
    flags = mount.flags & ~k.MS_RDONLY if read_only_later(mount) else mount.flags
    kind, data = mount.kind, labelled(c, mount)
    inherit = kind == "tmpfs" and not any(option.startswith("mode=") for option in mount.data)
    mode = old_mode(p, mount.target) if inherit else None
    old = open_directory(p, c, mount.target, k.O_RDONLY | k.O_DIRECTORY) if mount.copy_up else None
    where = stand(p, mount.target, place(p, c, mount))
    skip = f"past {mount.target} ({len(p.items)})"
    if kind == "cgroup":
        # A cgroup2 tree may be mounted in a user namespace only together with a cgroup namespace of its own.
        p.mount("cgroup", where, "cgroup2", flags, data,
                otherwise={EPERM: skip, EBUSY: skip, ENOENT: skip}, why="cgroup v2 has one tree for all controllers")  # fmt: skip
    else:
        p.mount(mount.source or kind, where, kind, flags, data)
    if mode is not None:
        with_mode(p, c, mount.target, mode)
    if old is not None:
        copy_up(p, c, mount, old)
    shape(p, c, mount)
    if kind == "cgroup":
        p.label(skip)


def read_only_later(mount: Mount) -> bool:
    """Say whether a mount becomes read-only at the end: in /dev and in a tmpfs there is still something to be made."""
    return bool(mount.flags & k.MS_RDONLY) and not mount.bind and (mount.kind == "tmpfs" or mount.target == "/dev")


def labelled(c: Context, mount: Mount) -> str | None:
    """Return mount(2)'s data: the file system's own options, and linux.mountLabel where there is SELinux."""
    label = c.linux.get("mountLabel")
    data = list(mount.data)
    if label and mount.kind not in ("proc", "sysfs", "cgroup") and os.path.exists("/sys/fs/selinux/enforce"):
        data.append(f'context="{label}"')
    if mount.kind == "cgroup" and "cgroup" not in c.fresh:
        from minirt.linux.cgroup_tree import tree_options

        data += [option for option in tree_options() if option not in data]  # else the host's tree would lose them
    return ",".join(data) or None


def old_mode(p: Plan, target: str) -> Memory:
    """Append what looks at the mode of the directory below, which a tmpfs without mode= takes over, as runc's does."""
    answer = bytearray(STAT)
    answer[ST_MODE : ST_MODE + 4] = (0o1777).to_bytes(4, "little")  # tmpfs's own default, where there is no directory yet
    seen = Memory(bytes(answer))
    p.newfstatat(k.AT_FDCWD, target, seen, 0, tolerate=(ENOENT, ENOTDIR, EACCES, ELOOP))
    return seen


def with_mode(p: Plan, c: Context, target: str, mode: Memory) -> None:
    """Append what gives a new mount the mode that was there."""
    fd = Slot(target)
    p.openat2(k.AT_FDCWD, target, how(k.O_RDONLY | k.O_DIRECTORY), HOW_SIZE, store=fd)
    p.fchmod(fd, mode.load(ST_MODE), why="as the directory that it covers")
    p.close(fd)


def copy_up(p: Plan, c: Context, mount: Mount, old: Slot) -> None:
    """Fill a new tmpfs with what the image has there (tmpcopyup): minirt copies, from one directory to the other."""
    fd = Slot(mount.target)
    p.openat2(k.AT_FDCWD, mount.target, how(k.O_PATH | k.O_DIRECTORY), HOW_SIZE, store=fd)
    p.fchdir(fd, why="minirt finds the new one as this process's working directory")
    p.barrier("copy_up", give=old, why="minirt copies the directory that is covered now, which it gets as a descriptor")
    p.close(fd)
    p.close(old)


def attach(p: Plan, c: Context, mount: Mount) -> None:
    """Attach what `sources` and `new_sources` took hold of."""
    tree = mount.tree
    assert tree is not None
    copied = mount.made_by == "sources"
    if copied:
        restrict(p, c, mount)
    if mount.target == "/proc":
        check_type(p, tree, k.PROC_SUPER_MAGIC, EINVAL, "/proc must be proc, and nothing that looks like it")
    on_host = os.path.join(c.bundle, mount.source, mount.subpath)
    directory = not copied or not mount.bind or bool(mount.namespace) or os.path.isdir(on_host)
    fd = place(p, c, mount, directory)
    if fd is None:
        p.move_mount(tree, "", k.AT_FDCWD, mount.target, k.MOVE_MOUNT_F_EMPTY_PATH, why="resolved inside the new root")
    else:
        p.move_mount(tree, "", fd, "", k.MOVE_MOUNT_F_EMPTY_PATH | k.MOVE_MOUNT_T_EMPTY_PATH,
                     why="on what was opened inside the new root")  # fmt: skip
        p.close(fd)
    p.close(tree)


def restrict(p: Plan, c: Context, mount: Mount) -> None:
    """Set a bind mount's flags before anyone can see it.

    In a user namespace what the host's mount forbids is locked (man 7 mount_namespaces). Then what no option names
    stays as it is, and an option that would allow it is an error.
    """
    tree = mount.tree
    assert tree is not None
    wanted, cleared = mount.attributes()
    if wanted or cleared:
        denied = (EPERM,) if c.userns else ()
        p.mount_setattr(tree, "", k.AT_EMPTY_PATH, Words(wanted, cleared, 0, 0), 32, tolerate=denied,
                        why="what the options say, and nothing else; before anyone can see it")  # fmt: skip
        if denied:
            p.mount_setattr(tree, "", k.AT_EMPTY_PATH, Words(*mount.attributes(keep=True), 0, 0), 32,
                            why="and where something is locked, besides what is")  # fmt: skip
    shape_tree(p, c, mount, tree)


def remount(p: Plan, c: Context, mount: Mount) -> None:
    """Change what is mounted at the target already; what no option names stays as it is."""
    if not mount.bind:
        where = enter(p, c, mount.target)
        p.mount(mount.source or None, where, mount.kind, mount.flags, labelled(c, mount), why="other options for it")
        shape(p, c, mount)
        return
    fd = Slot(mount.target)
    p.openat2(k.AT_FDCWD, mount.target, how(k.O_PATH), HOW_SIZE, store=fd)
    p.mount_setattr(fd, "", k.AT_EMPTY_PATH, Words(*mount.attributes(keep=True), 0, 0), 32, why="other flags for it")
    shape_tree(p, c, mount, fd)
    p.close(fd)


# -- what is common to them ----------------------------------------------------------------------------------


def shape(p: Plan, c: Context, mount: Mount) -> None:
    """Append recursive options and propagation of a mount that is attached."""
    if mount.recursive_set or mount.recursive_clear or spreads(c, mount):
        fd = Slot(mount.target)
        p.openat2(k.AT_FDCWD, mount.target, how(k.O_PATH), HOW_SIZE, store=fd)
        shape_tree(p, c, mount, fd)
        p.close(fd)


def shape_tree(p: Plan, c: Context, mount: Mount, fd: object) -> None:
    """Append recursive options and propagation of the mount that a descriptor stands for."""
    at: int = k.AT_EMPTY_PATH
    if mount.recursive_set or mount.recursive_clear:
        words = Words(mount.recursive_set, mount.recursive_clear, 0, 0)
        p.mount_setattr(fd, "", at | k.AT_RECURSIVE, words, 32, why="for all that is mounted below, too")  # type: ignore[arg-type]
    for flag in spreads(c, mount):
        recursive = k.AT_RECURSIVE if flag & k.MS_REC else 0
        p.mount_setattr(fd, "", at | recursive, Words(0, 0, flag & ~k.MS_REC, 0), 32,  # type: ignore[arg-type]
                        why="who hears of what is mounted below it (man 7 mount_namespaces)")  # fmt: skip


def spreads(c: Context, mount: Mount) -> list[int]:
    """Return the propagation types to set; private ones are nothing new where all is private already."""
    if "mount" in c.fresh and PROPAGATION[wanted_propagation(c)] == "MS_PRIVATE":
        return [flag for flag in mount.spread if not flag & k.MS_PRIVATE]
    return mount.spread


@step("readonly_mounts", "pivot_root", why="make read-only what had to be written to until now")
def read_only_mounts(p: Plan, c: Context) -> None:
    """/dev and each tmpfs with `ro`: their device nodes and mount points are made by now."""
    for mount in c.mounts:
        if read_only_later(mount) and not mount.remount:
            fd = Slot(mount.target)
            p.openat2(k.AT_FDCWD, mount.target, how(k.O_PATH | k.O_DIRECTORY), HOW_SIZE, store=fd)
            p.mount_setattr(fd, "", k.AT_EMPTY_PATH, Words(k.MOUNT_ATTR_RDONLY, 0, 0, 0), 32, why=f"{mount.target} is complete")
            p.close(fd)
