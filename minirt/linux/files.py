"""Open a path inside another root, so that no symbolic link in it leads out (man 2 openat2)."""

from __future__ import annotations

import os
import stat
import struct
from errno import EAGAIN, EINVAL, ELOOP

from minirt.errors import KernelError
from minirt.linux import constants as k
from minirt.linux.direct import syscall

__all__ = ["make_in_root", "open_beneath", "open_exactly", "open_in_root", "open_regular", "read_in_root"]

LINKS = 40  # the kernel's MAXSYMLINKS


def open_in_root(root: int, path: str, flags: int = os.O_RDONLY) -> int:
    """Open a path with `root` (a directory's descriptor) as / for it and for every link on its way.

    Args:
        root: int fd of the directory.
        path: as the process in that root would write it.
        flags: O_*; close-on-exec is added.

    Returns: a descriptor, the caller's to close. Raises: KernelError with the kernel's errno.
    """
    return _openat2(root, path, flags, k.RESOLVE_IN_ROOT, "RESOLVE_IN_ROOT")


def open_beneath(top: int, path: str, flags: int = os.O_PATH) -> int:
    """Open a path below a directory; a link or ".." that leads out of it is an error (EXDEV), not a way elsewhere.

    Args and returns as `open_in_root`. Raises: KernelError.
    """
    return _openat2(top, path, flags, k.RESOLVE_BENEATH, "RESOLVE_BENEATH")


def open_exactly(top: int, path: str, flags: int = os.O_PATH) -> int:
    """Open a path below a directory with no symbolic link in it at all (ELOOP): what was a directory is one, or it is an error.

    Args and returns as `open_in_root`. Raises: KernelError.
    """
    return _openat2(top, path, flags, k.RESOLVE_BENEATH | k.RESOLVE_NO_SYMLINKS, "RESOLVE_NO_SYMLINKS")


def _openat2(root: int, path: str, flags: int, resolve: int, name: str) -> int:
    how = struct.pack("<QQQ", flags | os.O_CLOEXEC, 0, resolve | k.RESOLVE_NO_MAGICLINKS)
    text = path.encode(errors="surrogateescape")
    for _ in range(k.PLAN_TRIES):
        fd = syscall(k.SYS_openat2, root, text, how, len(how))
        if fd != -EAGAIN:  # else something was renamed meanwhile, and the kernel cannot tell whether ".." led out
            break
    if fd < 0:
        raise KernelError(-fd, f"openat2({path!r}, {name}): {os.strerror(-fd)}")
    return fd


def read_in_root(root: int, path: str, most: int = 1 << 20) -> str:
    """Return the text of a regular file in another root, at most `most` bytes of it; empty where it cannot be read."""
    try:
        fd = open_in_root(root, path, os.O_PATH)
    except KernelError:
        return ""
    try:
        regular = open_regular(fd)
    except OSError:
        return ""
    finally:
        os.close(fd)
    try:
        return os.read(regular, most).decode(errors="replace")
    except OSError:
        return ""
    finally:
        os.close(regular)


def open_regular(fd: int) -> int:
    """Return a descriptor to read what an O_PATH descriptor stands for, if that is a regular file.

    Who may make nodes (CAP_MKNOD, of docker's defaults) could have a device in the file's place, and for a device to be
    opened may be enough: a watchdog then counts down to the host's reset. No device filter holds for us.

    Raises: OSError.
    """
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise OSError(EINVAL, os.strerror(EINVAL))
    return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


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
    """Make a directory or an empty file; what it gets besides it gets by descriptor, as the name may mean another by now."""
    flags = os.O_NOFOLLOW | os.O_CLOEXEC
    if directory:
        os.mkdir(name, 0o755, dir_fd=folder)
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | flags, dir_fd=folder)
    else:
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | flags, 0o644, dir_fd=folder)
    try:
        os.fchmod(fd, 0o755 if directory else 0o644)  # whatever our umask
        if owner != (os.geteuid(), os.getegid()):
            os.fchown(fd, *owner)
    finally:
        os.close(fd)
