"""A container: a row of the database and a directory, made under a random id, found by a name or the beginning of an id.

    containers/ID/config.json   the OCI configuration        upper/   what the container changed
                  hosts, hostname, resolv.conf               work/    overlayfs's own
                                                             merged/  where the root is mounted, in its namespace only

    and of one that is made to be started (start.py):
                  options.json  what was asked for           log      what it wrote; log.1 ... are older
                  attach        socket of its monitor        exit     how it ended, as the monitor saw it
                  stop          there: its end is wanted, so it is not started again

Name, state and all else that others ask for is in its row (minirt.state.containers). A container is there when its row is, until
that says that it is being removed. The row is the last to be made, and gone when nothing but the directory is left. So a
directory without a row is being made or removed by who holds the lock on it (owner.py), or a killed minirt has left it.
"""

from __future__ import annotations

import os
from contextlib import contextmanager

from minirt.errors import MinirtError, UsageError
from minirt.linux.process import ENDED, start_time
from minirt.paths import data_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from minirt.linux.cgroup_group import Cgroup
    from minirt.state.database import Database

    Happening = tuple[str, Mapping[str, str]]

__all__ = [
    "ALONE", "LOST", "UNSEEN", "Conflict", "Container", "ContainerError", "NameTaken", "NoContainer", "check_name", "containers",
    "died_attributes", "find", "while_there",
]  # fmt: skip

UNSEEN = 255  # exit code of a program whose end nobody saw, as containerd has it
LOST = "the process that stayed with it was killed, so nobody saw how it ended"  # what inspect tells of such a container
ALONE = "the process that stayed with it was killed: what it writes is lost, and nobody will see how it ends"  # while it runs


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
    """One container's directory, and what its row said when it was read."""

    __slots__ = ("id", "owner", "path", "state")

    def __init__(self, state: dict[str, Any]) -> None:
        self.id: str = state["id"]
        self.path = os.path.join(directory(), self.id)
        self.state = state
        self.owner = -1  # descriptor that makes it ours (owner.py), until `close`

    @classmethod
    def create(
        cls, name: str, image: str, command: list[str], rm: bool = False, labels: dict[str, str] | None = None, **more: Any
    ) -> Container:
        """Make a container, and own it until `close`.

        Args:
            name: at most one container has it; empty for none.
            image: the name that it was made from.
            command: what it runs, for `minirt ps`.
            rm: it goes when it ends, whoever sees that.
            labels: its own and its image's.
            more: other columns of its row.

        Raises: NameTaken, UsageError for what is no name, MinirtError where it cannot be made.
        """
        import time

        from minirt.engine import owner

        if name:
            check_name(name)
        state = {
            "id": os.urandom(32).hex(), "name": name, "image": image, "command": command, "labels": labels or {}, "rm": rm,
            "created": time.time(), "status": "creating", **more,
        }  # fmt: skip
        container = cls(state)
        try:
            os.makedirs(directory(), exist_ok=True)
            with owner.making(directory()):
                os.mkdir(container.path, 0o711)
                container.owner = owner.take(container.path)
        except OSError as error:
            raise MinirtError(f"{directory()}: {error.strerror}: containers are kept there") from None
        try:
            for part in ("upper", "work", "merged"):
                os.mkdir(os.path.join(container.path, part), 0o755)
            container._enter()
        except BaseException:
            container.remove()
            container.close()
            raise
        return container

    def _enter(self) -> None:
        """Add the row. Raises: NameTaken, unless who has the name is one that was to be removed at its end."""
        from minirt.state import containers as rows
        from minirt.state.schema import State

        while True:
            with State() as base:
                holder = rows.named(base, self.state["name"]) if self.state["name"] else None
                if holder is None:
                    rows.add(base, self.state)
                    return
            if _still_there(Container(holder)):
                name = self.state["name"]
                raise NameTaken(f"the name {name!r} is in use: minirt rm {name} removes that container")

    @classmethod
    def load(cls, id: str, removing: bool = False) -> Container | None:
        """Return a container by its whole id, or None where it is not there. Args: removing, also one that is being removed."""
        from minirt.state.containers import one
        from minirt.state.schema import State

        with State(look=True) as base:
            state = one(base, id, removing)
        return None if state is None else cls(state)

    def close(self) -> None:
        """Own it no longer."""
        if self.owner >= 0:
            os.close(self.owner)
            self.owner = -1

    def save(self, happened: Sequence[Happening] = (), **changes: Any) -> None:
        """Change its row, and write down what happens with that: all of it, or nothing.

        Args:
            happened: events, each an action and attributes beside those that every event of it has.
            changes: columns (minirt.state.containers).

        Raises: NameTaken.
        """
        from _sqlite3 import IntegrityError

        from minirt.state.containers import change
        from minirt.state.schema import State

        now = Container({**self.state, **changes})
        try:
            with State() as base:
                if changes:
                    change(base, self.id, changes)
                now.note(base, happened)
        except IntegrityError:
            raise NameTaken(f"the name {now.state['name']!r} is in use") from None
        self.state = now.state

    def tell(self, action: str, **attributes: str) -> None:
        """Write down that something happens to it: an event."""
        self.save([(action, attributes)])

    def note(self, base: Database, happened: Sequence[Happening]) -> None:
        """Write down what happens to it in a transaction, and what that means for its volumes."""
        from minirt.state.events import note

        volumes = [made for made in self.state.get("mounts", ()) if made["kind"] == "volume"]
        for action, attributes in happened:
            for made in volumes if action == "start" else ():
                more = {"destination": made["target"], "propagation": "", "read/write": str(not made["read_only"]).lower()}
                note(base, "volume", "mount", made["source"], {"container": self.id, "driver": "local", **more})
            note(base, "container", action, self.id, {**self.attributes(), **attributes})
            for made in volumes if action == "die" else ():
                note(base, "volume", "unmount", made["source"], {"container": self.id, "driver": "local"})

    def attributes(self) -> dict[str, str]:
        """Return what each event of it says: its image, its name, its labels."""
        return {**self.state.get("labels", {}), "image": str(self.state.get("image", "")), "name": self.label}

    def write(self, name: str, text: str) -> str:
        """Write a file of the container's and return its path."""
        path = os.path.join(self.path, name)
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(f"{path}.new", path)
        return path

    @property
    def running(self) -> bool:
        """Whether the process that its row names is there and is the same one, by its start time."""
        pid = self.state.get("pid", 0)
        return bool(pid) and start_time(pid) == self.state.get("started_ticks") != ENDED

    @property
    def label(self) -> str:
        """What people call it: its name, or the beginning of its id."""
        return str(self.state.get("name") or self.id[:12])

    @property
    def paused(self) -> bool:
        """Whether its processes are held still."""
        group = self.cgroup
        try:
            return group is not None and group.is_frozen()
        except OSError:  # it has ended meanwhile
            return False

    @property
    def exit_code(self) -> int:
        """How it ended; UNSEEN where nobody saw that, and 0 where it has not."""
        code = self.state.get("exit_code")
        if code is None:
            return UNSEEN if self.state.get("status") == "exited" else 0
        return int(code)

    @property
    def cgroup(self) -> Cgroup | None:
        """Its cgroup, None where it has none now."""
        from minirt.engine.gc import groups
        from minirt.linux.cgroup_files import CgroupError
        from minirt.linux.cgroup_group import Cgroup

        try:
            return next((Cgroup.open(group) for group in groups(self.id)), None)
        except CgroupError:  # it has ended just now
            return None

    def remove(self, happened: Sequence[Happening] = (), volumes: bool = False) -> None:
        """Remove it with all that it changed, and let go of its image. The caller owns it.

        Args:
            happened: events that come before its end.
            volumes: remove those that were made for it alone too; which is done for --rm, and for one that never began.
        """
        from minirt.image.store import Store
        from minirt.linux.rmtree import remove_tree
        from minirt.state import containers as rows
        from minirt.state.schema import State

        with State() as base:
            row = rows.one(base, self.id, removing=True)
            if row is not None and row["status"] != "removing":
                row["rm"] = volumes or row["rm"] or row["status"] == "creating"
                rows.change(base, self.id, {"status": "removing", "name": "", "rm": row["rm"]})
                if row["status"] != "creating" and not row["step"]:
                    Container(row).note(base, (*happened, ("destroy", {})))
        if row is not None and row["rm"] and row["mounts"]:
            from minirt.engine.volumes import let_go

            let_go(row)
        Store(os.path.join(data_root(), "image")).release(self.id)  # first: who holds an image has a directory
        with State() as base:
            rows.forget(base, self.id)
        if os.path.isdir(self.path):
            remove_tree(self.path)


