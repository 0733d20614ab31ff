"""The kernel that lies in a disk, and its initrd: what a boot loader would find in /boot, for there is none here.

The disk's partitions are read here, by GPT (UEFI specification 2.10, 5.3) or the four of a PC's first sector; what is in an ext
file system by debugfs (man 8 debugfs), which mounts nothing and needs no root.

    sector 0      446: four of  | status, 3, type, 3 | first sector (4) | sectors (4) |       0xee as type: see the GPT
    sector 1      "EFI PART" ... 72: | sector of the entries (8) | how many (4) | bytes each (4) |
    an entry      | type (16) | its own id (16) | first sector (8) | last (8) | flags (8) | name |
"""

from __future__ import annotations

import os
import re
import subprocess
from struct import unpack_from

from minivm.errors import MinivmError, UsageError
from minivm.kernels.cache import version_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

__all__ = ["Found", "extract", "partitions"]

SECTOR, MOST = 512, 128  # bytes; partitions
EXT = 1080, b"\x53\xef"  # where the magic of ext2, 3 and 4 stands
ENTRY = re.compile(r"/\d+/10\d{4}/\d+/\d+/([\w.+~-]+)/\d*/")  # a regular file, as `ls -p` prints it
KERNEL = re.compile(r"(?:vmlinuz|bzImage)-(\w[\w.+~-]*)")
INITRD = "initrd.img-{0}", "initramfs-{0}.img", "initrd-{0}"  # Debian's, Fedora's, SUSE's
LIMIT = 300  # seconds for a program


class Found:
    """A kernel that was taken out: its files, "" for no initrd, and what the guest calls the root's partition (/dev/vda1)."""

    __slots__ = ("initrd", "kernel", "root")

    def __init__(self, kernel: str, initrd: str, root: str) -> None:
        self.kernel, self.initrd, self.root = kernel, initrd, root


def extract(disk: str, directory: str, base: str = "") -> Found:
    """Take the newest kernel out of a disk.

    Args:
        disk: a raw or qcow2 file, with partitions or one file system.
        directory: where the files are put, under the names that they have; must be there.
        base: what a qcow2 stands on that lies elsewhere, as --disk has it.

    Raises MinivmError, UsageError.
    """
    import tempfile

    with tempfile.TemporaryDirectory(prefix=".minivm-", dir=directory) as scratch:
        with open(_raw(disk, base, scratch), "rb") as file:
            places = [(number, start) for number, start in partitions(file) if _is_ext(file, start)]
            if not places:
                raise MinivmError(f"{disk!r} has no ext2, 3 or 4 file system, in which a kernel is looked for")
            roots = [number for number, start in places if re.search(r"/04\d{4}/\d+/\d+/etc/", _ls(file, start, "/"))]
            where = [(start, folder) for _, start in places for folder in ("/boot", "/")]  # or /boot is one of its own
            choices = [
                (version_key(match[1]), match[1], match[0], start, folder, names)
                for start, folder in where
                for names in [ENTRY.findall(_ls(file, start, folder))]
                for match in map(KERNEL.fullmatch, names)
                if match
            ]
            if not choices:
                raise MinivmError(f"{disk!r} has no kernel as /boot/vmlinuz-RELEASE")
            _, release, kernel, start, folder, names = max(choices, key=lambda choice: choice[0])
            initrd = next((name for form in INITRD if (name := form.format(release)) in names), "")
            taken = [_dump(file, start, folder, name, scratch) for name in (kernel, initrd) if name]
        files = [_publish(path, directory) for path in taken] + [""]
        return Found(files[0], files[1], f"/dev/vda{roots[0] or ''}" if roots else "")


