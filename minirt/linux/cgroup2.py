"""Control groups, version 2: a directory a group, a file a limit.

    with create("0123abcd", {"memory": {"limit": 64 << 20}}) as group:
        ... clone3 into open(group.path) ...                 # born inside its limits
        group.oom_kills()
    # every process in it is killed, and the directory removed

Four rules of the kernel shape this file:

- A controller belongs to version 1 or to version 2, for the whole machine. On a host where version 1 has
  it a limit is an error that names it; a container without limits runs all the same.
- A group has the files of a controller only if the group above hands it down, by "+memory" in its
  cgroup.subtree_control, and so on from the root, step by step.
- A group that hands controllers down holds no process itself (no internal processes; the root of the
  tree is exempt). So containers are siblings below a directory of ours in which nobody lives.
- A group can be removed when no process and no group is in it.

Source: Documentation/admin-guide/cgroup-v2.rst; man 7 cgroups. What the limits are: cgroup_limits.py.
"""

from __future__ import annotations

import errno as errors
import os

from minirt.linux.cgroup_limits import CgroupError, limits
from minirt.plan.events import Event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from minirt.plan.events import Sink

__all__ = ["Cgroup", "CgroupError", "NoCgroup", "controllers", "create", "find_mount", "find_parent", "own_group"]

NAME = "minirt"  # the directory that containers' groups are in
LIMIT = 10_000  # ms that killed processes have to be gone; in the kernel's hands, so far more than needed
LAB = "run it in the lab (lab/run minirt run ...), or boot the host with cgroup v2 alone"
CORE = ("cgroup",)  # files that every group has begin with it; no controller

WHY = {
    "memory.max": "beyond this the kernel takes pages back, and if that is not enough it kills",
    "memory.swap.max": "swap alone: what was asked for less memory.max",
    "memory.low": "protected while other groups can give",
    "cpu.max": "microseconds of processor time, in each period of so many microseconds",
    "cpu.weight": "its share among siblings when all want to run; 100 is everyone's",
    "cpuset.cpus": "the processors that it may run on",
    "cpuset.mems": "the memory nodes that it may use",
    "pids.max": "fork fails with EAGAIN beyond this number of tasks",
    "io.max": "bytes or requests a second, to or from one device",
    "io.weight": "its share of devices among siblings",
}


