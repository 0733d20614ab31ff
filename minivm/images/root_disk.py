"""An image's root as an ext4 disk: made once for a stack of layers, kept in the cache, copied for each machine.

The layers are mounted one over the other by overlayfs, in a mount namespace that only mke2fs is in (one plan of
minirt's), and `mke2fs -d` copies what is there with its owners, modes and extended attributes. man 8 mke2fs.
"""

from __future__ import annotations

import os
import shutil

from minirt.image.scratch import Scratch
from minirt.paths import cache_root
from minivm.errors import MinivmError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.image.store import Image
    from minirt.plan import Plan

__all__ = ["copy_sparse", "root_disk"]

VERSION = "1"  # of the way in which a disk is made
ROOM = 1 << 30  # bytes that a machine may add; sparse, so they cost nothing until then
CHUNK = 64 << 20
UNUSED_LIMIT = 30 * 86400  # seconds after which a disk that no machine was made from goes


def root_disk(image: Image, room: int = ROOM) -> str:
    """Return the path of the disk of an image, which is made now where there is none. Nobody may write to it.

    Args:
        image: of minirt's store.
        room: bytes that shall be free in it, roughly.

    Raises MinivmError, ImageError.
    """
    from minirt.image.layers import chain_ids

    directory = os.path.join(cache_root(), "disks")
    digest = chain_ids(image.diff_ids)[-1].partition(":")[2] if image.diff_ids else "empty"
    final = os.path.join(directory, f"{digest}-{room >> 20}m-{VERSION}.ext4")
    if os.path.exists(final):
        os.utime(final)  # when it was last used
        return final
    os.makedirs(directory + "/tmp", exist_ok=True)
    _sweep(directory)
    path, fd = Scratch(directory + "/tmp").directory()
    try:
        disk, mounted = f"{path}/disk", f"{path}/root"
        os.mkdir(mounted)
        layers = image.layers()
        size = sum(_size(layer) for layer in layers)
        with open(disk, "wb") as file:
            file.truncate(-(-(size * 5 // 4 + room) // 4096) * 4096)
        _fill(disk, layers, mounted)
        os.chmod(disk, 0o400)
        os.rename(disk, final)
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(fd)
    return final


def _sweep(directory: str) -> None:
    """Remove disks that nobody used for long; a machine that runs on one keeps it open."""
    from time import time

    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        try:
            if name.endswith(".ext4") and time() - os.stat(path).st_mtime > UNUSED_LIMIT:
                os.unlink(path)
        except FileNotFoundError:
            pass  # another does the same just now


def _fill(disk: str, layers: list[str], mounted: str) -> None:
    """Make the file system. `layers` are topmost first."""
    from minirt.linux import constants as k
    from minirt.oci.rootfs import escape
    from minirt.plan import Plan

    program = shutil.which("mke2fs", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if program is None:
        raise MinivmError("mke2fs is missing, which makes root disks: apt-get install e2fsprogs")
    plan = Plan()
    rootless, source = os.geteuid() != 0, layers[0]
    if rootless:
        _become_root(plan)
    if len(layers) > 1:
        source = mounted
        options = "lowerdir=" + ":".join(map(escape, layers)) + (",userxattr" if rootless else "")
        if len(options) >= 4096:
            raise MinivmError(f"{len(layers)} layers make {len(options)} bytes of mount options and mount(2) takes 4095")
        plan.unshare(k.CLONE_NEWNS, why="what is mounted now is gone when mke2fs ends")
        plan.mount("none", "/", "none", k.MS_REC | k.MS_PRIVATE, why="... and nobody else sees it")
        plan.mount("overlay", mounted, "overlay", k.MS_RDONLY, options, why="the layers, one over the other")
    # Zeroed already: a new file reads as zeroes. No check by time: nobody fscks a disk that is a copy.
    words = [program, "-q", "-F", "-t", "ext4", "-L", "root", "-m", "0", "-E", "assume_storage_prezeroed=1,root_owner=0:0"]
    plan.execve(program, [*words, "-d", source, disk], why="copies the tree into a file system")
    status = plan.run()
    if status:
        raise MinivmError(f"mke2fs could not make a root disk of the image (status {status})")


def _become_root(plan: Plan) -> None:
    """Append what makes us root of a user namespace: our files are then root's, as the image has them (man 7 user_namespaces)."""
    from minirt.linux import constants as k
    from minirt.plan import Slot

    plan.unshare(k.CLONE_NEWUSER, why="a user namespace, in which one may mount")
    maps = {"setgroups": "deny", "gid_map": f"0 {os.getegid()} 1\n", "uid_map": f"0 {os.geteuid()} 1\n"}
    for name, text in maps.items():
        fd = Slot(name)
        plan.openat(k.AT_FDCWD, f"/proc/self/{name}", k.O_WRONLY | k.O_CLOEXEC, store=fd)
        plan.write(fd, text.encode(), len(text), at_least=len(text), why=f"{name}: inside, outside, how many")
        plan.close(fd)


def _size(directory: str) -> int:
    """Return the bytes that a tree's files take, as du -B1 would say: one with several names counts once."""
    sizes: dict[tuple[int, int], int] = {}
    for here, _, names in os.walk(directory):
        for name in [".", *names]:
            status = os.lstat(os.path.join(here, name))
            sizes[status.st_dev, status.st_ino] = max(status.st_blocks * 512, 256)
    return sum(sizes.values())


def copy_sparse(source: str, target: str) -> None:
    """Copy a disk; its holes stay holes, and where the file system shares blocks nothing is copied (man 2 ioctl_ficlone).

    Raises FileExistsError, OSError; nothing is left of a copy that failed.
    """
    with open(source, "rb") as ours, open(target, "xb") as theirs:
        try:
            _copy(ours.fileno(), theirs.fileno())
        except BaseException:
            os.unlink(target)
            raise


def _copy(source: int, target: int) -> None:
    """Copy by sendfile(2): copy_file_range(2) does not go from one file system to another (Linux 5.19)."""
    import fcntl

    try:
        fcntl.ioctl(target, FICLONE, source)
        return
    except OSError:
        pass  # another file system, or one that shares no blocks
    size = os.fstat(source).st_size
    os.truncate(target, size)
    place = 0
    while place < size:
        try:
            begin = os.lseek(source, place, os.SEEK_DATA)
        except OSError:  # ENXIO: only a hole is left
            break
        place = os.lseek(source, begin, os.SEEK_HOLE)
        os.lseek(target, begin, os.SEEK_SET)
        while begin < place and (sent := os.sendfile(target, source, begin, min(place - begin, CHUNK))):
            begin += sent


FICLONE = 0x40049409  # _IOW(0x94, 9, int), <linux/fs.h>: Python has no name for it
