"""Control groups, version 2: a directory a group, a file a limit (Documentation/admin-guide/cgroup-v2.rst).

    with create("0123abcd", {"memory": {"limit": 64 << 20}}) as group:
        ... clone3 into open(group.path) ...                 # born inside its limits
        group.oom_kills()
    # every process in it is killed, and the directory removed

On a host where the controllers still belong to version 1 a limit is an error that names the controller; a container
without limits runs all the same.
"""

from __future__ import annotations

import os

from minirt.errors import MinirtError
from minirt.plan.events import Event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from minirt.plan.events import Sink

__all__ = ["Cgroup", "CgroupError", "controllers", "create", "find_mount", "limits", "shares_to_weight"]

PARENT = "minirt"  # below the root of the tree: no process is ever in it, only in the groups below


class CgroupError(MinirtError):
    """A limit cannot be set here; the message names the controller, or the file."""


def find_mount() -> str:
    """Return where cgroup2 is mounted, or an empty text (man 5 proc_pid_mountinfo)."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            if after.startswith("cgroup2 "):
                return before.split()[4]
    return ""


def controllers(path: str) -> list[str]:
    """Return the controllers that a group can use."""
    with open(os.path.join(path, "cgroup.controllers"), encoding="ascii") as file:
        return file.read().split()


def shares_to_weight(shares: int) -> int:
    """Return cpu.weight (1..10000) for version 1's cpu.shares (2..262144).

    weight = 1 + (shares - 2) * 9999 / 262142, the conversion of runtime-spec config-linux.md#cpu.
    """
    clamped = min(max(shares, 2), 262144)
    return 1 + (clamped - 2) * 9999 // 262142


def number_or_max(value: int) -> str:
    """Return a limit as the kernel writes it: -1 in config.json is no limit."""
    return "max" if value < 0 else str(value)


def limits(resources: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the (file, text) that config.json's linux.resources come to, in the order of writing.

    memory.swap is memory and swap together there, and swap alone in the kernel's file. `unified` comes last,
    and as it is (runtime-spec config-linux.md#control-groups).
    """
    files: list[tuple[str, str]] = []
    memory = resources.get("memory") or {}
    if "limit" in memory:
        files.append(("memory.max", number_or_max(memory["limit"])))
    if "swap" in memory:
        swap, limit = memory["swap"], memory.get("limit", -1)
        if swap >= 0 and limit < 0:
            raise CgroupError("memory.swap is memory and swap together: it needs memory.limit too")
        if swap >= 0 and swap < limit:
            raise CgroupError("memory.swap is memory and swap together: it cannot be less than memory.limit")
        files.append(("memory.swap.max", "max" if swap < 0 else str(swap - limit)))
    if "reservation" in memory:
        files.append(("memory.low", number_or_max(memory["reservation"])))
    cpu = resources.get("cpu") or {}
    if "shares" in cpu:
        files.append(("cpu.weight", str(shares_to_weight(cpu["shares"]))))
    if "quota" in cpu or "period" in cpu:
        quota = cpu.get("quota", -1)
        files.append(("cpu.max", f"{'max' if quota <= 0 else quota} {cpu.get('period', 100000)}"))
    for key, file in (("cpus", "cpuset.cpus"), ("mems", "cpuset.mems")):
        if cpu.get(key):
            files.append((file, cpu[key]))
    if "pids" in resources:
        limit = resources["pids"]["limit"]
        files.append(("pids.max", "max" if limit <= 0 else str(limit)))
    io = resources.get("blockIO") or {}
    if "weight" in io:
        files.append(("io.weight", f"default {io['weight']}"))
    for name, key in (("ReadBps", "rbps"), ("WriteBps", "wbps"), ("ReadIOPS", "riops"), ("WriteIOPS", "wiops")):
        for device in io.get(f"throttle{name}Device") or ():
            files.append(("io.max", f"{device['major']}:{device['minor']} {key}={device['rate'] or 'max'}"))
    for page in resources.get("hugepageLimits") or ():
        files.append((f"hugetlb.{page['pageSize']}.max", str(page["limit"])))
    files += [(file, str(text)) for file, text in (resources.get("unified") or {}).items()]
    for file, _ in files:
        if "/" in file or "." not in file:
            raise CgroupError(f"linux.resources.unified: {file!r} is no file of a cgroup")
    return files


