"""A container's directory: what is known of it between two commands.

    ROOT/ID/state.json   what it was made from, its first process, its cgroup; replaced as a whole
            exec.fifo    there until `start`: the container's process reads it (man 7 fifo)
            plan         the plan and what came of each record, also after `create` has ended

The directory itself is the lock: mkdir(2) says whose the name is, flock(2) on it lets one command at a time change it.
What state.json says of a process holds only together with its start time, as pids are used again.
"""

from __future__ import annotations

import os
import time

from minirt.documents import BadDocument, dumps, load_file
from minirt.errors import MinirtError
from minirt.linux.process import look, start_time
from minirt.oci import VERSION
from minirt.paths import state_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Container", "RuntimeFailure", "all_containers", "default_root", "look", "start_time"]

LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")


class RuntimeFailure(MinirtError):
    """A command of the runtime cannot do what it is asked for."""

    exit_code = 1


def default_root() -> str:
    """Return where containers are by default: below /run/minirt, or XDG_RUNTIME_DIR."""
    return os.path.join(state_root(), "oci")


class Container:
    """One container: its directory, and what state.json said when it was read."""

    __slots__ = ("id", "lock_fd", "path", "state")

    def __init__(self, root: str, id: str) -> None:
        if not id or not LETTERS.issuperset(id) or id in (".", "..") or len(id) > 1024:
            raise RuntimeFailure(f"invalid container ID format {id!r}: letters, digits and _ + - .")
        self.id = id
        self.path = os.path.join(root, id)
        self.state: dict[str, Any] = {}
        self.lock_fd = -1

    # -- making and finding ------------------------------------------------------------------------------

    def make(self) -> None:
        """Make the directory, and lock it. Raises: RuntimeFailure where the name is taken."""
        try:
            while True:
                try:
                    os.mkdir(self.path, 0o711)
                except FileNotFoundError:
                    os.makedirs(os.path.dirname(self.path), mode=0o711, exist_ok=True)
                    os.mkdir(self.path, 0o711)
                try:
                    self.lock()
                    break
                except FileNotFoundError:
                    continue  # `delete --force` took it for what a killed `create` left
            if os.path.exists(f"{self.path}/state.json"):
                self.unlock()  # removed and made anew between mkdir and lock: it is somebody else's
                raise FileExistsError
        except FileExistsError:
            raise RuntimeFailure(f"container with id exists: {self.id}: minirt oci delete removes it") from None
        except OSError as error:
            raise RuntimeFailure(f"{self.path}: {error.strerror}: choose another place with --root") from None

    def lock(self, patience: float | None = None) -> bool:
        """Wait until no other command changes this container; held until this process ends, or `unlock`.

        What was locked is what is at the path now: meanwhile the container may have been removed, and made anew. But a
        directory that was locked before is locked again, wherever it is by now (`is_ours`).

        Args:
            patience: seconds to wait; by default as long as it takes.

        Returns: False if the time was up. Raises: FileNotFoundError where the container is gone.
        """
        from fcntl import LOCK_EX, LOCK_NB, flock

        end = None if patience is None else time.monotonic() + patience
        again = self.lock_fd >= 0
        while True:
            if self.lock_fd < 0:
                self.lock_fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                flock(self.lock_fd, LOCK_EX if end is None else LOCK_EX | LOCK_NB)
            except BlockingIOError:
                if end is not None and time.monotonic() > end:
                    return False
                time.sleep(0.01)
                continue
            if again or self.is_ours():
                return True
            self.close()

    def unlock(self) -> None:
        """Let other commands change it; the descriptor stays, to know the directory by."""
        from fcntl import LOCK_UN, flock

        if self.lock_fd >= 0:
            flock(self.lock_fd, LOCK_UN)

    def is_ours(self) -> bool:
        """Say whether the directory at the path is still the one that was locked."""
        try:
            return self.lock_fd < 0 or os.path.samestat(os.fstat(self.lock_fd), os.stat(self.path))
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Let go of the lock and of the directory."""
        if self.lock_fd >= 0:
            os.close(self.lock_fd)
            self.lock_fd = -1

    def load(self, lock: bool = False) -> Container:
        """Read state.json. Raises: RuntimeFailure where there is no such container."""
        try:
            if lock:
                self.lock()
            self.state = load_file(f"{self.path}/state.json")
        except FileNotFoundError:
            raise RuntimeFailure(f"container does not exist: {self.id}") from None
        except BadDocument as error:
            raise RuntimeFailure(f"{error}: minirt oci delete --force {self.id} removes the container") from None
        return self

    def save(self, **changes: Any) -> None:
        """Change state.json as a whole: a reader, or whoever comes after a kill -9, sees the old or the new one.

        In the directory that is locked, wherever that is by now: so that nothing is written into a later container's of the
        same name. Not fsync(2)ed: what it tells of ends with the machine's power, as the processes do.

        The old one is exchanged for the new (man 2 rename), as ext4 writes a file to its disk at once that takes another's
        place, lest the power fail (fs/ext4/namei.c, auto_da_alloc); that costs 0.1 ms and is of no use here.

        Raises: RuntimeFailure where the container was removed.
        """
        before = bool(self.state)
        self.state.update(changes)
        at = self.lock_fd
        try:
            fd = os.open("state.json.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600, dir_fd=at)
            with open(fd, "wb", buffering=0) as file:
                file.write(dumps(self.state).encode())
            if before and exchange(at, b"state.json.new\0", b"state.json\0"):
                os.unlink("state.json.new", dir_fd=at)
            else:
                os.rename("state.json.new", "state.json", src_dir_fd=at, dst_dir_fd=at)
        except FileNotFoundError:
            raise RuntimeFailure(f"container {self.id} was removed meanwhile") from None

    def remove(self) -> None:
        """Remove the directory; under another name first, so that no half of it is ever found."""
        hidden = os.path.join(os.path.dirname(self.path), f".{self.id}")
        for _ in range(2):
            if not self.is_ours():
                break
            try:
                os.rename(self.path, hidden)
                break
            except FileNotFoundError:
                break
            except OSError:  # ENOTEMPTY: an earlier delete was killed
                empty(hidden)
        empty(hidden)

    # -- what it is --------------------------------------------------------------------------------------

    @property
    def fifo(self) -> str:
        """The path of the FIFO that `start` writes to."""
        return f"{self.path}/exec.fifo"

    @property
    def pid(self) -> int:
        """The first process; 0 if it has ended."""
        pid: int = self.state.get("pid") or 0
        return pid if pid and start_time(pid) == self.state.get("started") != -1 else 0  # -1: it ended before that was read

    def pidfd(self) -> int:
        """Return a descriptor of the first process, made sure to be that. Raises: RuntimeFailure if it has ended."""
        if self.pid:
            try:
                fd = os.pidfd_open(self.pid)
            except OSError:  # ESRCH; EINVAL if it was reaped while the kernel looked (kernel/pid.c, pidfd_open)
                raise RuntimeFailure("container not running") from None
            if self.pid:  # still: so the descriptor is of that process and no later one
                return fd
            os.close(fd)
        raise RuntimeFailure("container not running")

    def status(self) -> str:
        """Return creating, created, running, paused or stopped (runtime-spec runtime.md#state)."""
        if not self.pid:
            return "creating" if self.state.get("status") == "creating" and self.busy() else "stopped"
        if self.state.get("status") == "creating":
            return "creating"
        if self.is_paused():
            return "paused"  # also what waits for its start: a start would wait for the thaw, and hold the lock meanwhile
        return "created" if self.waits() else "running"

    def is_paused(self) -> bool:
        """Say whether its cgroup is frozen, or ordered to be (Cgroup.is_frozen, without what else that module has)."""
        path = self.state.get("cgroup")
        try:
            return look(f"{path}/cgroup.freeze") == b"1\n" or b"frozen 1" in look(f"{path}/cgroup.events")
        except OSError:
            return False

    def busy(self) -> bool:
        """Say whether another command holds the lock."""
        if self.lock_fd >= 0:
            return False
        from fcntl import LOCK_EX, LOCK_NB, flock

        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            flock(fd, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def waits(self) -> bool:
        """Say whether it waits for its start: the FIFO is there, and someone reads it (man 7 fifo, ENXIO)."""
        try:
            os.close(os.open(self.fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError:
            return False
        return True

    def cgroup(self, gone: bool = False) -> Any:
        """Return the container's cgroup (minirt.linux.cgroup_group.Cgroup), None where it has none.

        Args:
            gone: also where the directory is not there any more, or not yet: those above it may be, for `remove`.
        """
        path = self.state.get("cgroup")
        if not path or not (gone or os.path.isdir(path)):
            return None
        from minirt.linux.cgroup_group import Cgroup

        return Cgroup(path, None, self.state.get("cgroup_made") or ())

    def oci_state(self, status: str = "") -> dict[str, Any]:
        """Return the state as the specification wants it (runtime.md#state), for hooks and agents."""
        status = status or self.status()
        state = {
            "ociVersion": self.state.get("ociVersion") or VERSION,
            "id": self.id,
            "status": status,
            "pid": self.state.get("pid", 0) if status != "stopped" else 0,
            "bundle": self.state.get("bundle", ""),
        }
        annotations = self.config.get("annotations")
        if annotations:
            state["annotations"] = annotations
        return state

    @property
    def config(self) -> dict[str, Any]:
        """config.json as it was when the container was created."""
        config: dict[str, Any] = self.state.get("config") or {}
        return config


def exchange(directory: int, one: bytes, other: bytes) -> bool:
    """Let two files of a directory change their names, in one step. Returns False where its file system cannot."""
    from minirt.linux import constants
    from minirt.linux.direct import syscall

    return syscall(constants.SYS_renameat2, directory, one, directory, other, constants.RENAME_EXCHANGE) == 0


def empty(path: str) -> None:
    """Remove a directory of ours and the files in it."""
    try:
        for name in os.listdir(path):
            os.unlink(os.path.join(path, name))
        os.rmdir(path)
    except FileNotFoundError:
        pass


def all_containers(root: str) -> list[Container]:
    """Return every container below a root, by name."""
    try:
        names = sorted(os.listdir(root))
    except FileNotFoundError:
        return []
    found = []
    for name in names:
        if not name.startswith("."):
            try:
                found.append(Container(root, name).load())
            except MinirtError:
                continue
    return found
