"""Device nodes, the links that programs expect in /dev, and the terminal."""

from __future__ import annotations

import os
from errno import EEXIST, EINVAL, ENODEV, ENOENT

from minirt.linux import constants as k
from minirt.oci.checks import KINDS, check_inode, check_node, check_type
from minirt.oci.process import identity
from minirt.oci.step import Context, step
from minirt.oci.targets import HOW_SIZE, how, make_directories, may_name, open_directory, open_file
from minirt.plan import Plan, Slot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable
    from typing import Any

__all__ = ["DEFAULT", "console", "device_sources", "devices", "null_descriptors"]

# runtime-spec config-linux.md#default-devices: name -> major, minor (Documentation/admin-guide/devices.txt).
DEFAULT = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
LINKS = {
    "/dev/fd": "/proc/self/fd",
    "/dev/stdin": "/proc/self/fd/0",
    "/dev/stdout": "/proc/self/fd/1",
    "/dev/stderr": "/proc/self/fd/2",
}
BINDS = {"bind", "rbind"}
DEVPTS_PTMX_INO = 2  # fs/devpts/inode.c, mknod_ptmx

_kcore: bool | None = None


def wanted(c: Context) -> list[dict[str, Any]]:
    """Return the devices to make: the default ones, then those of linux.devices, which may be the same by path."""
    asked = {os.path.normpath(device["path"]): device for device in c.linux.get("devices") or ()}
    asked.pop("/dev/ptmx", None)  # privileged engines list all of the host's; here it is the link into the own devpts
    known = [
        {"path": f"/dev/{name}", "type": "c", "major": major, "minor": minor}
        for name, (major, minor) in DEFAULT.items()
        if f"/dev/{name}" not in asked
    ]
    return known + [{**device, "path": path} for path, device in asked.items()]


def dev_is_ours(c: Context) -> bool:
    """Say whether /dev is ours to fill: not if it is a bind mount (runc's needsSetupDev)."""
    for mount in c.config.get("mounts") or ():  # unread, as a process that joins has no other use of them
        bind = mount.get("type") == "bind" or not BINDS.isdisjoint(mount.get("options") or ())
        if bind and os.path.normpath("/" + mount["destination"].lstrip("/")) == "/dev":
            return False
    return True


def kcore() -> bool:
    """Say whether this kernel has /proc/kcore (CONFIG_PROC_KCORE)."""
    global _kcore
    if _kcore is None:
        _kcore = os.path.exists("/proc/kcore")
    return _kcore


@step("device_sources", "propagation", why="take hold of the host's device nodes, as none can be made in a user namespace")
def device_sources(p: Plan, c: Context) -> None:
    """mknod of a device is denied there (man 2 mknod), but an existing node may be bound. A FIFO is no device."""
    if not c.userns or not dev_is_ours(c):
        return
    for device in wanted(c):
        if device["type"] != "p":
            c.slots[f"device {device['path']}"] = fd = Slot(device["path"])
            p.open_tree(k.AT_FDCWD, device["path"], k.OPEN_TREE_CLONE | k.OPEN_TREE_CLOEXEC, store=fd)


def default_only(c: Context) -> Hashable:
    """Say whether there are to be the default devices in a /dev that is new (`step`)."""
    return () if may_name(c, "/dev") and "/dev" in c.made and not c.userns and not c.linux.get("devices") else None


@step("devices", "pivot_root", "dev", why="make the device nodes that every program may count on", common=default_only)
def devices(p: Plan, c: Context) -> None:
    """Which devices may be used is not decided by the node but by CAP_MKNOD and the cgroup's device filter."""
    if not dev_is_ours(c):
        return
    folders = Folders(p, c)
    asked = {os.path.normpath(device["path"]) for device in c.linux.get("devices") or ()}
    for device in wanted(c):
        tree = c.slots.get(f"device {device['path']}")
        if tree is None:
            node(p, c, folders, device, device["path"] in asked)
        else:
            bound(p, c, tree, device["path"])
    links(p, c, folders)
    folders.close()


class Folders:
    """The directories that nodes are made in: by path where that is safe, else by a descriptor that is kept open."""

    def __init__(self, p: Plan, c: Context) -> None:
        self.p = p
        self.c = c
        self.opened: dict[str, Slot] = {}

    def place(self, path: str) -> tuple[Any, str]:
        """Return the descriptor and the name that a call takes for a path whose last part is not followed."""
        folder, name = os.path.split(path)
        if may_name(self.c, folder):
            make_directories(self.p, self.c, folder)
            return k.AT_FDCWD, path
        if folder not in self.opened:
            self.opened[folder] = open_directory(self.p, self.c, folder)
        return self.opened[folder], name

    def close(self) -> None:
        """Close what was opened."""
        for fd in self.opened.values():
            self.p.close(fd)


def node(p: Plan, c: Context, folders: Folders, device: dict[str, Any], asked: bool) -> None:
    """Make one node. One that is asked for by config.json and not the file that is there already is an error."""
    at, name = folders.place(device["path"])
    number = os.makedev(device.get("major", 0), device.get("minor", 0))
    mode = device.get("fileMode")
    mode = (0o666 if mode is None else mode) & 0o7777
    p.mknodat(at, name, getattr(k, KINDS[device["type"]]) | mode, number, tolerate=(EEXIST,))
    if asked:
        if at != k.AT_FDCWD or device["path"] in c.ground:
            check_node(p, at, name, device, EEXIST)
        if device.get("uid") or device.get("gid"):
            p.fchownat(at, name, device.get("uid") or 0, device.get("gid") or 0, k.AT_SYMLINK_NOFOLLOW)


