"""Commands on one container at the same time, some of them killed on the way: whatever comes first, nothing hangs, there is
never more than one container of a name, and `delete --force` leaves nothing.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from test_oci_kills import NOTHING, DieAt, alive, left
from test_oci_runtime import Runtime

from minirt.runtime.command import main

pytestmark = [
    pytest.mark.root,
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() != 0, reason="making a container's namespaces needs CAP_SYS_ADMIN"),
]

PATIENCE = 60  # seconds
COMMANDS = {
    "create": ["create", "-b", "BUNDLE", "box"],
    "start": ["start", "box"],
    "run": ["run", "-d", "-b", "BUNDLE", "box"],
    "run to the end": ["run", "-b", "BUNDLE", "box"],
    "exec": ["exec", "box", "true"],
    "exec detached": ["exec", "-d", "box", "sleep", "1000"],
    "kill": ["kill", "box", "KILL"],
    "kill all": ["kill", "--all", "box", "TERM"],
    "pause": ["pause", "box"],
    "resume": ["resume", "box"],
    "delete": ["delete", "box"],
    "delete force": ["delete", "--force", "box"],
    "update": ["update", "-r", "RESOURCES", "box"],
    "state": ["state", "box"],
    "list": ["list", "-f", "json"],
    "ps": ["ps", "-f", "json", "box"],
    "events": ["events", "--stats", "box"],
}
ONE = st.tuples(st.sampled_from(sorted(COMMANDS)), st.none() | st.integers(1, 400))  # and the step that it is killed at


class Together(RuleBasedStateMachine):
    """One name, many commands."""

    def __init__(self) -> None:
        super().__init__()
        self.place = tempfile.TemporaryDirectory(prefix="minirt-oci-", dir="/var/tmp")
        os.chmod(self.place.name, 0o755)
        self.runtime = Runtime(Path(self.place.name))
        self.runtime.write()
        (self.runtime.path / "resources.json").write_text("{}")
        self.running: dict[int, str] = {}

    def begin(self, name: str, step: int | None) -> None:
        """Begin a command in a fork of this process."""
        places = {"BUNDLE": str(self.runtime.bundle.path), "RESOURCES": str(self.runtime.path / "resources.json")}
        words = [places.get(word, word) for word in COMMANDS[name]]
        pid = os.fork()
        if pid:
            self.running[pid] = f"{name}, killed at {step}"
            return
        try:
            said = os.open(self.runtime.path / "said", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(said, 1)
            os.dup2(said, 2)
            if step:
                sys.setprofile(DieAt(step))
            code = main(["--root", str(self.runtime.root), *words])
            sys.setprofile(None)
            os._exit(code)
        finally:
            os._exit(99)

    def finish(self, but: int = 0) -> None:
        """Wait until all commands have ended; those that wait for a thaw are helped, what stays with a container is ended."""
        end = time.monotonic() + PATIENCE
        helped = time.monotonic() + 1
        while self.running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                assert time.monotonic() < end, f"{self.running} do not end: {(self.runtime.path / 'said').read_text()}"
                if time.monotonic() > helped:
                    helped = end
                    self.begin("resume", None)
                    self.begin("kill", None)
                time.sleep(0.002)
            elif pid in self.running:
                name, code = self.running.pop(pid), os.waitstatus_to_exitcode(status)
                assert code in (0, 1, 255, 137, 143, -signal.SIGKILL), (name, code)

    @rule(commands=st.lists(ONE, min_size=1, max_size=3))
    def at_once(self, commands: list[tuple[str, int | None]]) -> None:
        for name, step in commands:
            self.begin(name, step)
        self.finish()

    @invariant()
    def there_is_one_container_at_most_and_its_state_is_whole(self) -> None:
        firsts = [pid for pid in alive(self.runtime) if first_of_its_namespace(pid)]
        assert len(firsts) <= 1, firsts
        state = self.runtime.root / "box" / "state.json"
        if state.exists():
            assert json.loads(state.read_text())["id"] == "box"

    @invariant()
    def no_mistake_of_ours_was_told(self) -> None:
        said = self.runtime.path / "said"
        assert not said.exists() or "--debug shows where" not in said.read_text(), said.read_text()

    def teardown(self) -> None:
        self.begin("delete force", None)
        self.finish()
        found = left(self.runtime)
        self.place.cleanup()
        assert found == NOTHING


def first_of_its_namespace(pid: int) -> bool:
    """Whether a process is pid 1 somewhere, and lives."""
    try:
        lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    except OSError:
        return False
    return lines["NSpid"].split()[-1] == "1" and lines["State"].split()[0] != "Z"


@pytest.fixture(autouse=True)
def orphans() -> object:
    """Get the orphans, to reap them at once (man 2 prctl, PR_SET_CHILD_SUBREAPER)."""
    import ctypes

    libc = ctypes.CDLL(None)
    libc.prctl(36, 1, 0, 0, 0)
    yield
    libc.prctl(36, 0, 0, 0, 0)


@pytest.mark.parametrize("examples", [pytest.param(12, id="some"), pytest.param(300, id="many", marks=pytest.mark.long)])
def test_commands_at_the_same_time(examples: int) -> None:
    checks = settings(max_examples=examples, stateful_step_count=6, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(Together, settings=checks)
