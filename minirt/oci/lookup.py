"""What can only be known in the finished root: who a user is there, and where a command lies.

All paths are followed by openat2(RESOLVE_IN_ROOT) below /proc/PID/root: the image is not trusted, and its links
must not lead to the host's files.
"""

from __future__ import annotations

import os
import stat
from errno import EACCES, ENOENT, ENOTDIR

from minirt.errors import KernelError, MinirtError, NotExecutable, NotFound
from minirt.linux.files import open_in_root, read_in_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.oci.step import Context
    from minirt.plan.birth import Birth

__all__ = [
    "DEFAULT_PATH", "User", "check_command", "find_command", "find_user", "is_id", "parse_group", "parse_passwd", "resolve",
]  # fmt: skip

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class User:
    """A user as the container knows it."""

    __slots__ = ("gid", "groups", "home", "uid")

    def __init__(self, uid: int, gid: int, groups: list[int], home: str) -> None:
        self.uid = uid
        self.gid = gid
        self.groups = groups  # supplementary
        self.home = home


def resolve(birth: Birth, c: Context, groups: list[str]) -> None:
    """Fill in what a plan leaves to the barrier `resolve` (process.py): where the command lies, who the user is, and its home.

    Args:
        birth: whose child waits there.
        c: what the plan was compiled from.
        groups: --group-add's names or numbers.

    Raises: MinirtError where there is no such user; as find_command for the command.
    """
    process = c.process
    env = dict(item.partition("=")[::2] for item in process.get("env") or ())
    # Who joins is not dumpable, and so its /proc/PID is closed to a user's runtime; the first has the same root.
    root = os.open(f"/proc/{c.join or birth.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if c.user is not None or "HOME" not in env:
            user = find_user(root, str((process.get("user") or {}).get("uid") or 0) if c.user is None else c.user, groups)
            birth.fill("home", f"HOME={user.home}")
        path = env.get("PATH", DEFAULT_PATH)
        birth.fill("path", find_command(root, process["args"][0], path, process.get("cwd") or "/"))
    finally:
        os.close(root)
    if c.user is not None:
        birth.fill("uid", user.uid)
        birth.fill("gid", user.gid)
        birth.fill("groups_count", len(user.groups))
        birth.fill("groups", b"".join(gid.to_bytes(4, "little") for gid in user.groups))


def parse_passwd(text: str) -> list[tuple[str, int, int, str]]:
    """Return (name, uid, gid, home) of each good line of an /etc/passwd (man 5 passwd)."""
    users = []
    for line in text.split("\n"):
        parts = line.split(":")
        if len(parts) >= 6 and parts[0] and is_id(parts[2]) and is_id(parts[3]):
            users.append((parts[0], int(parts[2]), int(parts[3]), parts[5]))
    return users


def parse_group(text: str) -> list[tuple[str, int, list[str]]]:
    """Return (name, gid, members) of each good line of an /etc/group (man 5 group)."""
    groups = []
    for line in text.split("\n"):
        parts = line.split(":")
        if len(parts) >= 4 and parts[0] and is_id(parts[2]):
            groups.append((parts[0], int(parts[2]), [m for m in parts[3].split(",") if m]))
    return groups


def is_id(text: str) -> bool:
    """Say whether a text is a user or group number (uid_t without -1)."""
    return text.isascii() and text.isdigit() and len(text) < 20 and int(text) < 0xFFFFFFFF


def find_user(root: int, wanted: str, extra: list[str]) -> User:
    """Return who `--user` is in this root.

    Args:
        root: int fd of the root directory.
        wanted: `user`, `user:group`, each a name or a number; empty: root.
        extra: --group-add's names or numbers.

    Raises: MinirtError for a name that the image does not have.
    """
    name, colon, group = wanted.partition(":")
    users = parse_passwd(read_in_root(root, "/etc/passwd"))
    groups = parse_group(read_in_root(root, "/etc/group"))
    name = name or "0"
    entry = next((u for u in users if u[0] == name), None)
    if entry is None and is_id(name):
        entry = next((u for u in users if u[1] == int(name)), ("", int(name), 0, "/"))
    if entry is None:
        raise MinirtError(f"--user {wanted}: the image's /etc/passwd has no user {name!r} (a number needs no entry)")
    login, uid, gid, home = entry
    members = [g for _, g, names in groups if login and login in names]
    if colon:
        gid, members = group_number(groups, group, f"--user {wanted}"), []
    members += [group_number(groups, g, f"--group-add {g}") for g in extra]
    return User(uid, gid, list(dict.fromkeys(members)), home or "/")


def group_number(groups: list[tuple[str, int, list[str]]], wanted: str, flag: str) -> int:
    """Return a group's number by its name, or the number itself."""
    for name, gid, _ in groups:
        if name == wanted:
            return gid
    if is_id(wanted):
        return int(wanted)
    raise MinirtError(f"{flag}: the image's /etc/group has no group {wanted!r} (a number needs no entry)")


def find_command(root: int, command: str, path: str, cwd: str) -> str:
    """Return the path of a command in this root: as it is if it has a slash, else the first in PATH.

    Args:
        root: int fd of the root directory.
        command: argv[0].
        path: the container's PATH.
        cwd: its working directory, for relative entries of PATH.

    Raises: NotFound (127), NotExecutable (126); one that is there and may not be run wins over one that is not.
    """
    if "/" in command:
        check_command(root, command, cwd)
        return command
    denied = ""
    for place in path.split(":"):
        candidate = os.path.join(cwd, place or ".", command)
        try:
            fd = open_in_root(root, candidate, os.O_PATH)
        except KernelError as error:
            if error.errno == EACCES:
                denied = candidate
            elif error.errno not in (ENOENT, ENOTDIR):
                raise
            continue
        try:
            mode = os.fstat(fd).st_mode
        finally:
            os.close(fd)
        if stat.S_ISREG(mode) and mode & 0o111:
            return candidate
        denied = denied or candidate
    if denied:
        raise NotExecutable(f'exec: "{command}": {denied}: permission denied: not an executable file in the container')
    raise NotFound(f'exec: "{command}": executable file not found in $PATH, the container\'s being {path}')


def check_command(root: int, command: str, cwd: str) -> None:
    """Make sure that a command given as a path can be run, so that it is known before the start. As find_command.

    The words are those that engines look for, to tell 126 from 127.
    """
    try:
        fd = open_in_root(root, os.path.join(cwd, command), os.O_PATH)
    except KernelError as error:
        if error.errno == EACCES:
            raise NotExecutable(f'exec: "{command}": permission denied') from None
        raise NotFound(f'exec: "{command}": stat {command}: {os.strerror(error.errno or 0).lower()}') from None
    try:
        mode = os.fstat(fd).st_mode
    finally:
        os.close(fd)
    if stat.S_ISDIR(mode):
        raise NotExecutable(f'exec: "{command}": is a directory: permission denied')
    if not mode & 0o111:
        raise NotExecutable(f'exec: "{command}": permission denied: it has no execute bit')