def bound(p: Plan, c: Context, tree: Slot, path: str) -> None:
    """Bind one of the host's nodes."""
    if may_name(c, os.path.dirname(path)):
        make_directories(p, c, os.path.dirname(path))
        p.mknodat(k.AT_FDCWD, path, k.S_IFREG | 0o666, 0, tolerate=(EEXIST,))
        p.move_mount(tree, "", k.AT_FDCWD, path, k.MOVE_MOUNT_F_EMPTY_PATH, why="the host's node, bound")
    else:
        fd = open_file(p, c, path)
        p.move_mount(tree, "", fd, "", k.MOVE_MOUNT_F_EMPTY_PATH | k.MOVE_MOUNT_T_EMPTY_PATH, why="the host's node, bound")
        p.close(fd)
    p.close(tree)


def links(p: Plan, c: Context, folders: Folders) -> None:
    """Make the links of runtime-spec config-linux.md#default-devices and of man 4 ptmx."""
    for path, target in LINKS.items():
        at, name = folders.place(path)
        p.symlinkat(target, at, name, tolerate=(EEXIST,))
    if kcore():
        at, name = folders.place("/dev/core")
        p.symlinkat("/proc/kcore", at, name, tolerate=(EEXIST,))
    at, name = folders.place("/dev/ptmx")
    if at != k.AT_FDCWD:
        p.unlinkat(at, name, 0, tolerate=(ENOENT,), why="the image's would be the host's terminals, if anything")
    p.symlinkat("pts/ptmx", at, name, tolerate=(EEXIST,))


@step("null", "devices", why="give the program the container's own /dev/null where it has the host's")
def null_descriptors(p: Plan, c: Context) -> None:
    """A descriptor is as good as the file: fchmod(0, 0) would take the host's /dev/null from everybody there."""
    if not c.null_fds or not dev_is_ours(c):
        return
    null = Slot("/dev/null")
    p.openat(k.AT_FDCWD, "/dev/null", k.O_RDWR | k.O_NOFOLLOW | k.O_CLOEXEC, store=null)
    check_node(p, null, "", {"type": "c", "major": 1, "minor": 3}, ENODEV)
    for fd in c.null_fds:
        p.dup3(null, fd)
    p.close(null)


def check_ptmx(p: Plan, master: Slot) -> None:
    """Append the check that a terminal's master comes from a devpts, and from its ptmx."""
    check_type(p, master, k.DEVPTS_SUPER_MAGIC, EINVAL, "/dev/pts is a devpts")
    check_inode(p, master, DEVPTS_PTMX_INO, EINVAL, "and this is its ptmx")


def bind_console(p: Plan, c: Context, slave: Slot) -> None:
    """Append what makes a terminal the container's /dev/console (runtime-spec config-linux.md#default-devices)."""
    folders, place, bound = Folders(p, c), Slot("/dev/console"), Slot("console")
    p.mknodat(*folders.place("/dev/console"), k.S_IFREG | 0o600, 0, tolerate=(EEXIST,))
    p.open_tree(slave, "", k.OPEN_TREE_CLONE | k.OPEN_TREE_CLOEXEC | k.AT_EMPTY_PATH, store=bound)
    p.openat2(k.AT_FDCWD, "/dev/console", how(k.O_PATH, resolve=k.RESOLVE_NO_SYMLINKS), HOW_SIZE, store=place)
    p.move_mount(bound, "", place, "", k.MOVE_MOUNT_F_EMPTY_PATH | k.MOVE_MOUNT_T_EMPTY_PATH,
                 why="the terminal is the console")  # fmt: skip
    p.close(place)
    p.close(bound)
    folders.close()


@step("console", "devpts", "session", why="make the terminal that the program runs on")
def console(p: Plan, c: Context) -> None:
    """A pty of the container's own devpts; its master goes to the parent, its slave becomes stdin, stdout, stderr.

    Both ends by descriptor, and /dev/console without following a link: an image or a volume that has one there would
    get the terminal bound over what it points to (CVE-2025-52565).
    """
    if not c.process.get("terminal"):
        return
    master, slave = Slot("pty master"), Slot("pty slave")
    p.openat(k.AT_FDCWD, "/dev/pts/ptmx", k.O_RDWR | k.O_NOCTTY | k.O_NOFOLLOW | k.O_CLOEXEC, store=master, why="man 4 ptmx")
    check_ptmx(p, master)
    p.ioctl(master, k.TIOCSPTLCK, bytes(8), why="unlock the slave")
    p.ioctl(master, k.TIOCGPTPEER, k.O_RDWR | k.O_NOCTTY | k.O_CLOEXEC, store=slave,
            why="the slave by descriptor: no path that somebody could have changed")  # fmt: skip
    p.fchownat(slave, "", identity(p, c)[0], -1, k.AT_EMPTY_PATH, why="the user may open its own terminal")
    p.barrier("console", give=master, why="the parent gets the master (man 7 unix, SCM_RIGHTS) and sets the size")
    if not c.join:  # who joins has a terminal of its own; the console is that of the first process
        bind_console(p, c, slave)
    for fd in (0, 1, 2):
        p.dup3(slave, fd)
    p.ioctl(0, k.TIOCSCTTY, 0, why="the session's controlling terminal: Ctrl-C comes from here (man 4 tty_ioctl)")
