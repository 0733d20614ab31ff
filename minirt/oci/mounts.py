"""What is mounted inside the new root: /proc, /dev, /sys, tmpfs, what came from the host; what is hidden.

All of it happens after pivot_root and old_root, where absolute paths, symbolic links and ".." end inside the container.
"""

from __future__ import annotations

import os
from errno import EACCES, EBUSY, EEXIST, EINVAL, ENOENT, ENOTDIR, EPERM, EROFS

from minirt.linux import constants as k
from minirt.oci.rootfs import ATTRIBUTES, PROPAGATION, is_bind
from minirt.oci.step import Context, step
from minirt.plan import Memory, Plan, Slot, Words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["SET", "masked_paths", "mount_all", "new_sources", "read_only_paths"]

# runtime-spec config.md#linux-mount-options: option -> (flags set, flags cleared).
SET = {
    "ro": "MS_RDONLY", "nosuid": "MS_NOSUID", "nodev": "MS_NODEV", "noexec": "MS_NOEXEC", "sync": "MS_SYNCHRONOUS",
    "remount": "MS_REMOUNT", "mand": "MS_MANDLOCK", "dirsync": "MS_DIRSYNC", "noatime": "MS_NOATIME",
    "nodiratime": "MS_NODIRATIME", "bind": "MS_BIND", "relatime": "MS_RELATIME", "strictatime": "MS_STRICTATIME",
    "silent": "MS_SILENT", "lazytime": "MS_LAZYTIME",
}  # fmt: skip
CLEAR = {"defaults", "rw", "suid", "dev", "exec", "async", "nomand", "atime", "diratime", "norelatime", "nostrictatime",
         "rbind", "loud", "nolazytime"}  # fmt: skip
RECURSIVE = {f"r{name}": constant for name, constant in ATTRIBUTES.items()}

# statfs's f_type tells that the file system we mounted is the one that is there now, and not a link's target.
MAGIC = {"proc": "PROC_SUPER_MAGIC", "sysfs": "SYSFS_MAGIC", "cgroup": "CGROUP2_SUPER_MAGIC"}

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
    for mount in c.config.get("mounts") or ():
        target = os.path.normpath("/" + mount["destination"].lstrip("/"))
        name, why = STEPS.get(target, (f"mount:{target}", f"what the configuration wants at {target}"))
        source = ("sources" if is_bind(mount) else "new_sources",) if id(mount) in c.sources else ()
        needs = ("pivot_root", *source)
        above = STEPS.get(os.path.dirname(target), ("",))[0]
        p.step(name, (*needs, above) if above in p.steps else needs, why)
        if id(mount) in c.sources:
            attach(p, c, mount, target)
        else:
            mount_new(p, c, mount, target)


def make_directories(p: Plan, c: Context, path: str) -> None:
    """Append a mkdirat for the path and each directory above it that no step has made yet."""
    parts = path.strip("/").split("/")
    for i in range(1, len(parts) + 1):
        prefix = "/" + "/".join(parts[:i])
        if prefix not in c.made and prefix != "/":
            c.made.add(prefix)
            p.mkdirat(k.AT_FDCWD, prefix, 0o755, tolerate=(EEXIST, EROFS, EACCES))


def mount_new(p: Plan, c: Context, mount: dict[str, Any], target: str) -> None:
    """Mount a file system that is not a copy of the host's."""
    kind = mount.get("type") or "none"
    flags, data, spread = 0, [], 0
    for option in mount.get("options") or ():
        if option in SET:
            flags |= getattr(k, SET[option])
        elif option in PROPAGATION:
            spread = getattr(k, PROPAGATION[option]) | (k.MS_REC if option.startswith("r") else 0)
        elif option not in CLEAR and option != "tmpcopyup":
            data.append(option)
    make_directories(p, c, target)
    skip = f"past {target}"
    if kind == "cgroup":
        # A cgroup2 tree may be mounted in a user namespace only together with a cgroup namespace of its own.
        p.mount("cgroup", target, "cgroup2", flags, ",".join(data) or None,
                otherwise={EPERM: skip, EBUSY: skip, ENOENT: skip}, why="cgroup v2 has one tree for all controllers")  # fmt: skip
    else:
        p.mount(mount.get("source") or kind, target, kind, flags, ",".join(data) or None)
    check_type(p, kind, target)
    if spread:
        p.mount(None, target, None, spread)
    if kind == "cgroup":
        p.label(skip)


