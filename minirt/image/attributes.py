"""What a file has beside its name and content: mode, owner, times, extended attributes; given as far as this process may."""

from __future__ import annotations

import errno
import os

from minirt.image.errors import BadArchive
from minirt.image.whiteouts import MARKS, OVERLAY_XATTRS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.image.header import Entry

__all__ = ["Attributes", "Privilege", "check_owner", "times"]

TIME_LIMIT = 2**63 - 1  # seconds: time_t


class Attributes:
    """What a directory will have once nothing more is made in it."""

    __slots__ = ("gid", "mode", "mtime", "uid", "xattrs")

    def __init__(self, mode: int, uid: int, gid: int, mtime: int, xattrs: dict[str, bytes]) -> None:
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.mtime = mtime  # ns
        self.xattrs = xattrs


class Privilege:
    """What this process may give a file.

    root (of the initial user namespace): owners, devices, trusted and security xattrs; else none of them:
    all files are the caller's, devices are left out (a rootless container cannot open them anyway), and an
    opaque directory is marked only for `mount -o userxattr`.
    """

    def __init__(self, full: bool | None = None) -> None:
        self.full = os.geteuid() == 0 if full is None else full
        self.marks = MARKS if self.full else MARKS[1:]
        self._me = (os.geteuid(), os.getegid())

    def allows(self, xattr: str) -> bool:
        """Return whether an archive's xattr is to be set."""
        if xattr.startswith(OVERLAY_XATTRS):
            return False
        return self.full or xattr.startswith("user.")

    def give_owner(self, what: Entry | Attributes, fd: int) -> None:
        """Give an open file its owner. Raises BadArchive for what is none, OSError."""
        if self.full:
            check_owner(what)
            if (what.uid, what.gid) != self._me:
                os.fchown(fd, what.uid, what.gid)

    def set_xattrs(self, target: int | bytes, xattrs: dict[str, bytes]) -> None:
        """Give a file the extended attributes that it may have here. Args: target, an fd, or a path's last. Raises OSError."""
        for name, value in xattrs.items():
            if not self.allows(name):
                continue
            try:
                if isinstance(target, int):
                    os.setxattr(target, name, value)
                else:
                    os.setxattr(target, name, value, follow_symlinks=False)
            except OSError as error:
                if error.errno != errno.ENOTSUP:  # a file system without this kind keeps the file without it
                    raise


def times(mtime: int) -> tuple[int, int]:
    """Return access and modification time, ns; both the archive's, so that the same layer gives the same tree."""
    bound = TIME_LIMIT * 10**9
    mtime = max(-bound, min(mtime, bound))
    return mtime, mtime


def check_owner(entry: Entry | Attributes) -> None:
    """Refuse what is no owner: (uid_t)-1 means "leave as it is" to chown (man 2 chown). Raises BadArchive."""
    if not (0 <= entry.uid < 2**32 - 1 and 0 <= entry.gid < 2**32 - 1):
        raise BadArchive(f"an entry has the owner {entry.uid}:{entry.gid}")
