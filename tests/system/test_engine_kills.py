"""The engine's commands killed by SIGKILL at each of their steps, and many at once on the same containers: the next command
finds each container whole or gone, can go on with it, and in the end nothing is left.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command import Minirt
from test_gc import NOTHING, die, ids, left, processes

from minirt.engine import changes, control, ended, gc, owner, volumes
from minirt.engine.container import Container, ContainerError, NameTaken, containers, find
from minirt.engine.exec import execute
from minirt.engine.inspect import inspect
from minirt.engine.options import RunOptions
from minirt.engine.removal import remove
from minirt.engine.start import create, run_detached, start
from minirt.engine.update import update
from minirt.errors import MinirtError
from minirt.state.database import Database
from minirt.volume.store import VolumeError

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() != 0, reason="a container without a user namespace takes root"),
]
LIMIT = 40.0  # seconds that something may take on a busy machine


@pytest.fixture
def root(minirt: Minirt, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("MINIRT_ROOT", str(minirt.root))
    yield minirt.root
    for container in containers():
        remove(container, force=True)


def options(name: str = "box", **chosen: object) -> RunOptions:
    return RunOptions("busybox", ["sleep", "1000"], name=name, detach=True, stop_timeout=0, **chosen)


def until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + LIMIT
    while not holds():
        assert time.monotonic() < end, "it never came to pass"
        time.sleep(0.02)


def monitor_of(container: Container) -> int:
    """The pid of the monitor of a container that runs."""
    pid = int(Path(f"/proc/{container.state['pid']}/stat").read_text().rpartition(")")[2].split()[1])
    assert Path(f"/proc/{pid}/comm").read_text() == "minirt-monitor\n"
    return pid


def made() -> None:
    create(options())


def begun() -> None:
    run_detached(create(options()))


def over() -> None:
    begun()
    control.stop(find("box"), 0)


def unseen() -> None:
    """It has ended and its monitor was killed, so that nobody has seen that."""
    begun()
    container = find("box")
    pid = container.state["pid"]
    os.kill(monitor_of(container), signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    until(lambda: not find("box").running and (fd := owner.take(container.path)) >= 0 and os.close(fd) is None)


def tidy() -> None:
    """What the monitor's command does (python -m minirt.engine.ended), with the lock as its descriptor 3."""
    container = find("box")
    fd = owner.take(container.path)
    if fd != ended.LOCK:
        os.dup2(fd, ended.LOCK)
        os.close(fd)
    ended.main(container.id)


COMMANDS: dict[str, tuple[Callable[[], None], Callable[[], object], int]] = {  # what is before, the command, each how manieth step
    "create": (lambda: None, made, 3),
    "run": (lambda: None, begun, 8),
    "start": (made, lambda: start(find("box")), 6),
    "start again": (over, lambda: start(find("box")), 9),
    "stop": (begun, lambda: control.stop(find("box"), 0), 3),
    "restart": (begun, lambda: control.restart(find("box"), 0), 12),
    "kill": (begun, lambda: control.kill(find("box"), signal.SIGKILL), 2),
    "rename": (made, lambda: control.rename(find("box"), "crate"), 2),
    "update": (made, lambda: update(find("box"), {"restart": "always"}), 2),
    "rm": (made, lambda: remove(find("box")), 3),
    "rm -f": (begun, lambda: remove(find("box"), force=True), 6),
    "ended": (unseen, tidy, 4),
    "gc": (unseen, lambda: gc.collect(), 4),
}


class Steps:
    """Dies at the n-th file, process or statement that is touched."""

    WANTED = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chown", "os.chmod", "open", "fcntl.flock", "os.fork",
              "os.posix_spawn", "signal.pidfd_send_signal", "sqlite3.connect")  # fmt: skip

    def __init__(self, die_at: int) -> None:
        self.left = die_at

    def __call__(self, event: str = "", args: tuple[object, ...] = ()) -> None:
        if not event or event in self.WANTED:
            self.left -= 1
            if self.left == 0:
                die()


