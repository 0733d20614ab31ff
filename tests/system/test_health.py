"""Health checks: run by the monitor's clock, counted and told as docker does."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from command import Minirt
from hypothesis import given
from hypothesis import strategies as st

from minirt.engine.health import Check, merged
from minirt.errors import UsageError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a container without a user namespace takes root")
LIMIT = 40.0  # seconds that something may take on a busy machine


def state(minirt: Minirt, name: str) -> dict:  # type: ignore[type-arg]
    return json.loads(minirt.good("inspect", name))[0]["State"]


def until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + LIMIT
    while not holds():
        assert time.monotonic() < end, "it never came to pass"
        time.sleep(0.05)


def run(minirt: Minirt, check: str, *words: str) -> None:
    words = ("--name", "box", "--health-cmd", check, "--health-interval", "200ms", *words)
    minirt.good("run", "-d", *words, "busybox", "sleep", "1000")


def statuses(minirt: Minirt) -> list[str]:
    out = minirt.good("events", "--since", "1h", "--until", "0s", "--filter", "event=health_status", "--format", "{{.Action}}")
    return out.splitlines()


def test_what_is_well_is_healthy_until_it_fails_so_often(mine: Minirt) -> None:
    run(mine, "test ! -e /sick || { echo I am sick; exit 1; }", "--health-retries", "2", "--health-start-period", "1h")
    assert "(health: starting)" in mine.good("ps") or state(mine, "box")["Health"]["Status"] == "healthy"
    until(lambda: state(mine, "box")["Health"]["Status"] == "healthy")
    assert "(healthy)" in mine.good("ps")
    mine.good("exec", "box", "touch", "/sick")
    until(lambda: state(mine, "box")["Health"]["Status"] == "unhealthy")
    health = state(mine, "box")["Health"]
    assert health["FailingStreak"] >= 2 and len(health["Log"]) <= 5
    last = health["Log"][-1]
    assert (last["ExitCode"], last["Output"]) == (1, "I am sick\n") and last["Start"] < last["End"]
    mine.good("exec", "box", "rm", "/sick")
    until(lambda: state(mine, "box")["Health"] | {"Log": 0} == {"Status": "healthy", "FailingStreak": 0, "Log": 0})
    assert statuses(mine) == [f"health_status: {word}" for word in ("healthy", "unhealthy", "healthy")]


def test_in_its_start_period_no_failure_counts_and_checks_may_come_sooner(mine: Minirt) -> None:
    mine.good("run", "-d", "--name", "box", "--health-cmd", "test -e /ready", "--health-interval", "1h", "--health-retries", "1",
         "--health-start-period", "1h", "--health-start-interval", "200ms", "busybox", "sleep", "1000")  # fmt: skip
    until(lambda: len(state(mine, "box")["Health"]["Log"]) >= 2)
    assert state(mine, "box")["Health"]["Status"] == "starting" and state(mine, "box")["Health"]["FailingStreak"] == 0
    mine.good("exec", "box", "touch", "/ready")
    until(lambda: state(mine, "box")["Health"]["Status"] == "healthy")


def test_a_check_that_hangs_is_killed_and_has_failed(mine: Minirt) -> None:
    run(mine, "echo before; sleep 77", "--health-timeout", "300ms", "--health-retries", "1")
    until(lambda: state(mine, "box")["Health"]["Status"] == "unhealthy")
    entry = state(mine, "box")["Health"]["Log"][0]
    assert entry["ExitCode"] == -1 and entry["Output"] == "Health check exceeded timeout (0.3s)"


def test_a_check_cannot_hide_from_its_walls_nor_write_without_end(mine: Minirt) -> None:
    run(mine, "readlink /proc/self/ns/pid; yes | head -c 100000", "--user", "7:8")
    until(lambda: state(mine, "box")["Health"]["Log"])
    entry, pid = state(mine, "box")["Health"]["Log"][0], state(mine, "box")["Pid"]
    assert entry["Output"].startswith(os.readlink(f"/proc/{pid}/ns/pid") + "\ny\n") and len(entry["Output"]) == 4096
    assert entry["ExitCode"] == 0


def test_a_container_that_cannot_be_checked_is_unhealthy(mine: Minirt) -> None:
    run(mine, "true", "--health-retries", "1")
    until(lambda: state(mine, "box")["Health"]["Status"] == "healthy")
    mine.good("exec", "box", "rm", "/bin/sh")
    until(lambda: state(mine, "box")["Health"]["Status"] == "unhealthy")
    assert state(mine, "box")["Health"]["Log"][-1]["ExitCode"] in (126, 127)


def test_each_life_begins_anew(mine: Minirt) -> None:
    run(mine, "exit 1", "--health-retries", "1")
    until(lambda: state(mine, "box")["Health"]["Status"] == "unhealthy")
    mine.good("stop", "-t", "0", "box")
    mine.good("rename", "box", "crate")
    assert state(mine, "crate")["Health"]["Status"] == "unhealthy"
    mine.good("start", "crate")
    until(lambda: statuses(mine) == ["health_status: unhealthy"] * 2)


def test_who_runs_it_in_the_foreground_has_it_checked_too(mine: Minirt) -> None:
    words = ("--rm", "--name", "box", "--health-cmd", "test -e /well", "--health-interval", "200ms", "busybox", "sh", "-c")
    follower = mine.start("run", *words, "echo begun; touch /well; while test -e /well; do sleep 0.1; done; exit 5")
    assert follower.stdout.readline() == "begun\n"
    until(lambda: state(mine, "box")["Health"]["Status"] == "healthy")
    mine.good("exec", "box", "rm", "/well")
    assert follower.wait(LIMIT) == 5 and mine("inspect", "box").returncode == 1
    follower.communicate()


def test_what_is_paused_is_not_checked(mine: Minirt) -> None:
    run(mine, "true")
    until(lambda: state(mine, "box")["Health"]["Status"] == "healthy")
    if mine("pause", "box").returncode:
        pytest.skip("no cgroup v2 here that a group can be made in")
    time.sleep(1.5)  # the last one that had begun ends
    before = state(mine, "box")["Health"]["Log"][-1]
    time.sleep(1.0)
    assert state(mine, "box")["Health"]["Log"][-1] == before and state(mine, "box")["Status"] == "paused"
    mine.good("unpause", "box")
    until(lambda: state(mine, "box")["Health"]["Log"][-1] != before)


def test_the_image_s_own_check_is_made_changed_and_left_out(own_store: Minirt, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text('FROM busybox\nHEALTHCHECK --interval=200ms --retries=1 CMD ["test", "-e", "/well"]\n')
    own_store.good("build", "-t", "checked", tmp_path)
    try:
        own_store.good("run", "-d", "--name", "own", "checked", "sleep", "1000")
        own_store.good("run", "-d", "--name", "longer", "--health-interval", "1h", "checked", "sleep", "1000")
        own_store.good("run", "-d", "--name", "without", "--no-healthcheck", "checked", "sleep", "1000")
        until(lambda: state(own_store, "own")["Health"]["Status"] == "unhealthy")
        assert state(own_store, "longer")["Health"] == {"Status": "starting", "FailingStreak": 0, "Log": []}
        assert "Health" not in state(own_store, "without")
    finally:
        own_store("rm", "-f", "own", "longer", "without")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--no-healthcheck", "--health-cmd", "true"), "--no-healthcheck"),
        (("--health-cmd", "true", "--health-interval", "soon"), "--health-interval soon"),
        (("--health-cmd", "true", "--health-interval", "1us"), "millisecond"),
        (("--health-cmd", "true", "--health-retries", "-1"), "negative"),
    ],
)
def test_bad_words_are_one_line(mine: Minirt, words: tuple[str, ...], said: str) -> None:
    done = mine("run", "-d", *words, "busybox", "true")
    assert done.returncode == 125 and done.stderr.count("\n") == 1 and said in done.stderr, done.stderr
    assert mine("run", "--explain", "--health-cmd", "true", "busybox", "true").returncode == 125, "nobody stays to make it"


OBJECTS = st.fixed_dictionaries(
    {},
    optional={
        "Test": st.sampled_from([["NONE"], ["CMD", "a"], ["CMD-SHELL", "a b"], []]), "Retries": st.integers(0, 5),
        "Interval": st.integers(10**6, 10**12), "Timeout": st.just(0), "StartPeriod": st.integers(10**6, 10**10),
    },
)  # fmt: skip


@given(own=OBJECTS, image=OBJECTS)
def test_what_is_not_said_is_the_image_s_and_then_docker_s(own: dict, image: dict) -> None:  # type: ignore[type-arg]
    found = merged(own, {"Healthcheck": image})
    test = own.get("Test") or image.get("Test") or ["NONE"]
    if test == ["NONE"]:
        assert found is None
        return
    assert found is not None and found["Test"] == test
    check = Check(found)
    assert check.command == (["a"] if test[0] == "CMD" else ["/bin/sh", "-c", "a b"])
    assert check.interval == (own.get("Interval") or image.get("Interval") or 30 * 10**9) / 1e9 and check.timeout == 30
    assert check.retries == (own.get("Retries") or image.get("Retries") or 3)


def test_a_check_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="CMD-SHELL"):
        merged({"Test": ["RUN", "a"]}, {})
