"""More processes in a container, each with a monitor of its own: begun by one client, looked at by another, in whatever server.

    create   options ─▶ containers/ID/exec/EXEC/options.json
    start    ─▶ `begun`; `attach`, the socket of its monitor; `process`, which one it is (exec_start.py)
    its end  ─▶ `exit`, and the event exec_die (exec_ended.py)

`minirt exec` needs none of that unless it is to be detached: it stays with what it starts (exec.py).
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress

from minirt.engine.container import Container, NoContainer, containers
from minirt.engine.exits import read_exit
from minirt.engine.removal import running, while_running
from minirt.errors import MinirtError
from minirt.linux.process import ENDED, start_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.engine.options import RunOptions

__all__ = ["Exec", "begun", "create", "find"]

KEPT = 300.0  # s that one which has ended can still be asked how


class Exec:
    """One such process. Args: container, that it is in; id, its own."""

    def __init__(self, container: Container, id: str) -> None:
        self.container = container
        self.id = id
        self.path = os.path.join(container.path, "exec", id)

    @property
    def options(self) -> RunOptions:
        """What was asked for."""
        from minirt.engine.options import RunOptions

        try:
            with open(f"{self.path}/options.json", encoding="utf-8") as file:
                chosen = json.load(file)
        except FileNotFoundError:  # its container was removed
            raise NoContainer(f"no exec {self.id!r}") from None
        image, command = chosen.pop("image"), chosen.pop("command")
        return RunOptions(image, command, **chosen)

    @property
    def process(self) -> int:
        """Its number on the host; 0 before its start, and where it has ended."""
        try:
            with open(f"{self.path}/process", encoding="ascii") as file:
                pid, ticks = map(int, file.read().split())
        except (FileNotFoundError, ValueError):
            return 0
        return pid if start_time(pid) == ticks != ENDED else 0

    @property
    def begun(self) -> bool:
        """Whether somebody has started it."""
        return os.path.exists(f"{self.path}/begun")

    @property
    def exit_code(self) -> int | None:
        """How it has ended, None where that is not known (yet)."""
        ended = read_exit(self)
        return ended[0] if ended else None

    def tell(self, action: str) -> None:
        """Write down that something happens to it: an event of its container."""
        command = "" if action == "exec_die" else f": {' '.join(self.options.command)}"
        code = {} if self.exit_code is None else {"exitCode": str(self.exit_code)}
        with suppress(MinirtError):  # the container was removed meanwhile
            self.container.tell(f"{action}{command}", execID=self.id, **code)

    def note(self, name: str, text: str) -> None:
        """Write a file, whole under its name or not at all."""
        with open(f"{self.path}/{name}.new", "w", encoding="ascii") as file:
            file.write(text)
        os.rename(f"{self.path}/{name}.new", f"{self.path}/{name}")


def create(container: Container, options: RunOptions) -> Exec:
    """Make one that can be started. Raises: Conflict where the container does not run."""
    os.close(running(container))
    with while_running(container):
        sweep(container)
        made = Exec(container, os.urandom(32).hex())
        with suppress(FileExistsError):
            os.mkdir(os.path.dirname(made.path), 0o700)  # no more than that: the container may have been removed
        os.mkdir(made.path, 0o700)
        made.note("options.json", json.dumps(vars(options)))
    made.tell("exec_create")
    return made


def begun(container: Container) -> list[Exec]:
    """Return those of a container that run."""
    return [exec for exec in all_of(container) if exec.process]


def all_of(container: Container) -> list[Exec]:
    """Return all that were made in a container, and are kept."""
    try:
        return [Exec(container, id) for id in os.listdir(f"{container.path}/exec")]
    except FileNotFoundError:
        return []


def sweep(container: Container) -> None:
    """Forget those that ended a while ago, also those whose monitor was killed before it saw that."""
    from minirt.linux.rmtree import remove_tree

    for exec in all_of(container):
        ended = read_exit(exec)
        over = ended is not None or (exec.begun and not exec.process)
        when = ended[1] if ended else os.stat(exec.path).st_mtime
        if over and time.time() - when > KEPT:
            remove_tree(exec.path)


def find(id: str) -> Exec:
    """Return one by its id. Raises: NoContainer."""
    for container in containers():
        if id.isalnum() and os.path.isdir(f"{container.path}/exec/{id}"):
            return Exec(container, id)
    raise NoContainer(f"no exec {id!r}")