class Cgroup:
    """One group. Made by `create`."""

    __slots__ = ("path", "sink")

    def __init__(self, path: str, sink: Sink | None = None) -> None:
        self.path = path
        self.sink = sink

    def write(self, file: str, text: str, why: str = "") -> None:
        """Write one of the group's files. Raises: CgroupError, which says what the kernel takes there."""
        path = os.path.join(self.path, file)
        errno = _write(path, text)
        _tell(self.sink, "write", (path, f'"{text}"'), errno, len(text), why)
        if errno:
            raise CgroupError(f"write({path}, {text!r}): {os.strerror(errno)}")

    def read(self, file: str) -> str:
        """Return what a file of the group says."""
        with open(os.path.join(self.path, file), encoding="utf-8") as opened:
            return opened.read()

    def keyed(self, file: str) -> dict[str, int]:
        """Return a flat keyed file (memory.events, cpu.stat) as numbers by key."""
        return {key: int(value) for key, value in (line.split() for line in self.read(file).splitlines())}

    def oom_kills(self) -> int:
        """Return how many processes the out-of-memory killer ended in this group; 0 where memory is not counted."""
        try:
            return self.keyed("memory.events").get("oom_kill", 0)
        except OSError:
            return 0

    def kill(self) -> None:
        """Kill every process in the group and below at once (cgroup.kill, Linux 5.14)."""
        _write(os.path.join(self.path, "cgroup.kill"), "1")

    def remove(self) -> None:
        """Kill what is left, wait until the group is empty, and remove its directory and those below."""
        if not os.path.isdir(self.path):
            return
        self.kill()
        self.wait_empty(10_000)
        for directory, _, _ in os.walk(self.path, topdown=False):
            errno = 0
            try:
                os.rmdir(directory)
            except FileNotFoundError:
                pass
            except OSError as error:
                errno = error.errno or 0
            _tell(self.sink, "rmdir", (directory,), errno, 0, "the group goes with its container")

    def wait_empty(self, milliseconds: int) -> bool:
        """Wait until no process is in the group or below; cgroup.events tells of it by POLLPRI."""
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

    def __enter__(self) -> Cgroup:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


class Nothing:
    """In place of a group where none was asked for and none can be made."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        pass


def create(id: str, resources: Mapping[str, Any], sink: Sink | None = None) -> Cgroup | Nothing:
    """Make a container's group and set its limits.

    Args:
        id: the directory's name.
        resources: config.json's linux.resources; empty: no limits, and then no failure either.
        sink: gets each mkdir and write as an event.

    Returns: a context manager that gives the group, or None where there is none; at its end nothing is left.
    Raises: CgroupError where a limit cannot be set.
    """
    files = limits(resources)
    mount = find_mount()
    if not mount:
        if files:
            raise CgroupError(f"{files[0][0]}: cgroup v2 is not mounted here; {LAB}")
        return Nothing()
    wanted = list(dict.fromkeys(file.partition(".")[0] for file, _ in files))
    have = controllers(mount)
    for controller in wanted:
        if controller not in have and controller != "cgroup":
            raise CgroupError(
                f"a limit on {controller} needs the cgroup v2 controller {controller}, and {mount} "
                f"has {'only ' + ' '.join(have) if have else 'none'}: {LAB}"
            )
    parent = os.path.join(mount, PARENT)
    group = Cgroup(os.path.join(parent, id), sink)
    try:
        os.makedirs(parent, exist_ok=True)
        for directory in (mount, parent):
            enable(directory, wanted, sink)
        os.mkdir(group.path)
        _tell(sink, "mkdir", (group.path, "0777"), 0, 0, "a group is a directory; its files appear by themselves")
    except OSError as error:
        if files:
            text = f"{error.filename}: {error.strerror}" if error.filename else str(error)
            raise CgroupError(f"{text}: making a cgroup needs root, or a delegated part of the tree") from None
        return Nothing()
    try:
        for file, text in files:
            group.write(file, text, WHY.get(file, ""))
    except BaseException:
        group.remove()
        raise
    return group


LAB = "run it in the lab (lab/run minirt run ...), or boot the host with cgroup v2 alone"

WHY = {
    "memory.max": "beyond this the kernel reclaims, and then kills",
    "memory.swap.max": "swap alone: what was asked for less memory.max",
    "memory.low": "protected while others can give",
    "cpu.max": "microseconds of CPU time in each period",
    "cpu.weight": "share among siblings when all want to run",
    "pids.max": "fork fails with EAGAIN beyond it",
    "cpuset.cpus": "the CPUs that it may run on",
    "io.max": "most bytes or requests a second for a device",
}


def enable(directory: str, wanted: list[str], sink: Sink | None) -> None:
    """Let the groups below a directory use controllers.

    The rule: a group may hand out controllers only while it holds no process itself (the root is exempt), which
    is why containers are siblings below a directory of ours.
    """
    path = os.path.join(directory, "cgroup.subtree_control")
    with open(path, encoding="ascii") as file:
        enabled = file.read().split()
    missing = [c for c in wanted if c not in enabled and c != "cgroup"]
    if missing:
        text = " ".join(f"+{c}" for c in missing)
        errno = _write(path, text)
        _tell(sink, "write", (path, f'"{text}"'), errno, len(text), "let the groups below use them")
        if errno:
            raise CgroupError(f"write({path}, {text!r}): {os.strerror(errno)}: {LAB}")


def _write(path: str, text: str) -> int:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    except OSError as error:
        return error.errno or 5
    return 0


def _tell(sink: Sink | None, call: str, args: tuple[str, ...], errno: int, result: int, why: str) -> None:
    if sink is not None:
        sink(Event(call, args, step="cgroup", why=why, result=-1 if errno else result, errno=errno))