def died_attributes(code: int | None, lived: float) -> dict[str, str]:
    """Return what the event `die` says. Args: code, None where nobody saw it (255, as containerd has it); lived, in s."""
    return {"exitCode": str(UNSEEN if code is None else code), "execDuration": str(int(max(lived, 0.0)))}


def check_name(name: str) -> None:
    """Refuse what is no name. Raises: UsageError."""
    allowed = name.replace("-", "a").replace("_", "a").replace(".", "a")
    if not (allowed.isascii() and allowed.isalnum() and name[0].isalnum()):
        raise UsageError(f"--name {name!r}: a name is made of letters, digits, _ . -")


def containers() -> list[Container]:
    """Return all containers, the oldest first."""
    from minirt.state.containers import everything
    from minirt.state.schema import State

    with State(look=True) as base:
        return [Container(state) for state in everything(base)]


def _still_there(container: Container) -> bool:
    from minirt.engine.gc import mend

    return mend(container)


def find(text: str) -> Container:
    """Return the container with this name, or whose id begins so. Raises: ContainerError."""
    from minirt.state import containers as rows
    from minirt.state.schema import State

    with State(look=True) as base:
        state = rows.one(base, text) or rows.named(base, text)
        matches = [state] if state else rows.beginning(base, text) if text else []
    if len(matches) == 1:
        return Container(matches[0])
    if matches:
        raise ContainerError(f"{len(matches)} containers have an id that begins with {text!r}: give more of it")
    raise NoContainer(f"no container {text!r}: `minirt ps -a` lists them")


@contextmanager
def while_there(container: Container) -> Iterator[None]:
    """Do something with a container's files, or its image, which is not ours; where that fails as it was removed, say that.

    Raises: NoContainer; Conflict where it is not there yet: its row comes before its image and its files.
    """
    try:
        yield
    except (OSError, MinirtError):
        if Container.load(container.id) is None:
            raise NoContainer(f"container {container.label} was removed") from None
        if container.state["status"] == "creating":
            raise Conflict(f"container {container.label} is just being made: try again") from None
        raise
