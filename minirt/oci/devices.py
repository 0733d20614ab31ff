"""Device nodes, the links that programs expect in /dev, and the terminal."""

from __future__ import annotations

import os
from errno import EEXIST

from minirt.linux import constants as k
from minirt.oci.mounts import make_directories
from minirt.oci.step import Context, step
from minirt.plan import Plan, Slot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["DEFAULT", "console", "device_sources", "devices"]

# runtime-spec config-linux.md#default-devices: name -> major, minor (Documentation/admin-guide/devices.txt).
DEFAULT = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
LINKS = {
    "/dev/fd": "/proc/self/fd",
    "/dev/stdin": "/proc/self/fd/0",
    "/dev/stdout": "/proc/self/fd/1",
    "/dev/stderr": "/proc/self/fd/2",
    "/dev/ptmx": "pts/ptmx",
}
KINDS = {"c": "S_IFCHR", "u": "S_IFCHR", "b": "S_IFBLK", "p": "S_IFIFO"}


def wanted(c: Context) -> list[dict[str, Any]]:
    """Return the devices to make: the default ones, then those of linux.devices."""
    known = [
        {"path": f"/dev/{name}", "type": "c", "major": major, "minor": minor, "fileMode": 0o666}
        for name, (major, minor) in DEFAULT.items()
    ]
    return known + list(c.linux.get("devices") or ())


@step(
    "device_sources", "propagation", why="take hold of the host's device nodes, as none can be made in a user namespace"
)
def device_sources(p: Plan, c: Context) -> None:
    """mknod of a device is denied there (man 2 mknod), but an existing node may be bound."""
    if "user" in c.fresh:
        for device in wanted(c):
            c.sources[f"device {device['path']}"] = fd = Slot(device["path"])  # type: ignore[index]
            p.open_tree(k.AT_FDCWD, device["path"], k.OPEN_TREE_CLONE | k.OPEN_TREE_CLOEXEC, store=fd)


@step("devices", "pivot_root", "dev", why="make the device nodes that every program may count on")
def devices(p: Plan, c: Context) -> None:
    """Which devices may be used is not decided by the node but by CAP_MKNOD and the cgroup's device filter."""
    for device in wanted(c):
        path = device["path"]
        make_directories(p, c, os.path.dirname(path))
        tree = c.sources.get(f"device {path}")  # type: ignore[call-overload]
        if tree is not None:
            p.mknodat(k.AT_FDCWD, path, k.S_IFREG | 0o666, 0, tolerate=(EEXIST,))
            p.move_mount(tree, "", k.AT_FDCWD, path, k.MOVE_MOUNT_F_EMPTY_PATH, why="the host's node, bound")
            p.close(tree)
            continue
        number = os.makedev(device.get("major", 0), device.get("minor", 0))
        mode = device.get("fileMode", 0o666)
        p.mknodat(k.AT_FDCWD, path, getattr(k, KINDS[device["type"]]) | mode, number, tolerate=(EEXIST,))
        if device.get("uid") or device.get("gid"):
            p.fchownat(k.AT_FDCWD, path, device.get("uid", 0), device.get("gid", 0))
    for path, target in LINKS.items():
        p.symlinkat(target, k.AT_FDCWD, path, tolerate=(EEXIST,))


@step("console", "devpts", "session", why="make the terminal that the program runs on")
def console(p: Plan, c: Context) -> None:
    """A pty of the container's own devpts; its master goes to the parent, its slave becomes stdin, stdout, stderr."""
    if not c.process.get("terminal"):
        return
    master, slave, bound = Slot("pty master"), Slot("pty slave"), Slot("console")
    p.openat(k.AT_FDCWD, "/dev/pts/ptmx", k.O_RDWR | k.O_NOCTTY | k.O_CLOEXEC, store=master, why="man 4 ptmx")
    p.ioctl(master, k.TIOCSPTLCK, bytes(8), why="unlock the slave")
    p.ioctl(master, k.TIOCGPTPEER, k.O_RDWR | k.O_NOCTTY | k.O_CLOEXEC, store=slave,
            why="the slave by descriptor: no path that somebody could have changed")  # fmt: skip
    uid = c.process.get("user", {}).get("uid", 0) if c.user is None else p.late["uid"]
    p.fchownat(slave, "", uid, -1, k.AT_EMPTY_PATH, why="the user may open its own terminal")  # type: ignore[arg-type]
    p.barrier("console", give=master, why="the parent gets the master (man 7 unix, SCM_RIGHTS) and sets the size")
    p.mknodat(k.AT_FDCWD, "/dev/console", k.S_IFREG | 0o600, 0, tolerate=(EEXIST,))
    p.open_tree(slave, "", k.OPEN_TREE_CLONE | k.OPEN_TREE_CLOEXEC | k.AT_EMPTY_PATH, store=bound)
    p.move_mount(bound, "", k.AT_FDCWD, "/dev/console", k.MOVE_MOUNT_F_EMPTY_PATH, why="the terminal is the console")
    for fd in (0, 1, 2):
        p.dup3(slave, fd)
    p.ioctl(0, k.TIOCSCTTY, 0, why="the session's controlling terminal: Ctrl-C comes from here (man 4 tty_ioctl)")
