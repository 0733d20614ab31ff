"""What is hidden from the container, and what it may read only (runtime-spec config-linux.md#masked-paths)."""

from __future__ import annotations

from errno import ENODEV, ENOENT, ENOTDIR, EPERM

from minirt.linux import constants as k
from minirt.oci import procfs
from minirt.oci.checks import check_node, check_type
from minirt.oci.step import Context, step
from minirt.oci.targets import HOW_SIZE, how, jump, may_name
from minirt.plan import Plan, Slot, Words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

__all__ = ["masked_paths", "read_only_paths"]

NULL = {"type": "c", "major": 1, "minor": 3}
EMPTY = "size=0k,mode=755"
ONTO = k.MOVE_MOUNT_F_EMPTY_PATH | k.MOVE_MOUNT_T_EMPTY_PATH


def all_of_kernel(c: Context) -> Hashable:
    """Return the masked paths where all may be named, and so do not depend on the container (`step`)."""
    paths = tuple(c.linux.get("maskedPaths") or ())
    return paths if paths and may_name(c, "/dev/null") and all(map(of_kernel, paths)) else None


@step("masked", "pivot_root", "proc", "devices", why="hide what tells of the host or could change it", common=all_of_kernel)
def masked_paths(p: Plan, c: Context) -> None:
    """A file is covered by /dev/null, a directory by an empty tmpfs; what is not there need not be hidden.

    If /dev/null were something else, the container would find that in place of what is hidden: with a link there to
    /proc/sys/kernel/core_pattern, a core_pattern that can be written to (CVE-2025-31133). So the node is looked at first.
    """
    paths = c.linux.get("maskedPaths") or ()
    if not paths:
        return
    ours = may_name(c, "/dev/null")
    if ours:
        check_node(p, k.AT_FDCWD, "/dev/null", NULL, ENODEV)
    others = [path for path in paths if not (ours and of_kernel(path))]
    for path in paths:
        if path not in others:
            cover(p, path, path, None)
    if not others:
        return
    null = open_null(p)
    for root, inside in by_root(c, others):
        if root:
            stand_in(p, c, root)
        for path in inside:
            if root:
                cover(p, path, path.removeprefix(f"{root}/"), null)
            else:
                mask(p, null, path)
    p.close(null)


def of_kernel(path: str) -> bool:
    """Say whether a path is of /proc or /sys, where nobody but the kernel makes names: it may be named."""
    return path.startswith(("/proc/", "/sys/")) and "/.." not in path


