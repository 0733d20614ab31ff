"""`minirt events`: docker's words for what happens, written down with what happened, also where its monitor was killed."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest
from command import Minirt

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a container without a user namespace takes root")
LIMIT = 30.0  # seconds that something may take on a busy machine
LATELY = ("--since", "10m")  # who follows says nothing when he has begun, which may be after what he is to see


def told(minirt: Minirt, *words: str) -> list[dict]:  # type: ignore[type-arg]
    """Return what has happened so far."""
    out = minirt.good("events", "--since", "1h", "--until", "0s", "--format", "json", *words)
    return [json.loads(line) for line in out.splitlines()]


def actions(events: list[dict]) -> list[str]:  # type: ignore[type-arg]
    return [event["Action"] for event in events if event["Type"] == "container"]


def until_ended(minirt: Minirt, name: str) -> None:
    minirt.good("wait", name)


def test_a_life_is_told_as_docker_tells_it(mine: Minirt) -> None:
    id = mine.good("run", "-d", "--name", "box", "-l", "a=b", "busybox", "sleep", "1000").strip()
    mine.good("exec", "box", "true")
    mine.good("rename", "box", "crate")
    mine.good("stop", "-t", "0", "crate")
    mine.good("start", "crate")
    mine.good("kill", "crate")
    until_ended(mine, "crate")
    mine.good("rm", "crate")
    events = told(mine)
    assert actions(events) == [
        "create", "start", "exec_create: true", "exec_start: true", "exec_die", "rename", "kill", "kill", "die", "stop", "start",
        "kill", "die", "destroy",
    ]  # fmt: skip
    assert {event["Actor"]["ID"] for event in events} == {id}
    attributes = {event["Action"]: event["Actor"]["Attributes"] for event in events}
    assert attributes["create"].items() >= {"a": "b", "name": "box"}.items()
    assert attributes["create"]["image"].startswith("busybox") and "org.opencontainers.image.title" in attributes["create"]
    assert attributes["rename"]["oldName"] == "/box" and attributes["destroy"]["name"] == "crate"
    assert attributes["die"]["exitCode"] == "137" and attributes["exec_die"]["exitCode"] == "0"
    assert [event["timeNano"] for event in events] == sorted(event["timeNano"] for event in events)
    assert all(event["time"] == event["timeNano"] // 10**9 and event["status"] == event["Action"] for event in events)


def test_an_exec_is_told_to_its_end_though_nobody_waits_for_it(mine: Minirt) -> None:
    mine.good("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    mine.good("exec", "-d", "box", "sh", "-c", "until test -e /go; do sleep 0.1; done; exit 3")
    assert mine("exec", "-d", "box", "none").returncode == 127
    assert ends(mine) == ["127"], "what cannot begin has ended so"
    mine.good("exec", "box", "touch", "/go")
    end = time.monotonic() + LIMIT
    while "3" not in ends(mine):
        assert time.monotonic() < end
        time.sleep(0.05)
    (id,) = {e["Actor"]["Attributes"]["execID"] for e in told(mine) if e["Action"].endswith("exit 3")}
    its = [e["Action"].partition(":")[0] for e in told(mine) if e["Actor"]["Attributes"].get("execID") == id]
    assert its == ["exec_create", "exec_start", "exec_die"]


def ends(minirt: Minirt) -> list[str]:
    """Return the exit codes of what was run by exec and has ended."""
    return [event["Actor"]["Attributes"]["exitCode"] for event in told(minirt) if event["Action"] == "exec_die"]


def test_a_run_in_the_foreground_is_told_too(mine: Minirt) -> None:
    assert mine("run", "--rm", "busybox", "sh", "-c", "exit 3").returncode == 3
    mine("run", "--name", "kept", "busybox", "true")
    events = told(mine)
    assert actions(events) == ["create", "start", "die", "destroy", "create", "start", "die"]
    assert [e["Actor"]["Attributes"]["exitCode"] for e in events if e["Action"] == "die"] == ["3", "0"]


def test_what_never_began_is_not_told(mine: Minirt) -> None:
    assert mine("run", "--rm", "busybox", "none").returncode == 127
    assert actions(told(mine)) == []


def test_who_follows_sees_it_as_it_happens_and_only_what_is_wanted(mine: Minirt) -> None:
    mine.good("run", "-d", "--name", "before", "busybox", "true")
    wanted = ("--filter", "event=die", "--filter", "event=start", "--filter", "container=box")
    follower = mine.start("events", *LATELY, *wanted, "--format", "{{.Action}} {{.Actor.Attributes.name}}")
    mine.good("run", "-d", "--name", "other", "busybox", "true")
    mine.good("run", "-d", "--name", "box", "busybox", "true")
    assert follower.stdout.readline() == "start box\n" and follower.stdout.readline() == "die box\n"
    follower.terminate()
    follower.communicate(timeout=LIMIT)


def test_an_end_that_no_monitor_saw_is_told_to_who_follows(mine: Minirt) -> None:
    mine.good("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    pid = json.loads(mine.good("inspect", "box"))[0]["State"]["Pid"]
    wanted = ("--filter", "type=container", "--filter", "event=die")
    follower = mine.start("events", *LATELY, *wanted, "--format", "{{.Action}} {{.Actor.Attributes.exitCode}}")
    monitor = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    assert Path(f"/proc/{monitor}/comm").read_text() == "minirt-monitor\n"
    os.kill(monitor, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    assert follower.stdout.readline() == "die 255\n"
    follower.terminate()
    follower.communicate(timeout=LIMIT)
    assert json.loads(mine.good("inspect", "box"))[0]["State"]["Status"] == "exited"


def test_volumes_and_networks_and_images_are_told(mine: Minirt) -> None:
    mine.good("volume", "create", "data")
    mine.good("run", "--rm", "-v", "data:/d:ro", "busybox", "true")
    mine.good("volume", "rm", "data")
    seen = [(event["Action"], event["Actor"]["ID"]) for event in told(mine, "--filter", "type=volume")]
    assert seen == [(action, "data") for action in ("create", "mount", "unmount", "destroy")]
    (mount,) = told(mine, "--filter", "event=mount")
    assert mount["Actor"]["Attributes"]["destination"] == "/d" and mount["Actor"]["Attributes"]["read/write"] == "false"
    mine.good("network", "create", "net")
    mine.good("network", "rm", "net")
    assert [event["Action"] for event in told(mine, "--filter", "network=net")] == ["create", "destroy"]


def test_images_are_told(own_store: Minirt) -> None:
    own_store.good("image", "tag", "busybox", "mine:1")
    own_store.good("image", "rm", "mine:1")
    assert [event["Action"] for event in told(own_store, "--filter", "type=image")] == ["tag", "untag"]


def test_a_line_is_docker_s(mine: Minirt) -> None:
    mine.good("run", "-d", "--name", "box", "busybox", "true")
    until_ended(mine, "box")
    first = mine.good("events", "--since", "1h", "--until", "0s").splitlines()[0]
    when = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}(Z|[+-]\d\d:\d\d)"
    assert re.fullmatch(when + r" container create [0-9a-f]{64} \(image=busybox\S*, .*name=box, .*\)", first)


@pytest.mark.parametrize(
    "words", [("--since", "yesterday"), ("--filter", "colour=red"), ("--filter", "red"), ("--format", "{{.Nope")]
)
def test_bad_words_are_one_line(mine: Minirt, words: tuple[str, ...]) -> None:
    done = mine("events", "--until", "0s", *words)
    assert done.returncode and done.stderr.count("\n") == 1, done.stderr