def partitions(file: BinaryIO) -> list[tuple[int, int]]:
    """Return (number, first byte) of each partition; (0, 0) alone for a disk without. What makes no sense is left out."""
    head = _at(file, 0, 2 * SECTOR)
    if len(head) < 2 * SECTOR or head[510:512] != b"\x55\xaa":
        return [(0, 0)]
    found = [(number + 1, head[446 + 16 * number + 4], *unpack_from("<I", head, 446 + 16 * number + 8)) for number in range(4)]
    if head[512:520] != b"EFI PART":
        return [(number, first * SECTOR) for number, kind, first in found if kind and first] or [(0, 0)]
    start, count, size = unpack_from("<QII", head, SECTOR + 72)
    if size < 128 or size > 4096:
        return []
    table = _at(file, start * SECTOR, min(count, MOST) * size)
    entries = [table[place : place + size] for place in range(0, len(table) - size + 1, size)]
    return [
        (number, unpack_from("<Q", entry, 32)[0] * SECTOR) for number, entry in enumerate(entries, 1) if any(entry[:16])
    ]  # an entry without a type is none


def _at(file: BinaryIO, place: int, length: int) -> bytes:
    """Return bytes of a file; fewer, or none, where it ends before."""
    return os.pread(file.fileno(), length, place) if place < 1 << 62 else b""


def _is_ext(file: BinaryIO, start: int) -> bool:
    return _at(file, start + EXT[0], 2) == EXT[1]


def _raw(disk: str, base: str, scratch: str) -> str:
    """Return the path of the disk as it is read; of a qcow2 a copy without its form, as sparse as it was."""
    try:
        with open(disk, "rb") as file:
            if file.read(4) != b"QFI\xfb":
                return disk
    except OSError as error:
        raise UsageError(f"cannot read {disk!r}: {error.strerror}") from None
    import json

    from minivm.machine.qcow2 import block

    raw = f"{scratch}/disk"
    source = f"json:{json.dumps(block(disk, base=base, read_only=True))}"
    _run(["qemu-img", "convert", "-O", "raw", source, raw], "qemu-utils", disk)
    return raw


def _ls(file: BinaryIO, start: int, folder: str) -> str:
    return _debugfs(file, start, f"ls -p {folder}", None)


def _dump(file: BinaryIO, start: int, folder: str, name: str, scratch: str) -> str:
    """Copy a file out of the disk, and return its path."""
    path = f"{folder.rstrip('/')}/{name}"
    _debugfs(file, start, f"dump {path} {name}", scratch)
    made = os.path.join(scratch, name)
    if not os.path.exists(made) or not os.path.getsize(made):
        raise MinivmError(f"{path} cannot be read: the file system is damaged, or too new for debugfs")
    return made


def _publish(made: str, directory: str) -> str:
    """Give a file that is whole its place, and return that. One that is there already is not overwritten."""
    final = os.path.join(directory, os.path.basename(made))
    try:
        os.link(made, final)
    except FileExistsError:
        raise MinivmError(f"{final!r} is there already: it is not overwritten") from None
    return final


def _debugfs(file: BinaryIO, start: int, request: str, cwd: str | None) -> str:
    """Return what debugfs says to one request. It opens our descriptor, so the file's name is never looked into."""
    fd = file.fileno()
    return _run(["debugfs", "-R", request, f"/proc/self/fd/{fd}?offset={start}"], "e2fsprogs", "the disk", cwd, (fd,))


def _run(words: list[str], package: str, what: str, cwd: str | None = None, fds: tuple[int, ...] = ()) -> str:
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    try:
        done = subprocess.run(
            words, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, pass_fds=fds, timeout=LIMIT, check=False,
            env={**os.environ, "LC_ALL": "C", "PATH": path, "DEBUGFS_PAGER": "__none__"},
        )  # fmt: skip
    except FileNotFoundError:
        raise MinivmError(f"{words[0]} is missing: apt-get install {package}") from None
    except subprocess.TimeoutExpired:
        raise MinivmError(f"{words[0]} does not come to an end with {what!r}") from None
    if done.returncode:
        raise MinivmError(f"{words[0]} cannot read {what!r}: {done.stderr.decode(errors='replace').strip()}".replace("\n", " "))
    return done.stdout.decode(errors="replace")
