"""Where a container's group is in the tree of control groups, and how its directories come to be.

    place = Place("0123abcd", "/docker/0123abcd")      # config.json's linux.cgroupsPath
    place.directory                                    # /sys/fs/cgroup/docker/0123abcd
    place.missing()                                    # which of its directories do not exist yet

Two rules of the kernel shape this file. A group has the files of a controller only if the group above hands it
down, by "+memory" in its cgroup.subtree_control, and so on from the root, step by step. And a group that hands
controllers down holds no process itself (no internal processes; the root of the tree is exempt), so
containers are siblings below a directory in which nobody lives.

Sources: Documentation/admin-guide/cgroup-v2.rst; man 7 cgroups; runtime-spec config-linux.md#cgroups-path
"""

from __future__ import annotations

import errno as errors
import os

from minirt.linux.cgroup_files import NAME, CgroupError, cause, read, tell, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from minirt.trace import Sink

__all__ = [
    "Place", "controllers", "find_mount", "find_parent", "hand_down", "make", "own_group", "refuse_missing", "tree_options",
]  # fmt: skip

LAB = "run it in the lab (lab/run minirt run ...), or boot the host with cgroup v2 alone"


USUAL = "/sys/fs/cgroup"  # where systemd mounts it


def is_whole_tree(path: str) -> bool:
    """Say whether a directory is the root of cgroup2: in kernfs that is inode 1 (fs/kernfs/dir.c, kernfs_create_root)."""
    from minirt.linux import constants
    from minirt.linux.direct import syscall

    try:
        if os.stat(path).st_ino != 1:
            return False
    except OSError:
        return False
    answer = bytearray(120)  # struct statfs; f_type is its first word
    result = syscall(constants.SYS_statfs, path.encode(errors="surrogateescape") + b"\0", answer)
    return result == 0 and int.from_bytes(answer[:8], "little") == constants.CGROUP2_SUPER_MAGIC


def find_mount(mountinfo: str = "") -> str:
    """Return where cgroup2 is mounted, an empty text where it is not.

    Where it is mounted twice, the whole tree goes before a part of it that someone bound elsewhere.

    Args:
        mountinfo: the table to look into; by default this process's own, and only if cgroup2 is not where it mostly is.
    """
    if not mountinfo and is_whole_tree(USUAL):
        return USUAL
    from minirt.linux.mountinfo import read as read_mounts

    mounts = read_mounts(mountinfo or "/proc/self/mountinfo", only=" - cgroup2 ")
    whole = (mount for mount in mounts if mount.root == "/")
    found = next(whole, mounts[0] if mounts else None)
    return found.point if found is not None else ""


def tree_options(mountinfo: str = "/proc/self/mountinfo") -> list[str]:
    """Return the options of version 2's tree: nsdelegate, memory_recursiveprot ...

    They are of the one tree and not of a mount: who mounts it from the initial cgroup namespace sets those that are named,
    and clears the others for the whole machine (kernel/cgroup/cgroup.c, apply_cgroup_root_flags).
    """
    from minirt.linux.mountinfo import read as read_mounts

    mounts = read_mounts(mountinfo, only=" - cgroup2 ")
    return [option for option in mounts[0].superblock if option not in ("rw", "ro")] if mounts else []


def controllers(path: str) -> list[str]:
    """Return the controllers that a group has, and may hand down to the groups in it. Raises: OSError."""
    return read(path, "cgroup.controllers").split()


def refuse_missing(wanted: Iterable[str], have: Collection[str]) -> None:
    """Refuse a limit whose controller is not in version 2's tree. Raises: CgroupError."""
    for name in wanted:
        if name not in have:
            listed = f"(it has: {' '.join(have)})" if have else "(it has none)"
            raise CgroupError(f"{name} limit: this host's cgroup v2 tree has no {name} controller {listed}; {LAB}")


