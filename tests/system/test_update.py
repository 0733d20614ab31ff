"""`minirt update`, and what --restart means in each life. Cgroups are seen in the lab (tests/lab/test_engine_limits.py)."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable

import pytest
from command import Minirt
from hypothesis import given
from hypothesis import strategies as st

from minirt.engine.restarts import FIRST, MOST, next_start

root = pytest.mark.skipif(os.geteuid() != 0, reason="a container without a user namespace takes root")
LIMIT = 40.0  # seconds that something may take on a busy machine


def inspect(minirt: Minirt, name: str) -> dict:  # type: ignore[type-arg]
    return json.loads(minirt.good("inspect", name))[0]


def until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + LIMIT
    while not holds():
        assert time.monotonic() < end, "it never came to pass"
        time.sleep(0.05)


def kill(minirt: Minirt, name: str) -> None:
    """End its program as an accident would."""
    os.kill(inspect(minirt, name)["State"]["Pid"], signal.SIGKILL)


@root
def test_a_policy_that_is_changed_counts_from_then_on(mine: Minirt) -> None:
    mine.good("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    assert mine.good("update", "--restart", "always", "box") == "box\n"
    assert inspect(mine, "box")["HostConfig"]["RestartPolicy"]["Name"] == "always"
    kill(mine, "box")
    until(lambda: inspect(mine, "box")["RestartCount"] == 1 and inspect(mine, "box")["State"]["Running"])
    mine.good("update", "--restart", "no", "box")
    kill(mine, "box")
    until(lambda: inspect(mine, "box")["State"]["Status"] == "exited")
    assert '"update"' in mine.good("events", "--since", "1h", "--until", "0s", "--format", "json")


@root
def test_a_policy_taken_back_while_it_waits_to_start_again_ends_that(mine: Minirt) -> None:
    mine.good("run", "-d", "--name", "box", "--restart", "always", "busybox", "false")
    until(lambda: inspect(mine, "box")["RestartCount"] >= 5)  # from now on it waits for seconds
    mine.good("update", "--restart", "no", "box")
    until(lambda: inspect(mine, "box")["State"]["Status"] == "exited")


@root
def test_what_is_killed_or_stopped_by_us_stays_so_and_counts_anew_when_started(mine: Minirt) -> None:
    mine.good("run", "-d", "--name", "box", "--restart", "unless-stopped", "busybox", "sleep", "1000")
    kill(mine, "box")
    until(lambda: inspect(mine, "box")["RestartCount"] == 1 and inspect(mine, "box")["State"]["Running"])
    mine.good("kill", "box")
    mine.good("wait", "box")
    assert inspect(mine, "box")["State"]["Status"] == "exited"
    mine.good("start", "box")
    assert inspect(mine, "box")["RestartCount"] == 0
    mine.good("restart", "-t", "0", "-s", "KILL", "box")
    assert inspect(mine, "box")["State"]["Running"] and inspect(mine, "box")["RestartCount"] == 0


@root
def test_restart_starts_what_has_ended_and_refuses_what_cannot_be_started(mine: Minirt) -> None:
    mine.good("create", "--name", "box", "busybox", "sleep", "1000")
    mine.good("restart", "box")
    assert inspect(mine, "box")["State"]["Running"]
    assert mine("run", "--name", "here", "busybox", "true").returncode == 0
    done = mine("restart", "here")
    assert done.returncode == 1 and "in the foreground" in done.stderr


@root
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "one flag or more"),
        (("--restart", "sometimes"), "--restart sometimes"),
        (("--restart", "always"), "--rm"),
        (("--memory", "1k"), "--memory 1k"),
        (("--cpus", "1", "--cpu-quota", "1000"), "say the same"),
    ],
)
def test_bad_words_are_one_line_and_change_nothing(mine: Minirt, words: tuple[str, ...], said: str) -> None:
    mine.good("create", "--rm", "--name", "box", "busybox", "true")
    before = inspect(mine, "box")
    done = mine("update", *words, "box")
    assert done.returncode and done.stderr.count("\n") == 1 and said in done.stderr, done.stderr
    assert inspect(mine, "box") == before


@root
def test_a_word_that_is_no_policy_is_told(minirt: Minirt) -> None:
    done = minirt("run", "--restart", "sometimes", "busybox", "true")
    assert done.returncode == 125 and "there are no, always" in done.stderr


@root
def test_who_runs_one_that_is_started_again_sees_its_first_life(mine: Minirt) -> None:
    done = mine("run", "--name", "box", "--restart", "on-failure:2", "busybox", "sh", "-c", "echo life; echo lost >&2; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, "life\n", "lost\n")
    until = time.monotonic() + 60
    while inspect(mine, "box")["State"]["Status"] != "exited" or inspect(mine, "box")["RestartCount"] < 2:
        assert time.monotonic() < until
    assert mine.good("logs", "box") == "life\n" * 3


@root
def test_streams_that_are_not_asked_for_are_not_shown(mine: Minirt) -> None:
    words = ("--restart", "on-failure:1", "-i", "-a", "stdout", "busybox", "sh", "-c", "cat; echo out; echo err >&2")
    done = mine("run", *words, input="typed\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "out\n", "")


POLICIES = st.sampled_from(["no", "always", "unless-stopped", "on-failure", "on-failure:3"])


@given(policy=POLICIES, code=st.sampled_from([None, 0, 1, 137]), restarts=st.integers(0, 10), tries=st.integers(0, 200),
       wanted=st.booleans())  # fmt: skip
def test_who_is_started_again_and_when_is_docker_s(policy: str, code: int | None, restarts: int, tries: int, wanted: bool) -> None:
    delay = next_start(policy, code, restarts, tries, wanted)
    failed = code != 0 and (policy == "on-failure" or (policy == "on-failure:3" and restarts < 3))
    assert (delay is not None) == (not wanted and (policy in ("always", "unless-stopped") or failed))
    if delay is not None:
        assert FIRST <= delay <= MOST and delay == min(MOST, FIRST * 2**tries)
