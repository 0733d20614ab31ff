"""The root: cut it off from the host's mounts, put layers together, move in, let go of the host's."""

from __future__ import annotations

import os
from errno import EINVAL, EPERM

from minirt.errors import MinirtError
from minirt.linux import constants as k
from minirt.oci.options import PROPAGATION
from minirt.oci.step import Context, step
from minirt.oci.targets import jump
from minirt.plan import Plan, Slot, Words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.oci.step import Overlay

STACK_LIMIT = 500  # lower directories: OVL_MAX_STACK (fs/overlayfs/params.h)

__all__ = [
    "bundle_root", "is_too_long", "old_root", "overlay", "overlay_options", "pivot_root", "propagation", "read_only_root",
    "root_propagation", "wanted_propagation",
]  # fmt: skip


def wanted_propagation(c: Context) -> str:
    """Return linux.rootfsPropagation; by default rprivate, as crun's. Raises: MinirtError."""
    wanted: str = c.linux.get("rootfsPropagation") or "rprivate"
    if wanted not in PROPAGATION:
        raise MinirtError(f"config.json: linux.rootfsPropagation: {wanted!r} is none of {', '.join(PROPAGATION)}")
    return wanted


@step("propagation", "namespaces", why="keep what is mounted here from appearing on the host")
def propagation(p: Plan, c: Context) -> None:
    """A new mount namespace is a copy whose shared mounts still tell the originals of changes."""
    if not any(ns["type"] == "mount" for ns in c.linux.get("namespaces") or ()):
        raise MinirtError(
            "config.json: linux.namespaces: a mount namespace is needed: what is mounted would be mounted on the host"
        )
    if "mount" not in c.fresh:
        return
    wanted = wanted_propagation(c)
    # Whatever it is to be in the end: pivot_root refuses a shared parent, and must not tell the host.
    flag = k.MS_SLAVE if wanted in ("shared", "rshared", "slave", "rslave") else k.MS_PRIVATE
    p.mount(None, "/", None, k.MS_REC | flag, why="man 7 mount_namespaces: new mounts stay in this namespace")


@step("overlay", "propagation", why="join the image's layers, read-only, and a directory for changes into one tree")
def overlay(p: Plan, c: Context) -> None:
    """Lookups go from the top down; the first write to a file copies it up (Documentation/filesystems/overlayfs.rst)."""
    layers = c.overlay
    if layers is None:
        return
    in_user_namespace = "user" in c.fresh
    if in_user_namespace and not c.rootless:
        for i, lower in enumerate(layers.lower):
            p.move_mount(
                c.slots[f"layer {i}"], "", k.AT_FDCWD, lower, k.MOVE_MOUNT_F_EMPTY_PATH,
                why="the layer as seen through the id map: files of root's there are this namespace's root's",
            )  # fmt: skip
    options = overlay_options(layers, layers.lower, in_user_namespace)
    if is_too_long(options):
        names = [str(number) for number in range(len(layers.lower))]
        options = overlay_options(layers, names, in_user_namespace)
        if is_too_long(options) or len(layers.lower) > STACK_LIMIT or not layers.short:
            raise MinirtError(f"{len(layers.lower)} layers: overlayfs takes {STACK_LIMIT}, and mount(2) a page of options")
        p.chdir(layers.short, why="mount(2) takes one page of options: here the layers have names short enough")
    p.mount("overlay", layers.target, "overlay", 0, options, why="changes go to upperdir; the layers stay as they are")


def overlay_options(layers: Overlay, lower: list[str], userxattr: bool) -> str:
    """Return overlayfs's mount options; lower, the names to use for the lower directories."""
    options = f"lowerdir={':'.join(map(escape, lower))},upperdir={escape(layers.upper)},workdir={escape(layers.work)}"
    if layers.whole and not userxattr:  # some kernels have these on; with userxattr they never are
        options += ",redirect_dir=off,metacopy=off"
    return options + ",userxattr" * userxattr  # trusted.* attributes belong to the initial user namespace


def is_too_long(options: str) -> bool:
    """Return whether mount(2) would cut options: it copies a page, of which a NUL is the last byte."""
    return len(os.fsencode(options)) > 4095


def escape(path: str) -> str:
    """Return a path as overlayfs's option parser reads it back: `:`, `,` and `\\` are escaped by a backslash."""
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


@step("rootfs", "propagation", why="make the bundle's root directory a mount point, as pivot_root wants")
def bundle_root(p: Plan, c: Context) -> None:
    """A bind mount of a directory onto itself."""
    if c.overlay is not None:
        return
    if os.path.normpath("/" + c.root.lstrip("/")) == "/":
        raise MinirtError("config.json: root.path: / is the host's root; name a directory that holds the container's")
    p.mount(c.root, c.root, None, k.MS_BIND | k.MS_REC, why="pivot_root takes only a mount point")
    if wanted_propagation(c).lstrip("r") == "shared":
        p.mount(None, c.root, None, k.MS_REC | k.MS_PRIVATE, why="shared from here on, not with the host's original")


