"""What is hidden from the container, and what it may read only (runtime-spec config-linux.md#masked-paths)."""

from __future__ import annotations

from errno import ENODEV, ENOENT, ENOTDIR

from minirt.linux import constants as k
from minirt.oci.devices import check_node
from minirt.oci.step import Context, step
from minirt.oci.targets import HOW_SIZE, how, jump, on_ground
from minirt.plan import Plan, Slot, Words

__all__ = ["masked_paths", "read_only_paths"]

NULL = {"type": "c", "major": 1, "minor": 3}


@step("masked", "pivot_root", "proc", "devices", why="hide what tells of the host or could change it")
def masked_paths(p: Plan, c: Context) -> None:
    """A file is covered by /dev/null, a directory by an empty tmpfs; what is not there need not be hidden.

    If /dev/null were something else, the container would find that in place of what is hidden: with a link there to
    /proc/sys/kernel/core_pattern, a core_pattern that can be written to (CVE-2025-31133). So the node is looked at first.
    """
    paths = c.linux.get("maskedPaths") or ()
    if not paths:
        return
    if on_ground(c, "/dev/null"):
        check_node(p, k.AT_FDCWD, "/dev/null", NULL, ENODEV)
        for path in paths:
            p.mount("/dev/null", path, None, k.MS_BIND, tolerate=(ENOENT, ENOTDIR), why="if it is a file: reads as empty")
            p.mount("tmpfs", path, "tmpfs", k.MS_RDONLY, "size=0k,mode=755", tolerate=(ENOENT, ENOTDIR),
                    why="if it is a directory: empty, and nothing can be put there")  # fmt: skip
        return
    null = Slot("/dev/null")
    p.openat(k.AT_FDCWD, "/dev/null", k.O_PATH | k.O_NOFOLLOW | k.O_CLOEXEC, store=null,
             why="/dev is not ours alone: what is looked at is what is used")  # fmt: skip
    check_node(p, null, "", NULL, ENODEV)
    for path in paths:
        mask(p, null, path)
    p.close(null)


def mask(p: Plan, null: Slot, path: str) -> None:
    """Hide one path, with the null device as a descriptor."""
    file, past, tree, target = f"{path} is a file", f"past {path}", Slot("/dev/null"), Slot(path)
    p.mount("tmpfs", path, "tmpfs", k.MS_RDONLY, "size=0k,mode=755", otherwise={ENOENT: past, ENOTDIR: file},
            why="if it is a directory: empty, and nothing can be put there")  # fmt: skip
    jump(p, past)
    p.label(file)
    p.openat2(k.AT_FDCWD, path, how(k.O_PATH), HOW_SIZE, store=target, otherwise={ENOTDIR: past})
    p.open_tree(null, "", k.OPEN_TREE_CLONE | k.OPEN_TREE_CLOEXEC | k.AT_EMPTY_PATH, store=tree)
    p.move_mount(tree, "", target, "", k.MOVE_MOUNT_F_EMPTY_PATH | k.MOVE_MOUNT_T_EMPTY_PATH,
                 why="if it is a file: reads as empty")  # fmt: skip
    p.close(tree)
    p.close(target)
    p.label(past)


@step("readonly", "pivot_root", "proc", why="let the kernel's settings be read and not written")
def read_only_paths(p: Plan, c: Context) -> None:
    """A mount's flags can only be changed on a mount point: so bind each path onto itself first."""
    for path in c.linux.get("readonlyPaths") or ():
        skip = f"past {path}"
        p.mount(path, path, None, k.MS_BIND | k.MS_REC, otherwise={ENOENT: skip})
        p.mount_setattr(k.AT_FDCWD, path, k.AT_RECURSIVE, Words(k.MOUNT_ATTR_RDONLY, 0, 0, 0), 32)
        p.label(skip)
