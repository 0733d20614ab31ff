"""Open a path inside another root, so that no symbolic link in it leads out (man 2 openat2)."""

from __future__ import annotations

import os
import stat
from errno import EAGAIN, ELOOP

from minirt.errors import KernelError
from minirt.linux import constants as k
from minirt.linux._sys import ffi, lib

__all__ = ["make_in_root", "open_in_root", "read_in_root"]

LINKS = 40  # the kernel's MAXSYMLINKS


def open_in_root(root: int, path: str, flags: int = os.O_RDONLY) -> int:
    """Open a path with `root` (a directory's descriptor) as / for it and for every link on its way.

    Args:
        root: int fd of the directory.
        path: as the process in that root would write it.
        flags: O_*; close-on-exec is added.

    Returns: a descriptor, the caller's to close. Raises: KernelError with the kernel's errno.
    """
    how = ffi.new("uint64_t[3]", [flags | os.O_CLOEXEC, 0, k.RESOLVE_IN_ROOT | k.RESOLVE_NO_MAGICLINKS])
    text = ffi.new("char[]", path.encode(errors="surrogateescape"))
    address = int(ffi.cast("uintptr_t", how))
    for _ in range(k.PLAN_TRIES):
        fd: int = lib.plan_syscall(k.SYS_openat2, root, int(ffi.cast("uintptr_t", text)), address, 24, 0, 0)
        if fd != -EAGAIN:  # else something was renamed meanwhile, and the kernel cannot tell whether ".." led out
            break
    if fd < 0:
        raise KernelError(-fd, f"openat2({path!r}, RESOLVE_IN_ROOT): {os.strerror(-fd)}")
    return fd


def read_in_root(root: int, path: str, most: int = 1 << 20) -> str:
    """Return the text of a file in another root, at most `most` bytes of it; empty where it cannot be read."""
    try:
        fd = open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK)
    except KernelError:
        return ""
    try:
        return os.read(fd, most).decode(errors="replace")
    except OSError:
        return ""
    finally:
        os.close(fd)


def make_in_root(root: int, path: str, directory: bool, owner: tuple[int, int] = (0, 0)) -> None:
    """Make a directory, or an empty file, at a path in another root, and what is missing on the way there.

    Links are followed inside, also those whose target is missing: that is what is made (a container image's
    /etc/resolv.conf -> ../run/systemd/resolve/stub-resolv.conf). What no link can do is lead out: each name is looked at
    without following it, a link's text is taken for more names, and ".." never goes above `root`.

    Args:
        root: int fd of the directory.
        path: as the process in that root would write it.
        directory: make a directory (0755), else a file (0644).
        owner: user and group (host's ids) of what is made.

    Raises: OSError.
    """
    way = [os.dup(root)]  # the directories from the root to where we are
    names, links = [name for name in reversed(path.split("/")) if name], 0
    try:
        while names:
            name = names.pop()
            if name in (".", ".."):
                if name == ".." and len(way) > 1:
                    os.close(way.pop())
                continue
            kind = _kind(way[-1], name)
            if kind == stat.S_IFLNK:
                links += 1
                if links > LINKS:
                    raise OSError(ELOOP, os.strerror(ELOOP), path)
                text = os.readlink(name, dir_fd=way[-1])
                while text.startswith("/") and len(way) > 1:
                    os.close(way.pop())
                names += [part for part in reversed(text.split("/")) if part]
                continue
            if not kind:
                _make(way[-1], name, directory or bool(names), owner)
            if names or directory:
                way.append(os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=way[-1]))
    finally:
        for fd in way:
            os.close(fd)


def _kind(folder: int, name: str) -> int:
    """Return what a name is (S_IFMT), without following it; 0 if there is nothing."""
    try:
        return stat.S_IFMT(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return 0


def _make(folder: int, name: str, directory: bool, owner: tuple[int, int]) -> None:
    """Make a directory or an empty file."""
    if directory:
        os.mkdir(name, 0o755, dir_fd=folder)
        os.chmod(name, 0o755, dir_fd=folder)  # whatever our umask
    else:
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=folder)
        os.fchmod(fd, 0o644)
        os.close(fd)
    if owner != (os.geteuid(), os.getegid()):
        os.chown(name, *owner, dir_fd=folder, follow_symlinks=False)