def find_mount(mountinfo: str = "/proc/self/mountinfo") -> str:
    """Return where cgroup2 is mounted, an empty text where it is not (man 5 proc_pid_mountinfo).

    Where it is mounted twice, the whole tree goes before a part of it that someone bound elsewhere.
    """
    found = ""
    with open(mountinfo, encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            if after.startswith("cgroup2 "):
                _, _, _, root, target, *_ = before.split(" ")
                target = target.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
                if root == "/":
                    return target
                found = found or target
    return found


def controllers(path: str) -> list[str]:
    """Return the controllers that a group may hand down to the groups in it."""
    with open(os.path.join(path, "cgroup.controllers"), encoding="ascii") as file:
        return file.read().split()


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


class Cgroup:
    """One group, made by `create`; as a context manager it is gone at the end, with all its processes."""

    __slots__ = ("path", "sink")

    def __init__(self, path: str, sink: Sink | None = None) -> None:
        self.path = path
        self.sink = sink

    def fd(self) -> int:
        """Return a descriptor for clone3's CLONE_INTO_CGROUP (man 2 clone3); the caller's to close."""
        return os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def write(self, file: str, text: str, why: str = "") -> None:
        """Write one of the group's files. Raises: CgroupError, with what usually is the matter."""
        path = os.path.join(self.path, file)
        errno = _write(path, text, why or WHY.get(file, ""), self.sink)
        if errno:
            raise CgroupError(f"write({path}, {text!r}): {os.strerror(errno)}{_cause(self.path, file, errno)}")

    def read(self, file: str) -> str:
        """Return what a file of the group says. Raises: OSError where its controller is not handed down."""
        with open(os.path.join(self.path, file), encoding="utf-8") as opened:
            return opened.read()

    def keyed(self, file: str) -> dict[str, int]:
        """Return a flat keyed file (memory.events, cpu.stat, pids.events) as numbers by key."""
        return {key: int(value) for key, value in (line.split() for line in self.read(file).splitlines())}

    def pressure(self, resource: str) -> dict[str, dict[str, float]]:
        """Return how long tasks waited for "cpu", "memory" or "io": per cent of the last 10, 60 and 300 s, total us.

        `some`: at least one waited; `full`: all did. Source: Documentation/accounting/psi.rst
        """
        result = {}
        for line in self.read(f"{resource}.pressure").splitlines():
            name, *fields = line.split()
            result[name] = {key: float(value) for key, _, value in (field.partition("=") for field in fields)}
        return result

    def oom_kills(self) -> int:
        """Return how many of its processes the out-of-memory killer ended; 0 where memory is not counted."""
        try:
            return self.keyed("memory.events").get("oom_kill", 0)
        except OSError:
            return 0

    def pids(self) -> list[int]:
        """Return the processes that are in the group itself."""
        return [int(line) for line in self.read("cgroup.procs").split()]

    def kill(self) -> None:
        """Kill every process in the group and in those below, forks in flight included (Linux 5.14)."""
        _write(os.path.join(self.path, "cgroup.kill"), "1", "SIGKILL to all in it, none can fork away", self.sink)

    def wait_empty(self, milliseconds: int) -> bool:
        """Wait until no live process is in the group or below, and say whether that came to pass.

        cgroup.events changes then, and a poll for POLLPRI ends. Zombies do not count.
        """
        import select

        fd = os.open(os.path.join(self.path, "cgroup.events"), os.O_RDONLY | os.O_CLOEXEC)
        try:
            poll = select.poll()
            poll.register(fd, select.POLLPRI)
            while b"populated 0" not in os.pread(fd, 4096, 0):
                if not poll.poll(milliseconds):
                    return False
            return True
        finally:
            os.close(fd)

    def remove(self) -> None:
        """Kill what is left, wait until it is gone, and remove the directory, those in it, and ours if it is empty.

        Raises: CgroupError where a process does not die (it is in the kernel's hands, in state D).
        """
        if not os.path.isdir(self.path):
            return
        if "populated 1" in self.read("cgroup.events"):
            self.kill()
            if not self.wait_empty(LIMIT):
                left = " ".join(map(str, self.pids()))
                raise CgroupError(f"{self.path}: killed processes are still there: {left or 'in groups below'}")
        for directory, _, _ in os.walk(self.path, topdown=False):
            errno = _rmdir(directory)
            _tell(self.sink, "rmdir", (directory,), errno, 0, "the group goes with its container")
            if errno not in (0, errors.ENOENT):
                raise CgroupError(f"rmdir({directory}): {os.strerror(errno)}")
        _rmdir(os.path.dirname(self.path))  # EBUSY while other containers are there

    def __enter__(self) -> Cgroup:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


class NoCgroup:
    """In place of a group where no limit was asked for and none can be made; `reason` says why not."""

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        pass


def create(id: str, resources: Mapping[str, Any], sink: Sink | None = None) -> Cgroup | NoCgroup:
    """Make a container's group and set its limits.

    Only the controllers that a limit needs are handed down: each costs every fork and page fault a little.

    Args:
        id: the directory's name.
        resources: config.json's linux.resources; empty: no limits, and then no failure either.
        sink: gets each mkdir and write as an event.

    Returns: a context manager that gives the group, or None where there is none; at its end nothing is left.
    Raises: CgroupError where a limit cannot be set; nothing is left then.
    """
    files = limits(resources)
    wanted = [name for name in dict.fromkeys(file.partition(".")[0] for file, _ in files) if name not in CORE]
    try:
        mount = find_mount()
        if not mount:
            raise CgroupError(f"{_limit(wanted)}: cgroup v2 is not mounted on this host; {LAB}")
        parent = find_parent(mount)
        _require(wanted, mount, os.path.dirname(parent))
        group = Cgroup(os.path.join(parent, id), sink)
        _make(group, parent, wanted)
    except (CgroupError, OSError) as error:
        text = _failure(error) if isinstance(error, OSError) else str(error)
        if files:
            raise CgroupError(text) from None
        return NoCgroup(text)
    try:
        for file, text in files:
            group.write(file, text)
    except BaseException:
        group.remove()
        raise
    return group


def _require(wanted: Iterable[str], mount: str, place: str) -> None:
    """Refuse a limit whose controller is not there: not in version 2's tree, or not in the part that is ours."""
    have, ours = controllers(mount), controllers(place)
    for name in wanted:
        if name not in have:
            listed = f"(it has: {' '.join(have)})" if have else "(it has none)"
            raise CgroupError(f"{name} limit: this host's cgroup v2 tree has no {name} controller {listed}; {LAB}")
        if name not in ours:
            raise CgroupError(f"{name} limit: {place} was delegated without the {name} controller; ask root for it")


def _make(group: Cgroup, parent: str, wanted: list[str]) -> None:
    """Make the directory and ours above it, and hand the controllers down to it. Raises: CgroupError, OSError."""
    for _ in range(10):  # another container's end may remove our empty directory at any moment
        try:
            if not os.path.isdir(parent):
                os.makedirs(parent, exist_ok=True)
                _tell(group.sink, "mkdir", (parent, "0777"), 0, 0, "containers' groups are in it, and no process")
            hand_down(os.path.dirname(parent), wanted, group.sink)
            hand_down(parent, wanted, group.sink)
            os.mkdir(group.path)
        except FileNotFoundError:
            continue
        _tell(group.sink, "mkdir", (group.path, "0777"), 0, 0, "a group is a directory; its files appear by themselves")
        return
    raise CgroupError(f"mkdir({group.path}): {parent} does not stay")


def hand_down(directory: str, wanted: Iterable[str], sink: Sink | None) -> None:
    """Let the groups in a directory use controllers, one more write each where they may not yet.

    Raises: CgroupError; EBUSY is the rule of no internal processes.
    """
    path = os.path.join(directory, "cgroup.subtree_control")
    with open(path, encoding="ascii") as file:
        enabled = file.read().split()
    for name in wanted:
        if name not in enabled:
            errno = _write(path, f"+{name}", f"hand {name} down to the groups in it", sink)
            if errno == errors.ENOENT:
                raise FileNotFoundError(errno, os.strerror(errno), path)
            if errno:
                cause = _cause(directory, "cgroup.subtree_control", errno)
                raise CgroupError(f"{name} limit: write({path}, '+{name}'): {os.strerror(errno)}{cause}")


def _limit(wanted: list[str]) -> str:
    return f"{wanted[0]} limit" if wanted else "cgroup"


def _failure(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    lacks = error.errno in (errors.EACCES, errors.EPERM, errors.EROFS)
    cause = ": making one needs root, or a part of the tree that was delegated" if lacks else ""
    return f"cgroup: {where}{error.strerror}{cause}"


def _cause(directory: str, file: str, errno: int) -> str:
    """Return, after a colon, what an errno of these writes usually means here."""
    if file.startswith("cpuset.") and errno in (errors.EINVAL, errors.ERANGE, errors.ENOSPC):
        kind = file.partition(".")[2]
        try:
            with open(os.path.join(os.path.dirname(directory), f"cpuset.{kind}.effective"), encoding="ascii") as there:
                return f": there are {kind} {there.read().strip()}"
        except OSError:
            return ""
    causes = {
        (errors.EBUSY, "cgroup.subtree_control"): "processes are in this group itself: move them to one below it",
        (errors.ENODEV, "io.max"): "no disk has this number (lsblk; a partition has no limit of its own)",
        (errors.ENOENT, file): "this kernel has no such file",
        (errors.EACCES, file): "this part of the tree belongs to someone else",
        (errors.EINVAL, file): "not a value that the kernel takes there",
        (errors.ERANGE, file): "not a value that the kernel takes there",
    }
    cause = causes.get((errno, file))
    return f": {cause}" if cause else ""


def _write(path: str, text: str, why: str, sink: Sink | None) -> int:
    """Write a file of the tree in one call, as each is a command; return 0 or an errno."""
    errno = 0
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    except OSError as error:
        errno = error.errno or errors.EIO
    _tell(sink, "write", (path, f'"{text}"'), errno, len(text), why)
    return errno


def _rmdir(path: str) -> int:
    try:
        os.rmdir(path)
    except OSError as error:
        return error.errno or errors.EIO
    return 0


def _tell(sink: Sink | None, call: str, args: tuple[str, ...], errno: int, result: int, why: str) -> None:
    if sink is not None:
        sink(Event(call, args, step="cgroup", why=why, result=-1 if errno else result, errno=errno))
