"""The root: cut it off from the host's mounts, put layers together, take from the host what is wanted, move in."""

from __future__ import annotations

from minirt.errors import MinirtError
from minirt.linux import constants as k
from minirt.oci.step import Context, step
from minirt.plan import Plan, Slot, Words

TYPE_CHECKING = False
if TYPE_CHECKING:
    pass

__all__ = ["ATTRIBUTES", "bundle_root", "old_root", "overlay", "pivot_root", "propagation", "read_only_root", "sources"]

ATTRIBUTES = {
    "ro": "MOUNT_ATTR_RDONLY", "nosuid": "MOUNT_ATTR_NOSUID", "nodev": "MOUNT_ATTR_NODEV", "noexec": "MOUNT_ATTR_NOEXEC",
}  # fmt: skip
PROPAGATION = {
    "private": "MS_PRIVATE", "rprivate": "MS_PRIVATE", "slave": "MS_SLAVE", "rslave": "MS_SLAVE",
    "shared": "MS_SHARED", "rshared": "MS_SHARED", "unbindable": "MS_UNBINDABLE", "runbindable": "MS_UNBINDABLE",
}  # fmt: skip


@step("propagation", "namespaces", why="keep what is mounted here from appearing on the host")
def propagation(p: Plan, c: Context) -> None:
    """A new mount namespace is a copy whose shared mounts still tell the originals of changes."""
    if "mount" not in c.fresh:
        return
    wanted = c.linux.get("rootfsPropagation") or "rprivate"
    if wanted not in PROPAGATION:
        raise MinirtError(f"config.json: linux.rootfsPropagation: {wanted!r} is none of {', '.join(PROPAGATION)}")
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
                c.sources[i], "", k.AT_FDCWD, lower, k.MOVE_MOUNT_F_EMPTY_PATH,
                why="the layer as seen through the id map: files of root's there are this namespace's root's",
            )  # fmt: skip
    options = (
        f"lowerdir={':'.join(map(escape, layers.lower))},upperdir={escape(layers.upper)},workdir={escape(layers.work)}"
    )
    if in_user_namespace:
        options += ",userxattr"  # trusted.* attributes belong to the initial user namespace
    if len(options) >= 4096:
        raise MinirtError(
            f"{len(layers.lower)} layers make {len(options)} bytes of mount options and mount(2) takes 4095: "
            "join layers (not implemented: deeper images)"
        )
    p.mount("overlay", layers.target, "overlay", 0, options, why="changes go to upperdir; the layers stay as they are")


def escape(path: str) -> str:
    """Return a path as overlayfs's option parser reads it back: `:`, `,` and `\\` are escaped by a backslash."""
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


@step("rootfs", "propagation", why="make the bundle's root directory a mount point, as pivot_root wants")
def bundle_root(p: Plan, c: Context) -> None:
    """A bind mount of a directory onto itself."""
    if c.overlay is None:
        p.mount(c.root, c.root, None, k.MS_BIND | k.MS_REC, why="pivot_root takes only a mount point")


@step(
    "sources",
    "propagation",
    why="take hold of what the container gets from the host, while its paths still mean the host's",
)
def sources(p: Plan, c: Context) -> None:
    """open_tree clones a mount without attaching it anywhere; move_mount attaches it once we are inside.

    So the target is resolved inside the container's root, where no symbolic link can point out of it.
    """
    for mount in c.config.get("mounts") or ():
        options = mount.get("options") or ()
        if not is_bind(mount):
            continue
        path = mount["source"]
        if not path.startswith("/"):
            path = f"{c.bundle}/{path}"
        recursive = k.AT_RECURSIVE if "rbind" in options else 0
        c.sources[id(mount)] = fd = Slot(mount["destination"])
        p.open_tree(
            k.AT_FDCWD, path, k.OPEN_TREE_CLONE | k.OPEN_TREE_CLOEXEC | recursive, store=fd,
            why="a copy of this mount, attached nowhere yet",
        )  # fmt: skip


def is_bind(mount: dict[str, object]) -> bool:
    """Say whether an entry of config.json's mounts is a bind mount (runtime-spec config.md#mounts)."""
    options = mount.get("options") or ()
    assert isinstance(options, (list, tuple))
    return mount.get("type") == "bind" or "bind" in options or "rbind" in options


@step("pivot_root", "propagation", "overlay", "rootfs", why="make the new tree the root of this mount namespace")
def pivot_root(p: Plan, c: Context) -> None:
    """chroot would only move this process's idea of /; its way back out is well known (man 2 chroot).

    With both arguments "." the old root comes to lie over the new one at the same place, so no directory is needed
    for it. While it lies there, ".." at the root steps onto it: so no path of the image is followed before `old_root`,
    or a link in it to ../../etc would lead to the host's /etc.
    """
    p.chdir(c.root, why="so that both can be called .")
    p.pivot_root(".", ".", why="the old root now covers the new one; absolute paths are the container's from here on")


@step("old_root", "pivot_root", why="let go of the host's files")
def old_root(p: Plan, c: Context) -> None:
    """The last way to the host's mounts: while the old root lies on /, a link to ../.. in the image leads to the host."""
    p.umount2(".", k.MNT_DETACH, why="takes the old root off, with all that is mounted in it")
    p.chdir("/", why="no working directory outside")
    wanted = c.linux.get("rootfsPropagation")
    if wanted and wanted.lstrip("r") != "private" and "mount" in c.fresh:
        recursive = k.MS_REC if wanted.startswith("r") else 0
        p.mount(None, "/", None, recursive | getattr(k, PROPAGATION[wanted]), why="linux.rootfsPropagation")


@step("readonly_root", "pivot_root", why="make the root file system read-only")
def read_only_root(p: Plan, c: Context) -> None:
    """Only the mount becomes so; what is mounted on it keeps its own flags."""
    if (c.config.get("root") or {}).get("readonly"):
        attr = Words(k.MOUNT_ATTR_RDONLY, 0, 0, 0)
        p.mount_setattr(k.AT_FDCWD, "/", 0, attr, 32, why="changes nothing below: /dev and volumes stay as they are")
