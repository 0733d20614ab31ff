"""The engine's containers and their cgroups: limits changed while they run and kept for the next start, ends by lack of memory."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from command import Minirt

from minirt.linux.cgroup2 import find_mount, find_parent

LIMIT = 120.0


def inspect(minirt: Minirt) -> dict:  # type: ignore[type-arg]
    return json.loads(minirt.good("inspect", "box"))[0]


def until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + LIMIT
    while not holds():
        assert time.monotonic() < end, "it never came to pass"
        time.sleep(0.2)


def group(minirt: Minirt, file: str) -> str:
    mount = find_mount()
    assert mount
    return (Path(find_parent(mount)) / inspect(minirt)["Id"] / file).read_text().strip()


def test_limits_change_at_once_and_for_each_later_start(mine: Minirt) -> None:
    mine.good("run", "-d", "--name", "box", "--memory", "64m", "--cpus", "1", "--pids-limit", "50", "busybox", "sleep", "1000")
    mine.good("update", "--memory", "96m", "--cpus", "0.5", "--pids-limit", "20", "box")
    for _ in range(2):
        seen = [group(mine, file) for file in ("memory.max", "cpu.max", "pids.max")]
        assert seen == [str(96 << 20), "50000 100000", "20"]
        mine.good("restart", "-t", "0", "box")
    mine.good("update", "--cpu-quota", "20000", "box")
    assert group(mine, "cpu.max") == "20000 100000" and group(mine, "memory.max") == str(96 << 20)
    refused = mine("update", "--memory", "32m", "--cpuset-cpus", "77", "box")
    assert refused.returncode and group(mine, "memory.max") == str(96 << 20), "all of it or nothing"
    mine.good("restart", "-t", "0", "box")
    assert group(mine, "memory.max") == str(96 << 20)


def test_a_group_that_a_container_may_write_to_belongs_to_its_root(minirt: Minirt) -> None:
    """It makes groups below its own, whose limits stay the host's."""
    script = """cd /sys/fs/cgroup; mkdir own && echo $$ >own/cgroup.procs && echo +memory >cgroup.subtree_control && mkdir more &&
        echo 4194304 >more/memory.max && cat more/memory.max; echo 1 >memory.max || echo refused"""
    options = ("--privileged", "--userns", "auto", "--memory", "64m")
    assert minirt.good("run", "--rm", *options, "busybox", "sh", "-c", script).split() == ["4194304", "refused"]


def test_an_end_by_lack_of_memory_is_told(mine: Minirt) -> None:
    mine.good("run", "-d", "--name", "box", "--memory", "16m", "--memory-swap", "16m", "busybox", "sh", "-c",
         "x=a; while :; do x=$x$x; done")  # fmt: skip
    mine.good("wait", "box")
    assert inspect(mine)["State"]["OOMKilled"] and inspect(mine)["State"]["ExitCode"] == 137
    told = mine.good("events", "--since", "1h", "--until", "0s", "--filter", "type=container", "--format", "{{.Action}}").split()
    assert told == ["create", "start", "oom", "die"]


def test_what_is_paused_is_not_checked_for_its_health(mine: Minirt) -> None:
    mine.good("run", "-d", "--name", "box", "--health-cmd", "true", "--health-interval", "500ms", "busybox", "sleep", "1000")
    until(lambda: inspect(mine)["State"]["Health"]["Status"] == "healthy")
    mine.good("pause", "box")
    time.sleep(5)  # the last one that had begun ends
    before = inspect(mine)["State"]["Health"]["Log"][-1]
    time.sleep(3)
    assert inspect(mine)["State"]["Health"]["Log"][-1] == before
    mine.good("unpause", "box")
    until(lambda: inspect(mine)["State"]["Health"]["Log"][-1] != before)