def own_group(mount: str, membership: str = "/proc/self/cgroup") -> str:
    """Return the directory of the group that this process is in: the line `0::/path` (man 7 cgroups)."""
    with open(membership, encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            if line.startswith("0::/"):
                return os.path.join(mount, line[4:].rstrip("\n")).rstrip("/")
    return mount


def find_parent(mount: str) -> str:
    """Return the directory that containers' groups are made in; it may not exist yet.

    Root has the whole tree, and uses a directory below its root, which may hold processes. A user has what was
    delegated: the highest group above its own that it may write to. systemd delegates user@UID.service, and
    keeps every process in the groups below it, so that the rule of no internal processes is met.
    """
    if os.access(mount, os.W_OK):
        return os.path.join(mount, NAME)
    group = own_group(mount)
    best = group
    while len(group) > len(mount) and os.access(os.path.join(group, "cgroup.procs"), os.W_OK):
        best = group
        group = os.path.dirname(group)
    return os.path.join(best, NAME)


class Place:
    """Where one container's group belongs: `mount` of the tree, `directory` of the group.

    Args:
        id: the container's name, the directory's where no path is given.
        path: linux.cgroupsPath. Absolute: below the tree's root; relative: below where containers' groups go
            by default; empty: there, under the id. `..` leads nowhere above either: the path is cleaned as if
            its beginning were /, as runc does (libcontainer/utils CleanPath).
        mount: where cgroup2 is mounted.

    Raises: CgroupError for a path that names no group.
    """

    __slots__ = ("directory", "mount")

    def __init__(self, id: str, path: str, mount: str) -> None:
        if "\0" in path or "\n" in path:
            raise CgroupError(f"linux.cgroupsPath {path!r}: a group's name cannot hold this character")
        inner = os.path.normpath("/" + (path or id).lstrip("/"))
        if inner == "/":
            raise CgroupError(f"linux.cgroupsPath {path!r}: names the root of the tree, which no container may have")
        self.mount = mount
        self.directory = (mount.rstrip("/") if path.startswith("/") else find_parent(mount)) + inner

    def steps(self) -> list[str]:
        """Return the directories from the first below the tree's root down to the group's own."""
        names = self.directory[len(self.mount.rstrip("/")) + 1 :].split("/")
        return ["/".join([self.mount.rstrip("/"), *names[:count]]) for count in range(1, len(names) + 1)]

    def missing(self) -> list[str]:
        """Return those of the directories that do not exist yet, the outermost first.

        Worth storing before they are made: who finds this after a kill -9 knows what to remove.
        """
        return [path for path in self.steps() if not os.path.isdir(path)]


def make(place: Place, wanted: list[str], more: Iterable[str], sink: Sink | None) -> list[str]:
    """Make a group's directories, controllers handed down to it; return those that were made, outermost first.

    Args:
        place: where.
        wanted: controllers that the group must have.
        more: those that it should have, if that is possible.
        sink: gets each mkdir and write as an event.

    Raises: CgroupError, OSError; nothing is left then.
    """
    made: list[str] = []
    try:
        for _ in range(10):  # another container's end may remove a directory that is empty, at any moment
            try:
                _make(place, wanted, more, sink, made)
            except FileNotFoundError:
                continue
            return made
    except BaseException:
        _unmake(made)
        raise
    _unmake(made)
    raise CgroupError(f"mkdir({place.directory}): the directories above it do not stay")


def _make(place: Place, wanted: list[str], more: Iterable[str], sink: Sink | None, made: list[str]) -> None:
    above = place.mount
    for path in place.steps():
        hand_down(above, wanted, more, sink)
        try:
            os.mkdir(path, 0o755)
        except FileExistsError:
            if not os.path.isdir(path):
                raise CgroupError(f"linux.cgroupsPath: {path} is one of the kernel's files, not a group") from None
        else:
            if path not in made:
                made.append(path)
            last = path == place.directory
            tell(sink, "mkdir", (path, "0755"), 0, 0, "a group is a directory; its files appear by themselves"
                 if last else "containers' groups are in it, and no process")  # fmt: skip
        above = path


def _unmake(made: list[str]) -> None:
    for path in reversed(made):
        try:
            os.rmdir(path)
        except OSError:
            pass  # gone already, or another's by now


def hand_down(directory: str, wanted: Iterable[str], more: Iterable[str], sink: Sink | None) -> None:
    """Let the groups in a directory use controllers, where they may not yet.

    Args:
        directory: the group that hands down.
        wanted: each must be handed down, with one write of its own.
        more: handed down if the kernel lets us.
        sink: gets each write as an event.

    Raises: CgroupError; EBUSY is the rule of no internal processes. FileNotFoundError where the directory is gone.
    """
    path = os.path.join(directory, "cgroup.subtree_control")
    enabled = read(directory, "cgroup.subtree_control").split()
    for name in wanted:
        if name not in enabled:
            errno = write(path, f"+{name}", f"hand {name} down to the groups in it", sink)
            if errno == errors.ENOENT and not os.path.isdir(directory):
                raise FileNotFoundError(errno, os.strerror(errno), path)
            if errno:
                text = cause(directory, "cgroup.subtree_control", errno)
                raise CgroupError(f"{name} limit: write({path}, '+{name}'): {os.strerror(errno)}{text}")
            enabled.append(name)
    rest = [f"+{name}" for name in more if name not in enabled]
    if rest and write(path, " ".join(rest), "hand down what the machine counts and limits", sink) and len(rest) > 1:
        for word in rest:  # one that cannot be refuses all that are written with it
            write(path, word, "the others, one by one", sink)