def by_root(c: Context, paths: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Return the paths that are in the container's /proc, those in its /sys, and the others ("")."""
    if not paths:
        return []
    kinds = {mount.target: mount.kind for mount in c.mounts if not mount.remount and not mount.bind}
    found: dict[str, list[str]] = {"": [], "/proc": [], "/sys": []}
    for path in paths:
        root = path[: path.find("/", 1)]
        kernel = of_kernel(path) and kinds.get(root) == {"/proc": "proc", "/sys": "sysfs"}[root]
        found[root if kernel else ""].append(path)
    return [(root, inside) for root, inside in found.items() if inside]


def stand_in(p: Plan, c: Context, root: str) -> None:
    """Append what makes the kernel's own /proc or /sys the working directory: by name another could be in its place by now."""
    if root == "/proc":
        fd = procfs.open_proc(p, c)
    else:
        fd = Slot(root)
        p.openat(k.AT_FDCWD, root, k.O_PATH | k.O_DIRECTORY | k.O_NOFOLLOW | k.O_CLOEXEC, store=fd)
        check_type(p, fd, k.SYSFS_MAGIC, EPERM, "it is sysfs")
    p.fchdir(fd, why=f"{root} is . from here on, whatever becomes of its name")
    p.close(fd)


def cover(p: Plan, path: str, name: str, null: Slot | None) -> None:
    """Append what hides a path of the kernel's, whatever it is.

    Args:
        path: what it is, for the learner.
        name: what to call it here.
        null: the null device, opened; without it /dev/null is ours.

    With a descriptor the tmpfs first: it fails at once where there is nothing, which is what most of the usual list is. What was
    cloned in vain is a mount to throw away, and for that the kernel waits for all processors (fs/namespace.c,
    namespace_unlock): 60 us each.
    """
    file, directory = "if it is a file: reads as empty", "if it is a directory: empty, and nothing can be put there"
    if null is None:  # without a label, so that all plans have these records in common (minirt/plan/common.py)
        p.mount("/dev/null", name, None, k.MS_BIND, tolerate=(ENOENT, ENOTDIR), why=file)
        p.mount("tmpfs", name, "tmpfs", k.MS_RDONLY, EMPTY, tolerate=(ENOENT, ENOTDIR), why=directory)
        return
    other, past, tree = f"{path} is a file", f"past {path}", Slot("/dev/null")
    p.mount("tmpfs", name, "tmpfs", k.MS_RDONLY, EMPTY, otherwise={ENOENT: past, ENOTDIR: other}, why=directory)
    jump(p, past)
    p.label(other)
    p.open_tree(null, "", k.OPEN_TREE_CLONE | k.OPEN_TREE_CLOEXEC | k.AT_EMPTY_PATH, store=tree, why=f"for {path}")
    p.move_mount(tree, "", k.AT_FDCWD, name, k.MOVE_MOUNT_F_EMPTY_PATH, tolerate=(ENOENT, ENOTDIR), why=file)
    p.close(tree)
    p.label(past)


def open_null(p: Plan) -> Slot:
    """Append what opens the null device and makes sure of it: what is looked at is what is used."""
    null = Slot("/dev/null")
    p.openat(k.AT_FDCWD, "/dev/null", k.O_PATH | k.O_NOFOLLOW | k.O_CLOEXEC, store=null)
    check_node(p, null, "", NULL, ENODEV)
    return null


def mask(p: Plan, null: Slot, path: str) -> None:
    """Hide a path that the image or a volume could change, with descriptors."""
    file, past, tree, target = f"{path} is a file", f"past {path}", Slot("/dev/null"), Slot(path)
    p.openat2(k.AT_FDCWD, path, how(k.O_PATH | k.O_DIRECTORY), HOW_SIZE, store=target,
              otherwise={ENOENT: past, ENOTDIR: file})  # fmt: skip
    p.fchdir(target, why=f"{path} is . from here on")
    p.close(target)
    p.mount("tmpfs", ".", "tmpfs", k.MS_RDONLY, EMPTY, why="a directory: empty, and nothing can be put there")
    jump(p, past)
    p.label(file)
    p.openat2(k.AT_FDCWD, path, how(k.O_PATH), HOW_SIZE, store=target, otherwise={ENOTDIR: past})
    p.open_tree(null, "", k.OPEN_TREE_CLONE | k.OPEN_TREE_CLOEXEC | k.AT_EMPTY_PATH, store=tree)
    p.move_mount(tree, "", target, "", ONTO, why="a file: reads as empty")
    p.close(tree)
    p.close(target)
    p.label(past)


@step("readonly", "pivot_root", "proc", why="let the kernel's settings be read and not written")
def read_only_paths(p: Plan, c: Context) -> None:
    """A mount's flags can only be changed on a mount point: so bind each path onto itself first."""
    for root, inside in by_root(c, c.linux.get("readonlyPaths") or ()):
        if root and c.shared_root:
            stand_in(p, c, root)
        for path in inside:
            skip = f"past read-only {path}"
            if root or (of_kernel(path) and not c.shared_root):
                name = path.removeprefix(f"{root}/") if root and c.shared_root else path
                p.mount(name, name, None, k.MS_BIND | k.MS_REC, otherwise={ENOENT: skip, ENOTDIR: skip})
                p.mount_setattr(k.AT_FDCWD, name, k.AT_RECURSIVE, Words(k.MOUNT_ATTR_RDONLY, 0, 0, 0), 32, why=path)
            else:
                read_only(p, path, skip)
            p.label(skip)


def read_only(p: Plan, path: str, skip: str) -> None:
    """Do that for a path that the image or a volume could change, with descriptors."""
    fd, tree = Slot(path), Slot(path)
    p.openat2(k.AT_FDCWD, path, how(k.O_PATH), HOW_SIZE, store=fd, otherwise={ENOENT: skip, ENOTDIR: skip})
    p.open_tree(fd, "", k.OPEN_TREE_CLONE | k.OPEN_TREE_CLOEXEC | k.AT_EMPTY_PATH | k.AT_RECURSIVE, store=tree)
    p.mount_setattr(tree, "", k.AT_EMPTY_PATH | k.AT_RECURSIVE, Words(k.MOUNT_ATTR_RDONLY, 0, 0, 0), 32)
    p.move_mount(tree, "", fd, "", ONTO)
    p.close(tree)
    p.close(fd)
