"""Where in the container something is put: its paths, followed so that none leads out of it.

All of it happens after pivot_root and old_root, so a symbolic link of the image ends inside the container, however many
".." it has. One kind does not: the "magic" links of procfs (man 5 proc_pid_fd, proc_pid_root), which lead to
what a process has open, and where the pid namespace is shared, to the host's root. So a path that the image (or a volume
that somebody else writes to) could have prepared is opened by openat2 with RESOLVE_NO_MAGICLINKS, and used by
descriptor: what was looked at is what is used.

On *ground* no care is needed: a file system that this plan has made (an empty tmpfs, sysfs, devpts) on an ordinary
directory of the root. Nobody was there before us. That is what spares a default container most of the calls below.
"""

from __future__ import annotations

import os
import struct
from errno import EACCES, EAGAIN, EEXIST, ENOENT, EROFS

from minirt.linux import constants as k
from minirt.oci.step import Context
from minirt.plan import Plan, Slot

__all__ = [
    "DIRECTORY",
    "FILE",
    "HOW_SIZE",
    "claim",
    "enter",
    "how",
    "jump",
    "make_directories",
    "may_name",
    "on_ground",
    "open_directory",
    "open_file",
]

HOW_SIZE = 24  # sizeof(struct open_how)
DIRECTORY, FILE = "directory:", "file:"  # begin the names of barriers at which the parent makes the target


def how(flags: int, mode: int = 0, resolve: int | None = None) -> bytes:
    """Return a struct open_how (man 2 openat2). By default magic links are not followed."""
    return struct.pack("<QQQ", flags | k.O_CLOEXEC, mode, k.RESOLVE_NO_MAGICLINKS if resolve is None else resolve)


def jump(p: Plan, label: str) -> None:
    """Go on at a label: a comparison that never holds, which costs no system call."""
    kinds = {"have": "Data", "want": "Data", "mask": "Data", "size": "Size", "errno": "Number"}
    p.append("check", kinds, (b"\0", b"\1", b"\1", 1, EAGAIN), {"why": f"on to {label}", "otherwise": {EAGAIN: label}})


def on_ground(c: Context, path: str) -> bool:
    """Say whether a path lies on ground: below the innermost mount point of ours that is above it, or at it."""
    while path not in c.ground:
        if path == "/":
            return False
        path = os.path.dirname(path)
    return c.ground[path]


def may_name(c: Context, path: str) -> bool:
    """Say whether something may be made in a directory by its path: it is ground, and nobody can exchange what leads there."""
    return on_ground(c, path) and not c.shared_root


def claim(c: Context, target: str, ground: bool) -> None:
    """Note that something is mounted at a path now.

    What lies below is hidden, so what was made there is not there any more. If the path may have been a link, other
    paths may mean other places than before: then nothing is ground any more.
    """
    c.made = {path for path in c.made if not path.startswith(f"{target}/")}
    if not ground and not on_ground(c, os.path.dirname(target)):
        c.ground.clear()
    c.ground[target] = ground


def make_directories(p: Plan, c: Context, path: str) -> None:
    """Append what makes a directory and those above it that no step has made yet, mode 0755 as runc's."""
    parts = path.strip("/").split("/")
    for i in range(1, len(parts) + 1):
        above, prefix = "/" + "/".join(parts[: i - 1]), "/" + "/".join(parts[:i])
        if prefix in c.made or prefix == "/":
            continue
        c.made.add(prefix)
        tolerate = (EEXIST, EROFS, EACCES)
        if above == "/" or may_name(c, above):
            p.mkdirat(k.AT_FDCWD, prefix, 0o755, tolerate=tolerate)
            continue
        fd = Slot(above)
        p.openat2(k.AT_FDCWD, above, how(k.O_PATH | k.O_DIRECTORY), HOW_SIZE, store=fd)
        p.mkdirat(fd, parts[i - 1], 0o755, tolerate=tolerate)
        p.close(fd)


def open_directory(p: Plan, c: Context, path: str, flags: int = 0) -> Slot:
    """Append what opens a directory of the container, made if it is missing. Returns the descriptor's slot."""
    fd, have = Slot(path), f"{path} is open ({len(p.items)})"
    wanted = how((flags or k.O_PATH) | k.O_DIRECTORY)
    if path not in c.made:
        p.openat2(k.AT_FDCWD, path, wanted, HOW_SIZE, store=fd, positive=have, tolerate=(ENOENT,))
        make_directories(p, c, path)
        p.openat2(k.AT_FDCWD, path, wanted, HOW_SIZE, store=fd, positive=have, tolerate=(ENOENT,))
        p.barrier(f"{DIRECTORY}{path}", why="a link to what is missing: minirt makes that, inside")
    p.openat2(k.AT_FDCWD, path, wanted, HOW_SIZE, store=fd, why="links in it end inside; magic ones are refused")
    p.label(have)
    return fd


def open_file(p: Plan, c: Context, path: str) -> Slot:
    """Append what opens a file of the container to mount on; an empty one is made where nothing is."""
    fd, have = Slot(path), f"{path} is open ({len(p.items)})"
    p.openat2(k.AT_FDCWD, path, how(k.O_PATH), HOW_SIZE, store=fd, positive=have, tolerate=(ENOENT,),
              why="links in it end inside; magic ones are refused")  # fmt: skip
    make_directories(p, c, os.path.dirname(path))
    p.openat2(k.AT_FDCWD, path, how(k.O_CREAT | k.O_NOCTTY | k.O_NONBLOCK, 0o644), HOW_SIZE, store=fd, positive=have,
              tolerate=(ENOENT,), why="a file can only be mounted on a file; an empty one does")  # fmt: skip
    p.barrier(f"{FILE}{path}", why="a link to what is missing: minirt makes that, inside")
    p.openat2(k.AT_FDCWD, path, how(k.O_PATH), HOW_SIZE, store=fd)
    p.label(have)
    return fd


def enter(p: Plan, c: Context, path: str) -> str:
    """Append what makes a mount point that is there already safe to name. Returns its name: itself on ground, else "."."""
    if on_ground(c, path):
        return path
    fd = Slot(path)
    p.openat2(k.AT_FDCWD, path, how(k.O_PATH | k.O_DIRECTORY), HOW_SIZE, store=fd)
    p.fchdir(fd, why=f"{path} is . from here on")
    p.close(fd)
    return "."