@step("hooks", "propagation", "overlay", "rootfs", why="let hooks see the finished mounts together with the host's files")
def stand_inside(p: Plan, c: Context) -> None:
    """Until the hooks have run / must not change for this namespace, and yet the image's links have to end inside."""
    c.slots["outside"] = outside = Slot("host's root")
    p.openat(k.AT_FDCWD, "/", k.O_PATH | k.O_DIRECTORY | k.O_CLOEXEC, store=outside, why="the way back")
    p.chdir(c.root)
    p.chroot(".", why="for the mounts only: it is pivot_root below that shuts the container in")


@step("hooks", "propagation", why="let hooks see the finished mounts together with the host's files")
def hooks(p: Plan, c: Context) -> None:
    """createRuntime and prestart hooks run on the host, createContainer hooks in these namespaces, before pivot_root."""
    outside = c.slots["outside"]
    p.fchdir(outside)
    p.chroot(".", why="out again")
    p.close(outside)
    p.barrier("hooks", why="minirt runs them and waits for their end")


@step("pivot_root", "propagation", "overlay", "rootfs", why="make the new tree the root of this mount namespace")
def pivot_root(p: Plan, c: Context) -> None:
    """chroot would only move this process's idea of /; its way back out is well known (man 2 chroot).

    With both arguments "." the old root comes to lie over the new one at the same place, so no directory is needed
    for it. While it lies there, ".." at the root steps onto it: so no path of the image is followed before `old_root`,
    or a link in it to ../../etc would lead to the host's /etc.
    """
    if c.no_pivot:
        move_root(p, c)
        return
    p.chdir(c.root, why="so that both can be called .")
    p.pivot_root(".", ".", why="the old root now covers the new one; absolute paths are the container's from here on")


def move_root(p: Plan, c: Context) -> None:
    """Without pivot_root, which the initramfs refuses (man 2 pivot_root): cover the old root, and chroot.

    The old root stays below for whoever may chroot again. So the host's whole /proc and /sys go away first: while one
    is there, a container in a user namespace could have another without its masks (fs/namespace.c, mount_too_revealing).
    """
    for point in whole_views(c.root):
        cover, past = f"cover {point}", f"past {point} of the host"
        p.umount2(point, k.MNT_DETACH, otherwise={EINVAL: cover, EPERM: cover}, why="nobody may mount it from here again")
        jump(p, past)
        p.label(cover)
        p.mount("tmpfs", point, "tmpfs", 0, None, why="locked in this user namespace: it cannot go, but be hidden")
        p.label(past)
    p.chdir(c.root, why="so that it can be called .")
    p.mount(".", "/", None, k.MS_MOVE, why="the container's root now covers the host's")
    p.chroot(".", why="absolute paths begin here; less sure than pivot_root")
    p.chdir("/")


def whole_views(root: str) -> list[str]:
    """Return where a whole /proc or /sys is mounted outside a directory."""
    from minirt.linux import mountinfo

    whole = [mount.point for mount in mountinfo.read() if mount.kind in ("proc", "sysfs") and mount.root == "/"]
    return [point for point in reversed(whole) if not f"{point}/".startswith(f"{root}/")]  # what was mounted last first


@step("old_root", "pivot_root", why="let go of the host's files", common=lambda c: c.no_pivot)
def old_root(p: Plan, c: Context) -> None:
    """The last way to the host's mounts: while the old root lies on /, a link to ../.. in the image leads to the host."""
    if not c.no_pivot:
        p.umount2(".", k.MNT_DETACH, why="takes the old root off, with all that is mounted in it")
        p.chdir("/", why="no working directory outside")


@step("root_propagation", "pivot_root", why="say who hears of what is mounted in the container later")
def root_propagation(p: Plan, c: Context) -> None:
    """Now that all is mounted: below a shared root each mount would have been shared from its beginning."""
    wanted = wanted_propagation(c)
    if not wanted.endswith("private") and "mount" in c.fresh:
        recursive = k.MS_REC if wanted.startswith("r") else 0
        p.mount(None, "/", None, recursive | getattr(k, PROPAGATION[wanted]), why=f"linux.rootfsPropagation {wanted}")


@step("readonly_root", "pivot_root", why="make the root file system read-only")
def read_only_root(p: Plan, c: Context) -> None:
    """Only the mount becomes so; what is mounted on it keeps its own flags."""
    if (c.config.get("root") or {}).get("readonly"):
        attr = Words(k.MOUNT_ATTR_RDONLY, 0, 0, 0)
        p.mount_setattr(k.AT_FDCWD, "/", 0, attr, 32, why="changes nothing below: /dev and volumes stay as they are")
