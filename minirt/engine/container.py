"""A container's directory: made under a random id, found by a name or the beginning of an id, removed.

    containers/ID/config.json   the OCI configuration        upper/   what the container changed
                  state.json    name, image, status          work/    overlayfs's own
                  hosts, hostname, resolv.conf               merged/  where the root is mounted, in its namespace only

    and of one that is made to be started (start.py):
                  options.json  what was asked for           log      what it wrote; log.1 ... are older
                  attach        socket of its monitor        exit     how it ended, as the monitor saw it
                  stop          there: its end is wanted, so it is not started again

A directory is made under a name that begins with a dot and renamed when it is whole, so one without that is whole.
Who makes it holds a lock on it (owner.py), so that what a killed minirt leaves can be told from what is in use.
"""

from __future__ import annotations

import os

from minirt.errors import MinirtError, UsageError
from minirt.paths import data_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.linux.cgroup_group import Cgroup

__all__ = ["Conflict", "Container", "ContainerError", "NameTaken", "NoContainer", "check_name", "containers", "find"]


class ContainerError(MinirtError):
    """A container is not there, or not in the state that is needed."""

    exit_code = 1


class NoContainer(ContainerError):
    """No container has this name, or an id that begins so."""


class Conflict(ContainerError):
    """A container runs, or does not, or is another minirt's, and what is asked for needs the contrary."""


class NameTaken(UsageError):
    """Another container has the name."""


def directory() -> str:
    """Return the directory that holds one directory a container."""
    return os.path.join(data_root(), "containers")


class Container:
    """One container's directory and what its state.json says."""

    __slots__ = ("id", "owner", "path", "state")

    def __init__(self, id: str, path: str, state: dict[str, Any]) -> None:
        self.id = id
        self.path = path
        self.state = state
        self.owner = -1  # descriptor that makes it ours (owner.py), until `close`

    @classmethod
    def create(cls, name: str, image: str, command: list[str], rm: bool = False) -> Container:
        """Make a container's directory, and own it until `close`.

        Args:
            name: at most one container has it; empty for none.
            image: the name that it was made from.
            command: what it runs, for `minirt ps`.
            rm: it goes when it ends, whoever sees that.
        """
        import time

        from minirt.engine import owner

        if name:
            check_name(name)
            if any(c.state.get("name") == name and _still_there(c) for c in containers()):
                raise NameTaken(f"the name {name!r} is in use: minirt rm {name} removes that container")
        id = os.urandom(32).hex()
        path = os.path.join(directory(), id)
        state = {
            "id": id,
            "name": name,
            "image": image,
            "command": command,
            "created": time.time(),
            "status": "creating",
            "rm": rm,
        }
        hidden = os.path.join(directory(), f".{id}")
        container = cls(id, hidden, state)
        try:
            os.makedirs(directory(), exist_ok=True)
            with owner.making(directory()):
                os.mkdir(hidden, 0o711)
                container.owner = owner.take(hidden)
        except OSError as error:
            raise MinirtError(f"{directory()}: {error.strerror}: containers are kept there") from None
        try:
            for part in ("upper", "work", "merged"):
                os.mkdir(os.path.join(hidden, part), 0o755)
            container.save()
            os.rename(hidden, path)
        except BaseException:
            container.close()  # and gc finds what is there
            raise
        container.path = path
        return container

    @classmethod
    def load(cls, id: str) -> Container | None:
        """Return a container by its whole id, or None where it is not there or not whole."""
        path = os.path.join(directory(), id)
        state = read_state(path)
        return cls(id, path, state) if state else None

    def close(self) -> None:
        """Own it no longer."""
        if self.owner >= 0:
            os.close(self.owner)
            self.owner = -1

    def save(self, **changes: Any) -> None:
        """Change state.json, as a whole: a reader sees the old one or the new one."""
        import json

        self.state.update(changes)
        self.write("state.json", json.dumps(self.state))

    def write(self, name: str, text: str) -> str:
        """Write a file of the container's and return its path."""
        path = os.path.join(self.path, name)
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(f"{path}.new", path)
        return path

    @property
    def running(self) -> bool:
        """Whether the process that state.json names is there and is the same one, by its start time."""
        pid = self.state.get("pid", 0)
        return bool(pid) and start_time(pid) == self.state.get("started_ticks")

    @property
    def label(self) -> str:
        """What people call it: its name, or the beginning of its id."""
        return str(self.state.get("name") or self.id[:12])

    @property
    def cgroup(self) -> Cgroup | None:
        """Its cgroup, None where it has none now."""
        from minirt.engine.gc import groups
        from minirt.linux.cgroup_group import Cgroup

        return next((Cgroup.open(group) for group in groups(self.id)), None)

    def remove(self, volumes: bool = False) -> None:
        """Remove the directory with all that the container changed, and let go of its image.

        Args: volumes, remove those that were made for it alone too; which is done for --rm, and for one that never began.
        """
        from minirt.image.store import Store
        from minirt.linux.rmtree import remove_tree

        hidden = os.path.join(directory(), f".{self.id}")
        try:
            os.rename(self.path, hidden)
        except FileNotFoundError:
            return
        state = self.state or read_state(hidden)
        if (volumes or state.get("rm") or state.get("status") == "creating") and state.get("mounts"):
            from minirt.engine.volumes import let_go

            let_go(state)
        Store(os.path.join(data_root(), "image")).release(self.id)  # first: who holds an image has a directory
        remove_tree(hidden)


def read_state(path: str) -> dict[str, Any]:
    """Return what state.json in a directory says; nothing where it is not there or not whole."""
    import json

    try:
        with open(os.path.join(path, "state.json"), encoding="utf-8") as file:
            state: dict[str, Any] = json.load(file)
            return state
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return {}


def check_name(name: str) -> None:
    """Refuse what is no name. Raises: UsageError."""
    allowed = name.replace("-", "a").replace("_", "a").replace(".", "a")
    if not (allowed.isascii() and allowed.isalnum() and name[0].isalnum()):
        raise UsageError(f"--name {name!r}: a name is made of letters, digits, _ . -")


def start_time(pid: int) -> int:
    """Return when a process began, in clock ticks since boot: with the pid it names one process (man 5 proc_pid_stat).

    Returns: -1 where it has ended, though nobody may have waited for it yet (Z).
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return -1
    return -1 if fields[0] in (b"Z", b"X") else int(fields[19])


def containers() -> list[Container]:
    """Return all containers, the oldest first."""
    try:
        ids = os.listdir(directory())
    except FileNotFoundError:
        return []
    found = [Container.load(id) for id in ids if not id.startswith(".")]
    return sorted((c for c in found if c is not None), key=lambda c: c.state.get("created", 0.0))


def _still_there(container: Container) -> bool:
    from minirt.engine.gc import mend

    return mend(container)


def find(text: str) -> Container:
    """Return the container with this name, or whose id begins so. Raises: ContainerError."""
    everything = containers()
    matches = [c for c in everything if c.state.get("name") == text] or [
        c for c in everything if len(text) >= 3 and c.id.startswith(text)
    ]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise ContainerError(f"{len(matches)} containers have an id that begins with {text!r}: give more of it")
    raise NoContainer(f"no container {text!r}: `minirt ps -a` lists them")
