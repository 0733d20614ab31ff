"""Machines by name: each one's directory, what its files say, and whether it runs.

A machine runs as long as its process holds vmm.lock (man 2 flock): the kernel drops the lock with its holder, also after
SIGKILL. So state.json may say "running" of a process that was killed; `status` then says stopped.
"""

from __future__ import annotations

import fcntl
import os

from minirt.image.index import replace_file
from minirt.image.scratch import Lock, Scratch, remove_tree
from minirt.paths import data_root
from minivm.errors import MinivmError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Busy", "MachineError", "NamedMachine", "create", "find", "machines", "remove", "root_of"]

LONGEST = 64
ROOT = "root.ext4"
OUTCOME = "outcome.json"
KILLED = "its process was killed"


class MachineError(MinivmError):
    """A machine is not there, or not in the state that is needed."""

    status = 1


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
        import json

        alive = self.runs()  # asked first: what a process wrote as it ended is there when its lock is free
        try:
            with open(self.file("state.json"), encoding="utf-8") as file:
                state: dict[str, Any] = json.load(file)
        except (FileNotFoundError, ValueError):
            state = {"status": "created"}
        if state["status"] in ("starting", "running") and not alive:
            state = self._outcome(state) or {**state, "status": "stopped", "exit_status": None, "reason": KILLED}
        if state["status"] == "stopped" and alive:
            state["status"] = "stopping"
        return state

    def _outcome(self, state: dict[str, Any]) -> dict[str, Any] | None:
        """Return how the run that `state` tells of ended, where its process could only write that to an open file (vmm.py)."""
        import json

        try:
            with open(self.file(OUTCOME), encoding="utf-8") as file:
                outcome: dict[str, Any] = json.load(file)
        except (FileNotFoundError, ValueError):  # a file cut short: killed as it wrote
            return None
        return outcome if outcome.get("started") == state.get("started") else None

    def save(self, **state: Any) -> None:
        """Write state.json, as a whole; its process does that, or a command that holds the lock."""
        import json

        replace_file(self.file("state.json"), json.dumps(state).encode() + b"\n")

    def lock(self) -> Lock:
        """Return the lock of commands that change it. Raises MachineError where it has gone meanwhile, as it is taken."""
        if not os.path.isdir(self.path):
            raise _unknown(self.name)
        return Lock(self.file("lock"))

    def runs(self) -> bool:
        """Say whether its process lives."""
        try:
            os.close(self.take())
        except Busy:
            return True
        except OSError:  # removed, or not ours to open
            return False
        return False

    def take(self) -> int:
        """Take vmm.lock. Returns a descriptor that holds it. Raises Busy where its process lives, OSError."""
        fd = os.open(self.file("vmm.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise Busy(f"machine {self.name} is running") from None
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


def _unknown(name: str) -> MachineError:
    return MachineError(f"no machine {name!r}: `minivm ps -a` lists them")


def _scratch() -> Scratch:
    os.makedirs(directory() + "/tmp", 0o700, exist_ok=True)
    return Scratch(directory() + "/tmp")