def killed_at(step: int, command: Callable[[], object]) -> bool:
    """Run a command in a process of its own; say whether that was killed before it came to its end."""
    pid = os.fork()
    if pid == 0:
        nothing = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(nothing, fd)
        steps, execute = Steps(step), Database.execute
        Database.execute = lambda self, *words: (steps(), execute(self, *words))[1]  # type: ignore[method-assign]
        sys.addaudithook(steps)
        try:
            command()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def nothing_is_left(root: Path, known: set[str]) -> None:
    """Remove all, and see that all is gone."""
    for container in containers():
        remove(container, force=True)
    until(lambda: not processes(root))
    until(lambda: gc.collect() == [] and left(root, known) == NOTHING)


@pytest.mark.parametrize("name", COMMANDS)
def test_killed_at_many_a_step_the_next_command_goes_on(name: str, root: Path) -> None:
    kill_at_each(root, *COMMANDS[name])


@pytest.mark.long
@pytest.mark.parametrize("name", COMMANDS)
def test_killed_at_each_step_the_next_command_goes_on(name: str, root: Path) -> None:
    kill_at_each(root, *COMMANDS[name][:2], 1)


def kill_at_each(root: Path, before: Callable[[], None], command: Callable[[], object], every: int) -> None:
    """Kill a command at each how manieth step, and look what the next ones make of it."""
    step, moments, going = 1, 0, True
    while going:
        (root / "lib" / "containers").mkdir(exist_ok=True)
        before()
        going = killed_at(step, command)
        found = [container for container in containers() if gc.mend(container)]
        assert len(found) <= 1 and all(container.state["name"] in ("box", "crate") for container in found), f"killed at step {step}"
        known = ids(root)
        if found and found[0].state["status"] != "creating" and moments % 3 == 0:
            until(lambda: start(find(found[0].id)) and find(found[0].id).running)  # again, where one was just about to end  # noqa: B023
        elif not found:  # its name is free
            create(options())
            known = ids(root)
        nothing_is_left(root, known)
        step += every
        moments += 1
    assert moments > 4


def commands_at_once(root: Path, seconds: float, threads: int) -> dict[str, int]:
    """Let threads do what they like with a few names. Returns how often each answer came; what is no answer of ours is raised."""
    ways: list[Callable[[str], object]] = [
        lambda name: run_detached(create(options(name))),
        lambda name: create(options(name, rm=True)),
        lambda name: start(find(name)),
        lambda name: control.stop(find(name), 0),
        lambda name: control.kill(find(name), signal.SIGKILL),
        lambda name: control.restart(find(name), 0),
        lambda name: control.rename(find(name), "c" if name == "a" else "a"),
        lambda name: remove(find(name), force=True),
        lambda name: gc.collect(),
        lambda name: [gc.mend(container) for container in containers()],
        lambda name: run_detached(create(options(name, volume=[f"vol-{name}:/named", "/nameless"]))),
        lambda name: volumes.create(f"vol-{name}"),
        lambda name: volumes.remove(f"vol-{name}"),
        lambda name: volumes.prune(everything=True),
        lambda name: execute(find(name), RunOptions("", ["true"], detach=True)),
        lambda name: control.pause(find(name)),
        lambda name: control.unpause(find(name)),
        lambda name: update(find(name), {"restart": "always"}),
        lambda name: list(changes.changes(find(name))),
        lambda name: inspect(find(name)),
    ]
    answers: dict[str, int] = {}
    broken: list[BaseException] = []
    end = time.monotonic() + seconds

    def work(number: int) -> None:
        chosen = random.Random(number)
        while time.monotonic() < end and not broken:
            try:
                chosen.choice(ways)(chosen.choice("abc"))
                answer = "done"
            except MinirtError as error:
                answer = type(error).__name__
                if not isinstance(error, (ContainerError, NameTaken, VolumeError)):
                    broken.append(error)
            except BaseException as error:
                broken.append(error)
                return
            answers[answer] = answers.get(answer, 0) + 1

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if broken:
        raise broken[0]
    names = [container.state["name"] for container in containers()]
    assert len(names) == len(set(names))
    nothing_is_left(root, ids(root))
    return answers


def test_many_commands_at_once_are_done_or_refused(root: Path) -> None:
    answers = commands_at_once(root, 6.0, 6)
    assert answers.get("done", 0) > 3


@pytest.mark.long
def test_many_commands_at_once_for_longer(root: Path) -> None:
    assert commands_at_once(root, 120.0, 12).get("done", 0) > 10
