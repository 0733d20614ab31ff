"""The first content of a volume: what the image has at its place, with owners, modes, times and extended attributes.

A copy is made beside the volume's content and renamed over it, which the kernel does only if that is empty (man 2 rename,
ENOTEMPTY). So a volume has all of it or none, whenever minirt is killed.
"""

from __future__ import annotations

import os
import stat

from minirt.image.view import View
from minirt.linux.copytree import copy_metadata
from minirt.linux.rmtree import remove_tree
from minirt.volume.store import Volume, VolumeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.image.view import Found

__all__ = ["fill"]


def fill(volume: Volume, layers: list[str], path: str) -> bool:
    """Fill a volume that is empty; the caller holds the volumes' lock, and nobody uses it.

    Args:
        volume: one that is no mount.
        layers: the image's directories, topmost first.
        path: the place in the image.

    Returns: whether there was something. Raises: VolumeError, ImageError.
    """
    view = View(layers)
    inner = view.resolve(os.fsencode(path))
    found = view.find(inner)
    if found is None or found.kind != stat.S_IFDIR or os.listdir(volume.data):
        return False
    place = os.path.join(volume.path, "new")
    if os.path.isdir(place):  # of a minirt that was killed here
        remove_tree(place)
    try:
        os.mkdir(place, 0o700)
        copy(view, inner, place)
        like(place, found)
        os.rename(place, volume.data)
    except OSError as error:
        raise VolumeError(f"volume {volume.name}: the image's {path} cannot be copied: {error.strerror}") from None
    return True


def copy(view: View, top: bytes, place: str) -> None:
    """Copy what is below a directory of a view into an empty one, where nobody else is."""
    links: dict[tuple[int, int], bytes] = {}  # files with several names
    directories = []
    for path, found in view.walk(top):
        target = os.path.join(os.fsencode(place), path[len(top) :].lstrip(b"/"))
        status = found.status
        known = links.get((status.st_dev, status.st_ino)) if found.kind != stat.S_IFDIR else None
        if known is not None:
            os.link(known, target, follow_symlinks=False)
            continue
        if status.st_nlink > 1:
            links[(status.st_dev, status.st_ino)] = target
        if found.kind == stat.S_IFDIR:
            os.mkdir(target, 0o700)
            directories.append((target, found))
        elif found.kind == stat.S_IFLNK:
            os.symlink(os.readlink(found.path), target)
            if os.geteuid() == 0:
                os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
        elif found.kind == stat.S_IFREG:
            copy_file(found, target)
        elif found.kind == stat.S_IFIFO or os.geteuid() == 0:
            os.mknod(target, status.st_mode, status.st_rdev)
            give(target, status)
    for target, found in reversed(directories):  # last, as what is put into a directory changes its time
        like(target, found)


def copy_file(found: Found, target: bytes) -> None:
    """Copy a regular file."""
    with open(found.path, "rb") as old, open(target, "xb") as new:
        while os.sendfile(new.fileno(), old.fileno(), None, 1 << 24):
            pass
        metadata(old.fileno(), new.fileno())


def like(target: str | bytes, found: Found) -> None:
    """Give a directory the owner, mode, times and attributes of another."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    old, new = os.open(found.path, flags), os.open(target, flags)
    try:
        metadata(old, new)
    finally:
        os.close(old)
        os.close(new)


def metadata(old: int, new: int) -> None:
    """Copy what a file has beside its content; an overlay's own attributes belong to the layer."""
    copy_metadata(old, new)
    for name in os.listxattr(new):
        if name.startswith(("trusted.overlay.", "user.overlay.")):
            os.removexattr(new, name)


def give(target: bytes, status: os.stat_result) -> None:
    """Give a node its owner and mode."""
    if os.geteuid() == 0:
        os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    os.chmod(target, stat.S_IMODE(status.st_mode))