def check_type(p: Plan, kind: str, target: str) -> None:
    """Check that the kernel's own view lies at a path; later steps write to files there."""
    if kind in MAGIC:
        answer = Memory(bytes(120))  # struct statfs; f_type is its first word
        p.statfs(target, answer)
        want = getattr(k, MAGIC[kind]).to_bytes(8, "little")
        p.check(
            answer, want, b"\xff" * 8, EINVAL, why=f"{target} is now on {kind}, and not what a link there points to"
        )


@step("new_sources", "propagation", why="make /proc and /sys while the host's can be seen, as a user namespace needs")
def new_sources(p: Plan, c: Context) -> None:
    """A user namespace may only have a new one where a whole one is mounted already: nothing masked is shown again.

    (fs/namespace.c, mount_too_revealing.) Attached nowhere yet, as `sources` does with what is bound.
    """
    for mount in c.config.get("mounts") or ():
        if "user" not in c.fresh or mount.get("type") not in ("proc", "sysfs") or is_bind(mount):
            continue
        opened, made = Slot(f"{mount['type']} to be"), Slot(f"new {mount['type']}")
        attributes = 0
        for option in mount.get("options") or ():
            attributes |= getattr(k, ATTRIBUTES[option]) if option in ATTRIBUTES else 0
        p.fsopen(mount["type"], k.FSOPEN_CLOEXEC, store=opened)
        p.fsconfig(opened, k.FSCONFIG_CMD_CREATE)
        p.fsmount(opened, k.FSMOUNT_CLOEXEC, attributes, store=made, why="a mount that is attached nowhere yet")
        p.close(opened)
        c.sources[id(mount)] = made


def attach(p: Plan, c: Context, mount: dict[str, Any], target: str) -> None:
    """Attach what `sources` and `new_sources` took hold of."""
    tree = c.sources[id(mount)]
    options = mount.get("options") or () if is_bind(mount) else ()
    source = os.path.join(c.bundle, mount.get("source") or "")
    if not is_bind(mount) or os.path.isdir(source):
        make_directories(p, c, target)
    else:
        make_directories(p, c, os.path.dirname(target))
        p.mknodat(k.AT_FDCWD, target, k.S_IFREG | 0o644, 0, tolerate=(EEXIST, EROFS),
                  why="a file can only be mounted on a file; an empty one does")  # fmt: skip
    for table, at in ((ATTRIBUTES, 0), (RECURSIVE, k.AT_RECURSIVE)):
        bits = 0
        for option in options:
            bits |= getattr(k, table[option]) if option in table else 0
        if bits:
            p.mount_setattr(tree, "", k.AT_EMPTY_PATH | at, Words(bits, 0, 0, 0), 32, why="before anyone can see it")
    p.move_mount(tree, "", k.AT_FDCWD, target, k.MOVE_MOUNT_F_EMPTY_PATH, why="resolved inside the new root")
    p.close(tree)
    if not is_bind(mount):
        check_type(p, mount["type"], target)
    for option in options:
        if option in PROPAGATION:
            spread = getattr(k, PROPAGATION[option]) | (k.MS_REC if option.startswith("r") else 0)
            p.mount(None, target, None, spread)


@step("masked", "pivot_root", "proc", why="hide what tells of the host or could change it")
def masked_paths(p: Plan, c: Context) -> None:
    """A file is covered by /dev/null, a directory by an empty tmpfs; of the two calls the wrong one fails."""
    for path in c.linux.get("maskedPaths") or ():
        p.mount("/dev/null", path, None, k.MS_BIND, tolerate=(ENOENT, ENOTDIR), why="if it is a file: reads as empty")
        p.mount("tmpfs", path, "tmpfs", k.MS_RDONLY, "size=0k,mode=755", tolerate=(ENOENT, ENOTDIR),
                why="if it is a directory: empty, and nothing can be put there")  # fmt: skip


@step("readonly", "pivot_root", "proc", why="let the kernel's settings be read and not written")
def read_only_paths(p: Plan, c: Context) -> None:
    """A mount's flags can only be changed on a mount point: so bind each path onto itself first."""
    for path in c.linux.get("readonlyPaths") or ():
        skip = f"past {path}"
        p.mount(path, path, None, k.MS_BIND | k.MS_REC, otherwise={ENOENT: skip})
        p.mount_setattr(k.AT_FDCWD, path, k.AT_RECURSIVE, Words(k.MOUNT_ATTR_RDONLY, 0, 0, 0), 32)
        p.label(skip)
