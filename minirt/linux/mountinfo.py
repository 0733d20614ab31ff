"""What is mounted, as the kernel tells it (man 5 proc_pid_mountinfo).

    36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
"""

from __future__ import annotations

import os

__all__ = ["Mounted", "holding", "read"]


class Mounted:
    """One mount, from its line."""

    __slots__ = ("device", "id", "kind", "options", "point", "root", "source", "superblock", "tags")

    def __init__(self, line: str) -> None:
        before, _, after = line.partition(" - ")
        self.id, _, self.device, root, point, options, *self.tags = before.split(" ")  # tags: who hears of mounts below it
        self.kind, source, superblock = after.split(" ", 2)
        self.root = unescape(root)  # which directory of its file system it shows
        self.point = unescape(point)  # where, from the reader's root
        self.options = options.split(",")  # of this mount
        self.source = unescape(source)
        self.superblock = superblock.split(",")  # options of the file system, the same for each mount of it; still escaped


def unescape(text: str) -> str:
    """Return a name as it is: the kernel writes what could end a word, and the backslash, as octal numbers."""
    first, *rest = text.split("\\")
    return first + "".join(chr(int(part[:3], 8)) + part[3:] for part in rest)


def read(path: str = "/proc/self/mountinfo", only: str = "") -> list[Mounted]:
    """Return mounts in the file's order: what covers comes after what it covers.

    Args:
        path: of the process whose mounts they are.
        only: take the lines that have this text in them.

    Raises: OSError where the process has ended, or is not ours to look at.
    """
    # Lines end at \n and nowhere else: a name may hold the other characters at which Python ends them.
    with open(path, "rb", buffering=0) as file:
        lines = file.read().split(b"\n")
    wanted = only.encode()
    return [Mounted(line.decode(errors="surrogateescape")) for line in lines if line and wanted in line]


def holding(path: str) -> Mounted | None:
    """Return the mount that a path lies on; None where it is none of this mount namespace. Raises: OSError."""
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as file:  # man 5 proc_pid_fdinfo
            number = next(line.split()[1] for line in file if line.startswith("mnt_id:"))
    finally:
        os.close(fd)
    return next((mount for mount in read() if mount.id == number), None)
