"""The initramfs that `minivm run --rootfs` makes: busybox, the modules on the way to the root, and a script.

Everything of ours is in /.minivm, so that a directory can be the root beside it. The script (`rdinit=`) loads the
modules, mounts what every Linux has mounted, and goes on to the root: a directory is in the initramfs already; an image
is the first virtio disk, mounted and moved to (man 8 switch_root). With a command the script waits for it and ends the
machine with its status, through debug-exit.
"""

from __future__ import annotations

import os
import shlex

from minivm.boot import layout
from minivm.boot.cpio import Archive
from minivm.errors import BootError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["BUSYBOX", "INIT", "build", "script"]

BUSYBOX = "/bin/busybox"  # of the host, static: package busybox-static
INIT = "/.minivm/init"

BEGIN = """\
#!/.minivm/busybox sh
# Made by minivm (minivm/boot/initramfs.py).
b=/.minivm/busybox
$b mkdir -p /proc /sys /dev /run /tmp
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
for module in {modules}; do $b insmod /.minivm/$module.ko || $b echo "minivm: cannot load $module"; done
# A console whose driver is one of those modules was not there when the kernel opened our standard streams.
for tty in $($b cat /sys/class/tty/console/active); do :; done
[ -c "/dev/$tty" ] && exec 0<>"/dev/$tty" 1>&0 2>&0
end() {{ # with an exit status: debug-exit's register, through /dev/mem (man 4 mem), for Debian's kernels lack /dev/port
    $b sync
    $b devmem {register:#x} 8 "$1" 2>/dev/null
    $b poweroff -f
}}
"""
MOUNT = """\
$b mkdir -p /.minivm/root
n=0; until [ -b /dev/vda ] || [ $n = 50 ]; do $b usleep 100000; n=$((n + 1)); done
$b mount -t {kind} {options} /dev/vda /.minivm/root || {{ $b echo "minivm: cannot mount the root disk"; end 125; }}
for directory in proc sys dev; do $b mount --move /$directory /.minivm/root/$directory; done
"""
SHARE = """\
$b mkdir -p {place}
$b mount -t virtiofs {tag} {place} || {{ $b echo "minivm: cannot mount the share "{tag}; end 125; }}
"""
SWITCH = """\
exec $b switch_root /.minivm/root {init}
"""
CHROOT_COMMAND = """\
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
$b chroot /.minivm/root {command}
status=$?
for directory in proc sys; do $b mount --move /.minivm/root/$directory /$directory; done
$b mount --move /.minivm/root/dev /dev
$b umount {shares} /.minivm/root
end $status
"""
COMMAND = """\
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=${{TERM:-linux}}
$b setsid -c {command}
end $?
"""
GO_ON = """\
for init in /sbin/init /etc/init /bin/init; do [ -x $init ] && exec $init; done
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
for shell in /bin/bash /bin/sh; do [ -x $shell ] && {{ $b setsid -c $shell; end $?; }}; done
$b echo "minivm: no init and no shell in the root"; end 127
"""


def script(modules: Iterable[str], image: str, read_only: bool, command: str, shares: Sequence[str] = ()) -> str:
    """Return the script.

    Args:
        modules: names, in the order in which they are loaded.
        image: the file system of the root disk, or "" for a root in the initramfs.
        read_only: whether that disk is.
        command: a command with its words, or "" for the root's own init.
        shares: tags of virtio-fs that are absolute paths: where they are mounted.

    Raises BootError for a command that no shell would understand.
    """
    text = BEGIN.format(modules=" ".join(modules), register=layout.DEBUG_EXIT)
    try:
        words = " ".join(shlex.quote(word) for word in shlex.split(command))
    except ValueError as error:
        raise BootError(f"the command {command!r} is none: {error}") from None
    root = "/.minivm/root" if image else ""
    places = [shlex.quote(f"{root}{tag}") for tag in shares]
    mounts = "".join(SHARE.format(tag=shlex.quote(tag), place=place) for tag, place in zip(shares, places, strict=True))
    if not image:
        text += mounts
        return text + (COMMAND.format(command=words) if words else GO_ON.format())
    text += MOUNT.format(kind=image, options="-o ro" if read_only else "") + mounts
    if not words:
        return text + SWITCH.format(init="/sbin/init")
    return text + CHROOT_COMMAND.format(command=words, shares=" ".join(reversed(places)))


def build(modules: Mapping[str, bytes], tree: str | None, text: str, busybox: str = BUSYBOX) -> bytes:
    """Return the archive.

    Args:
        modules: name to ELF file.
        tree: a directory of the host that is to be the root, or None.
        text: the script.
        busybox: path of a static busybox.

    Raises BootError where a file cannot be read.
    """
    archive = Archive()
    try:
        if tree is not None:
            archive.tree(tree)
        archive.file(".minivm/busybox", _read(busybox), 0o755)
    except OSError as error:
        raise BootError(f"cannot read {error.filename!r}: {error.strerror}") from None
    for name, data in modules.items():
        archive.file(f".minivm/{name}.ko", data)
    archive.file(".minivm/init", os.fsencode(text), 0o755)
    return archive.finish()


def _read(busybox: str) -> bytes:
    if not os.path.exists(busybox):
        raise BootError(f"{busybox!r} is missing: install the package busybox-static")
    with open(busybox, "rb") as file:
        return file.read()


def file_system(path: str) -> str:
    """Return what a disk image holds, by its magic numbers: ext4 (ext2 and 3 too) or squashfs. Raises BootError."""
    try:
        with open(path, "rb") as file:
            first = file.read(2048)
    except OSError as error:
        raise BootError(f"cannot read root {path!r}: {error.strerror}") from None
    if first[:4] == b"hsqs":
        return "squashfs"
    if first[0x438:0x43A] == b"\x53\xef":  # s_magic of the superblock, 1024 bytes into the file
        return "ext4"
    raise BootError(f"root {path!r} is neither a directory nor an image of ext4 or squashfs")
