"""One control group: its processes, its files, and its end.

A group can be removed when no process and no group is in it. The longer operations have files of their own:
cgroup_freeze.py, cgroup_update.py, cgroup_stats.py; they are imported when they are asked for.

Source: Documentation/admin-guide/cgroup-v2.rst; man 7 cgroups
"""

from __future__ import annotations

import errno as errors
import os
import time

from minirt.linux import cgroup_files as files
from minirt.linux.cgroup_files import NAME, CgroupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from minirt.linux.cgroup_limits import File
    from minirt.trace import Sink

__all__ = ["Cgroup"]

LIMIT = 10_000  # ms that killed processes have to be gone; in the kernel's hands, so far more than needed


class Cgroup:
    """One group, made by `create` or found by `open`; as a context manager it is gone at the end, with all in it.

    `path` is its absolute directory; `made` the directories that were made for it, outermost first.
    """

    __slots__ = ("made", "path", "sink")

    def __init__(self, path: str, sink: Sink | None = None, made: Sequence[str] | None = None) -> None:
        self.path = path
        self.sink = sink
        self.made = [path] if made is None else list(made)

    @classmethod
    def open(cls, path: str, made: Sequence[str] | None = None, sink: Sink | None = None) -> Cgroup:
        """Return the group of a container that exists.

        Args:
            path: its absolute directory, as `create` gave it.
            made: what `create` said was made, for `remove`; without it the directory itself.
            sink: gets each write as an event.

        Raises: CgroupError where there is no such group.
        """
        if not os.path.isfile(os.path.join(path, "cgroup.procs")):
            raise CgroupError(f"{path}: no such cgroup: its container is gone")
        return cls(path, sink, made)

    def fd(self) -> int:
        """Return a descriptor for clone3's CLONE_INTO_CGROUP (man 2 clone3); the caller's to close."""
        return os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def write(self, file: str, text: str, why: str = "") -> None:
        """Write one of the group's files. Raises: CgroupError, with what usually is the matter."""
        files.put(self.path, file, text, why, self.sink)

    def read(self, file: str) -> str:
        """Return what a file of the group says. Raises: OSError where its controller is not handed down."""
        return files.read(self.path, file)

    def keyed(self, file: str) -> dict[str, int]:
        """Return a flat keyed file (memory.events, cpu.stat, pids.events) as numbers by key."""
        return files.keyed(self.path, file)

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
        return _pids(self.path)

    def all_pids(self) -> list[int]:
        """Return the processes in the group and in those below it, which the container may have made itself."""
        return [pid for directory in _groups(self.path) for pid in _pids(directory)]

    def apply(self, wanted: Iterable[File]) -> None:
        """Write limits into files. Raises: CgroupError at the first that the kernel refuses."""
        for file, text in wanted:
            self.set(file, text)

    def set(self, file: str, text: str) -> None:
        """Write one limit, as `limits` says it, where the kernel keeps that limit. Raises: CgroupError."""
        if not os.path.exists(os.path.join(self.path, file)):
            if file == "memory.swap.max" and text in ("0", "max"):
                return  # a kernel that does not count swap has no more to limit (CONFIG_SWAP)
            if file.startswith("hugetlb.") and file.endswith(".rsvd.max"):
                return  # before Linux 5.7 pages are limited only when touched
            if file == "io.bfq.weight":
                from minirt.linux.cgroup_limits import io_weight

                file, text = "io.weight", io_weight(text)
        self.write(file, text)

    def kill(self) -> None:
        """Kill every process in the group and in those below, forks in flight included (Linux 5.14)."""
        errno = files.write(os.path.join(self.path, "cgroup.kill"), "1", "SIGKILL to all in it, none can fork away", self.sink)
        if errno == errors.ENOENT and os.path.isdir(self.path):
            from signal import SIGKILL

            self.signal_all(SIGKILL)

    def signal_all(self, signal: int) -> int:
        """Send a signal to every process in the group and below, held still meanwhile so that none forks away.

        Returns: to how many it was sent. Raises: KernelError (EPERM).
        """
        from minirt.linux.cgroup_freeze import signal_all

        return signal_all(self, signal)

    def freeze(self, milliseconds: int = LIMIT) -> None:
        """Hold every process in the group and below still. Raises: CgroupError; it is not frozen then."""
        from minirt.linux.cgroup_freeze import freeze

        freeze(self, milliseconds)

    def thaw(self, milliseconds: int = LIMIT) -> None:
        """Let the processes go on. Raises: CgroupError."""
        from minirt.linux.cgroup_freeze import thaw

        thaw(self, milliseconds)

    def is_frozen(self) -> bool:
        """Say whether its processes are held still, by an order to this group or to one above.

        The order counts, too: a frozen process that gets a signal stirs in the kernel, and for that moment the
        group does not count as frozen.
        """
        return self.read("cgroup.freeze").strip() == "1" or self.keyed("cgroup.events").get("frozen") == 1

    def update(self, resources: Mapping[str, Any], warn: Callable[[str], None] | None = None) -> None:
        """Change limits while the container runs: linux.resources with what is to change; all of it or nothing.

        Raises: CgroupError; what was before is then in force again.
        """
        from minirt.linux.cgroup_update import update

        update(self, resources, warn)

    def stats(self) -> dict[str, Any]:
        """Return what the group used, as `runc events --stats` prints it under "data"."""
        from minirt.linux.cgroup_stats import stats

        return stats(self.path)

    def wait_event(self, key: str, value: int, milliseconds: int) -> bool:
        """Wait until cgroup.events says so of `populated` or `frozen`; return whether that came to pass.

        The file changes then, and a poll for POLLPRI ends.
        """
        import select

        text, end = f"{key} {value}".encode(), time.monotonic() + milliseconds / 1000
        fd = os.open(os.path.join(self.path, "cgroup.events"), os.O_RDONLY | os.O_CLOEXEC)
        try:
            poll = select.poll()
            poll.register(fd, select.POLLPRI)
            while text not in os.pread(fd, 4096, 0).splitlines():
                left = end - time.monotonic()
                if left <= 0:
                    return False
                poll.poll(left * 1000)
            return True
        finally:
            os.close(fd)

    def wait_empty(self, milliseconds: int) -> bool:
        """Wait until no live process is in the group or below, and say whether that came to pass; zombies do not count."""
        return self.wait_event("populated", 0, milliseconds)

    def remove(self) -> None:
        """Kill what is left, wait until it is gone, and remove the directories in it and those made for it.

        One above that another container uses by now stays. Raises: CgroupError where a process does not die (it
        is in the kernel's hands, in state D).
        """
        end = time.monotonic() + LIMIT / 1000
        while not self._is_removed():
            if "populated 1" in self.read("cgroup.events"):
                self.kill()
                if not self.wait_empty(LIMIT):
                    left = " ".join(map(str, self.all_pids()))
                    raise CgroupError(f"{self.path}: killed processes are still there: {left}")
            if self._remove_directories(time.monotonic() < end):
                break
            time.sleep(0.001)
        head, ours, _ = self.path.rpartition(f"/{NAME}/")  # the one of all containers, whoever of them made it
        for directory in (*reversed(self.made), *([f"{head}/{NAME}"] if ours else [])):
            if directory != self.path:
                files.rmdir(directory, "nobody else is in it", self.sink)  # EBUSY where someone is

    def _is_removed(self) -> bool:
        """Say whether the directory is gone; mostly nobody is in it any more, and nothing, so one call is enough."""
        if self.path in self.made and files.rmdir(self.path, "the group goes with its container", self.sink) == 0:
            return True
        return not os.path.isdir(self.path)

    def _remove_directories(self, again: bool) -> bool:
        """Remove the directories. Returns False where somebody was born into one meanwhile, if it may be tried `again`."""
        for directory in reversed(_groups(self.path)):
            if directory == self.path and directory not in self.made:
                return True
            errno = files.rmdir(directory, "the group goes with its container", self.sink)
            if errno == errors.EBUSY and again:
                return False
            if errno not in (0, errors.ENOENT):
                raise CgroupError(f"rmdir({directory}): {os.strerror(errno)}")
        return True

    def __enter__(self) -> Cgroup:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


def _groups(path: str) -> list[str]:
    """Return the directories of a group and of those below it, each after the one that it is in; what is gone meanwhile is not.

    Not os.walk, for which a command of the runtime would load half of `os` (minirt/preload.py).
    """
    found = [path]
    for directory in found:
        try:
            with os.scandir(directory) as entries:
                found += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:
            continue
    return found


def _pids(directory: str) -> list[int]:
    """Return the processes of one group; those of a threaded one are told by their threads (EOPNOTSUPP)."""
    for file in ("cgroup.procs", "cgroup.threads"):
        try:
            return [int(line) for line in files.read(directory, file).split()]
        except OSError as error:
            if error.errno in (errors.ENOENT, errors.ENODEV):  # removed meanwhile
                return []
            if error.errno != errors.EOPNOTSUPP:
                raise
    return []
