"""Machines by name: each one's directory, what its files say, and whether it runs.

A machine runs as long as its process holds vmm.lock (man 2 flock): the kernel drops the lock with its holder, also after
SIGKILL. So state.json may say "running" of a process that was killed; `status` then says stopped.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import ExitStack, contextmanager

from minirt.image.index import replace_file
from minirt.image.scratch import Lock, Scratch, remove_tree
from minirt.paths import data_root
from minivm.errors import MinivmError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["Busy", "MachineError", "NamedMachine", "NoMachine", "create", "find", "machines", "printable", "remove", "root_of"]

LONGEST = 64
ROOT = "root.ext4"
OUTCOME = "outcome.json"
KILLED = "its process was killed"
STATUSES = ("created", "starting", "running", "stopped")  # that a file may say
FILE_SIZE = 1 << 16  # bytes of such a file that are looked at


class MachineError(MinivmError):
    """A machine is not there, or not in the state that is needed."""

    status = 1


class NoMachine(MachineError):
    """No machine has this name."""


class Busy(MachineError):
    """A machine's process lives already."""


def directory() -> str:
    """Return the directory that holds one directory a machine."""
    return os.path.join(data_root(), "machines")


class NamedMachine:
    """One machine's directory."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = os.path.join(directory(), name)

    def file(self, name: str) -> str:
        """Return the path of one of its files."""
        return os.path.join(self.path, name)

    def document(self) -> dict[str, Any]:
        """Return what machine.json says, checked again. Raises DocumentError."""
        from minivm.manager.document import read

        return read(self.file("machine.json"))

    def state(self) -> dict[str, Any]:
        """Return what became of it, as far as it is known.

        `status` is created, starting, running, stopping or stopped; with `pid`, `started`, `ended` (seconds since 1970),
        `exit_status` and `reason` where there are such.
        """
        for _ in range(2):  # a start may come between the look and the reading: then the second look sees it
            alive = self.runs()  # asked first: what a process wrote as it ended is there when its lock is free
            state = _read(self.file("state.json"))
            if alive or state["status"] not in ("starting", "running"):
                break
        else:
            return self._outcome(state) or {**state, "status": "stopped", "exit_status": None, "reason": KILLED}
        if state["status"] == "stopped" and alive:
            state["status"] = "stopping"
        return state

    def _outcome(self, state: dict[str, Any]) -> dict[str, Any] | None:
        """Return how the run that `state` tells of ended, where its process could write that only to an open file (vmm.py)."""
        outcome = _read(self.file(OUTCOME))
        if outcome["status"] != "stopped" or "started" not in state or outcome.get("started") != state["started"]:
            return None  # of an earlier run; or a file cut short: killed as it wrote
        return outcome

    def save(self, **state: Any) -> None:
        """Write state.json, as a whole; its process does that, or a command that holds the lock."""
        import json

        replace_file(self.file("state.json"), json.dumps(state).encode() + b"\n")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock of commands that change it, for the body. Raises MachineError where the machine has gone meanwhile."""
        while True:
            with ExitStack() as undo:
                try:
                    held = undo.enter_context(Lock(self.file("lock")))
                except (FileNotFoundError, NotADirectoryError):
                    raise _unknown(self.name) from None
                if held.is_current():  # else who held it before has removed the machine, and there may be another by its name
                    yield
                    return

    def runs(self) -> bool:
        """Say whether its process lives. The look is shared: none takes another, that looks too, for the process."""
        try:
            fd = os.open(self.file("vmm.lock"), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # never started, removed, or not ours to open
            return False
        try:
            return not _locked(fd, fcntl.LOCK_SH)
        finally:
            os.close(fd)

    def take(self) -> int:
        """Take vmm.lock. Returns a descriptor that holds it. Raises Busy where its process lives, OSError."""
        fd = os.open(self.file("vmm.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        while not _locked(fd, fcntl.LOCK_EX):
            if not _locked(fd, fcntl.LOCK_SH):
                os.close(fd)
                raise Busy(f"machine {self.name} is running")
            fcntl.flock(fd, fcntl.LOCK_UN)  # somebody only looks, for a moment
        return fd

    def wait(self, seconds: float | None) -> bool:
        """Wait until its process has ended. Returns False where the time was up first."""
        from time import monotonic, sleep

        end = None if seconds is None else monotonic() + seconds
        pause = 0.005
        while self.runs():
            if end is not None and monotonic() >= end:
                return False
            sleep(pause)
            pause = min(pause * 1.5, 0.1)
        return True


def _locked(fd: int, how: int) -> bool:
    """Take a lock if nobody holds one that forbids it. Returns whether it was taken."""
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(path: str) -> dict[str, Any]:
    """Return what a file says that became of a machine, as far as it makes sense: a process in a jail may write anything."""
    import json

    try:
        with open(path, encoding="utf-8") as file:
            said = json.loads(file.read(FILE_SIZE).rstrip("\0"))
    except (FileNotFoundError, ValueError, RecursionError):
        said = None
    if not isinstance(said, dict) or said.get("status") not in STATUSES:
        return {"status": "created"}
    state: dict[str, Any] = {"status": said["status"]}
    for name in ("pid", "started", "ended"):
        if type(said.get(name)) in (int, float) and 0 < said[name] < 1 << 40:
            state[name] = said[name]
    if said["status"] == "stopped":
        status, reason = said.get("exit_status"), said.get("reason")
        state["exit_status"] = status if type(status) is int and 0 <= status <= 255 else None
        state["reason"] = printable(reason) if isinstance(reason, str) else ""
    return state


def printable(text: str) -> str:
    """Return what another process says as one line that no terminal takes for a command."""
    return "".join(char if char.isprintable() else " " for char in text)


def create(name: str, document: dict[str, Any], disk: str = "") -> NamedMachine:
    """Make a machine.

    Args:
        document: what it is to be, checked.
        disk: a file of which it gets a copy of its own, as root_of says.

    Raises MachineError where the name is wrong or taken, OSError.
    """
    import json

    check_name(name)
    path, fd = _scratch().directory()
    try:
        made = f"{path}/machine"
        os.mkdir(made, 0o700)
        replace_file(f"{made}/machine.json", json.dumps(document, indent=1).encode() + b"\n")
        replace_file(f"{made}/state.json", b'{"status": "created"}\n')
        if disk:
            from minivm.images.root_disk import copy_sparse

            copy_sparse(disk, f"{made}/{ROOT}")
        os.rename(made, os.path.join(directory(), name))
    except OSError as error:
        import errno

        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
        raise MachineError(f"the name {name!r} is in use: minivm rm {name} removes that machine") from None
    finally:
        remove_tree(path)
        os.close(fd)
    return NamedMachine(name)


def root_of(name: str) -> str:
    """Return the path of a machine's own root disk, whether it has one or not."""
    return os.path.join(directory(), name, ROOT)


def remove(machine: NamedMachine) -> None:
    """Remove a machine that does not run, its name at once. Raises Busy."""
    with machine.lock():
        try:
            fd = machine.take()
        except Busy as error:
            raise Busy(f"{error}: minivm stop {machine.name}, or rm -f") from None
        path, scratch = _scratch().directory()
        try:
            os.rename(machine.path, f"{path}/machine")
            remove_tree(path)
        finally:
            os.close(scratch)
            os.close(fd)


def machines() -> list[NamedMachine]:
    """Return all machines by name; what killed commands left is removed."""
    try:
        names = os.listdir(directory())
    except FileNotFoundError:
        return []
    if any(name.startswith("tmp") for name in names):
        _scratch().sweep()
    return [NamedMachine(name) for name in sorted(names) if os.path.exists(os.path.join(directory(), name, "machine.json"))]


def find(name: str) -> NamedMachine:
    """Return a machine. Raises MachineError where there is none of that name."""
    machine = NamedMachine(name)
    if "/" in name or name.startswith(".") or not os.path.exists(machine.file("machine.json")):
        raise _unknown(name)
    return machine


def check_name(name: str) -> None:
    """Raise MachineError for what cannot be a machine's name."""
    plain = name.replace("-", "").replace("_", "").replace(".", "")
    if not (plain.isascii() and plain.isalnum() and name[0].isalnum() and len(name) <= LONGEST) or name == "tmp":
        raise MachineError(f"{name!r} cannot name a machine: letters, digits, _ . -, at most {LONGEST}")


def _unknown(name: str) -> NoMachine:
    return NoMachine(f"no machine {name!r}: `minivm ps -a` lists them")


def _scratch() -> Scratch:
    os.makedirs(directory() + "/tmp", 0o700, exist_ok=True)
    return Scratch(directory() + "/tmp")
