"""The engine's commands in any order against a model: which containers there are, what each does, what each command answers."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command import Minirt, gone
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from minirt.engine import control, gc
from minirt.engine.container import Conflict, Container, NameTaken, NoContainer, containers, find
from minirt.engine.inspect import state_of
from minirt.engine.options import RunOptions
from minirt.engine.removal import remove
from minirt.engine.start import create, run_detached, start
from minirt.engine.update import update
from minirt.state.events import events_after
from minirt.state.schema import State

pytestmark = [
    pytest.mark.timeout(1800),
    pytest.mark.skipif(os.geteuid() != 0, reason="a container without a user namespace takes root"),
]
LIMIT = 40.0  # seconds that something may take on a busy machine
NAMES = st.sampled_from("xyz")  # no beginning of an id, which would be found by it


def until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + LIMIT
    while not holds():
        assert time.monotonic() < end, "it never came to pass"
        time.sleep(0.01)


class Known:
    """What the model knows of a container."""

    def __init__(self, rm: bool, policy: str) -> None:
        self.status = "created"
        self.rm = rm
        self.policy = policy
        self.code: int | None = 0
        self.watched = True  # its monitor lives
        self.restarts = 0
        self.told = ["create"]


class Engine(RuleBasedStateMachine):
    """The rules: a command, and what it must come to."""

    def __init__(self) -> None:
        super().__init__()
        self.model: dict[str, Known] = {}
        self.gone: list[list[str]] = []  # what was told of those that are no more

    def teardown(self) -> None:
        for container in containers():
            remove(container, force=True)
        assert gc.collect() == [] and containers() == []
        shutil.rmtree(os.path.join(os.environ["MINIRT_ROOT"], "lib", "containers"), ignore_errors=True)

    def refused(self, name: str, do: Callable[[], object], *kinds: type[Exception]) -> None:
        with pytest.raises(kinds if name in self.model else NoContainer):
            do()

    def ended(self, name: str, code: int | None, *told: str) -> None:
        """Its program has ended and is not started again."""
        known = self.model[name]
        known.told += told
        if known.rm and known.watched:
            until(lambda: all(container.state["name"] != name for container in containers()))
            self.forget(name)
        else:
            known.status, known.code = "exited", code

    def forget(self, name: str) -> None:
        self.gone.append([*self.model.pop(name).told, "destroy"])

    @rule(name=NAMES, rm=st.booleans(), policy=st.sampled_from(["no", "no", "on-failure:1"]), begin=st.booleans())
    def create(self, name: str, rm: bool, policy: str, begin: bool) -> None:
        policy = "no" if rm else policy
        options = RunOptions("busybox", ["sleep", "1000"], name=name, rm=rm, restart=policy, detach=True, stop_timeout=0)
        if name in self.model:
            with pytest.raises(NameTaken):
                create(options)
            return
        made = create(options)
        self.model[name] = Known(rm, policy)
        if begin:
            run_detached(made)
            self.model[name].status = "running"
            self.model[name].told.append("start")

    @rule(name=NAMES)
    def start(self, name: str) -> None:
        known = self.model.get(name)
        if known is None:
            self.refused(name, lambda: start(find(name)))
            return
        start(find(name))
        if known.status != "running":
            known.status, known.watched, known.restarts = "running", True, 0
            known.told.append("start")

    @rule(name=NAMES)
    def stop(self, name: str) -> None:
        known = self.model.get(name)
        if known is None:
            self.refused(name, lambda: control.stop(find(name), 0))
            return
        unwatched = known.status == "running" and not known.watched
        control.stop(find(name), 0)
        if known.status != "running":
            return
        if unwatched:  # who looks next sees the end
            known.told += ["kill", "kill", "stop"]
            self.mended(name, stopped=True)
        else:
            self.ended(name, 137, "kill", "kill", "die", *([] if known.rm else ["stop"]))

    def mended(self, name: str, stopped: bool = False) -> None:
        """The end of one that nobody was with."""
        known = self.model[name]
        there = gc.mend(find(name))
        known.told.append("die") if there else None
        if not there:
            self.forget(name)
        else:
            known.status, known.code = "exited", None

    @rule(name=NAMES)
    def kill(self, name: str) -> None:
        known = self.model.get(name)
        if known is None or known.status != "running":
            self.refused(name, lambda: control.kill(find(name), signal.SIGKILL), Conflict)
            return
        container = find(name)
        control.kill(container, signal.SIGKILL)
        until(lambda: not container.running)
        if known.watched:
            control.settle(container)
            self.ended(name, 137, "kill", "die")
        else:
            known.told.append("kill")
            self.mended(name)

    @rule(name=NAMES)
    def its_program_has_an_accident(self, name: str) -> None:
        known = self.model.get(name)
        if known is None or known.status != "running":
            return
        container = find(name)
        os.kill(container.state["pid"], signal.SIGKILL)
        until(lambda: not container.running)
        if not known.watched:
            self.mended(name)
        elif known.policy == "on-failure:1" and not known.restarts:
            until(lambda: find(name).running)
            known.told += ["die", "start"]
            known.restarts += 1
        else:
            control.settle(container)
            self.ended(name, 137, "die")

    @rule(name=NAMES)
    def rename(self, name: str) -> None:
        other = {"x": "y", "y": "z", "z": "x"}[name]
        if name not in self.model:
            self.refused(name, lambda: control.rename(find(name), other))
        elif other in self.model:
            self.refused(name, lambda: control.rename(find(name), other), NameTaken)
        else:
            control.rename(find(name), other)
            self.model[other] = self.model.pop(name)
            self.model[other].told.append("rename")

    @rule(name=NAMES, force=st.booleans())
    def remove(self, name: str, force: bool) -> None:
        known = self.model.get(name)
        if known is None or (known.status == "running" and not force):
            self.refused(name, lambda: remove(find(name), force), Conflict)
            return
        remove(find(name), force)
        if known.status == "running":
            known.told += ["kill", *(["die"] if known.watched else [])]
        self.forget(name)

    @rule(name=NAMES, policy=st.sampled_from(["no", "on-failure:1"]))
    def update(self, name: str, policy: str) -> None:
        known = self.model.get(name)
        if known is None or (known.rm and policy != "no"):
            self.refused(name, lambda: update(find(name), {"restart": policy}), Conflict)
            return
        update(find(name), {"restart": policy})
        known.policy = policy
        known.told.append("update")

    @rule(name=NAMES)
    def kill_its_monitor(self, name: str) -> None:
        known = self.model.get(name)
        if known is None or known.status != "running" or not known.watched:
            return
        container = find(name)
        above = int(Path(f"/proc/{container.state['pid']}/stat").read_text().rpartition(")")[2].split()[1])
        assert Path(f"/proc/{above}/comm").read_text() == "minirt-monitor\n"
        pidfd = os.pidfd_open(above)
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.close(pidfd)
        until(lambda: gone(above))
        known.watched = False

    @rule(name=NAMES)
    def collect(self, name: str) -> None:
        assert gc.collect() == []

    @invariant()
    def what_there_is_is_what_the_model_says(self) -> None:
        found = {container.state["name"]: container for container in containers()}
        assert set(found) == set(self.model)
        for name, container in found.items():
            known, state = self.model[name], state_of(container)
            assert (state["Status"], state["Running"]) == (known.status, known.status == "running")
            if known.status == "exited":
                assert container.state["exit_code"] == known.code and state["Pid"] == 0
            assert (container.state["restart"], container.state["restarts"]) == (known.policy, known.restarts)
            assert told_of(container) == known.told


def told_of(container: Container) -> list[str]:
    """The actions that were told of a container."""
    with State(look=True) as base:
        return [event.action for event in events_after(base, 0) if event.id == container.id]


@pytest.fixture
def root(image_store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(prefix="minirt-model-", dir="/var/tmp"))
    place.chmod(0o755)
    (place / "lib").mkdir()
    (place / "lib" / "image").symlink_to(image_store / "lib" / "image")
    (place / "cache").symlink_to(image_store / "cache")
    monkeypatch.setenv("MINIRT_ROOT", str(place))
    assert Minirt(place)("ps").returncode == 0
    yield place
    shutil.rmtree(place)


def check(examples: int, steps: int) -> None:
    slow = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    run_state_machine_as_test(
        Engine, settings=settings(max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=slow)
    )


def test_the_engine_does_what_the_model_says(root: Path) -> None:
    check(15, 25)


@pytest.mark.long
def test_the_engine_does_what_the_model_says_for_long(root: Path) -> None:
    check(150, 40)
