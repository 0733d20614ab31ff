"""Engines with limits, where cgroup v2 has every controller: what podman, docker and containerd ask for is in the group's
files, the container reads it there, and it binds.

In the lab's machine with engines (the Makefile's test-lab): few tests, each with a whole life, as each command takes seconds.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from engines import Engine, place, rootfs  # noqa: F401
from test_docker import ctr, docker  # noqa: F401
from test_podman import podman  # noqa: F401

from minirt.linux.cgroup2 import controllers, find_mount

MIB = 1 << 20
NEEDED = {"memory", "cpu", "cpuset", "pids"}
NONE = ("--network", "none")
pytestmark = [
    pytest.mark.root,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(
        not os.path.isdir("/run/minirt-lab") or not set(controllers(find_mount())) >= NEEDED,
        reason="these limits need the controllers of cgroup v2, as in the lab (make test-lab)",
    ),
]


def group_of(engine: Engine, name: str) -> Path:
    """Return the directory of a container's cgroup, by its first process."""
    pid = engine.good("inspect", "--format", "{{.State.Pid}}", name)
    return Path(find_mount() + Path(f"/proc/{pid}/cgroup").read_text().strip().removeprefix("0::"))


def said(group: Path, *files: str) -> list[str]:
    """Return what files of a group say."""
    return [(group / file).read_text().strip() for file in files]


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)


FILES = ("memory.max", "memory.swap.max", "cpu.max", "pids.max", "cpuset.cpus")
LIMITS = ("--memory", "64m", "--memory-swap", "96m", "--cpus", "0.5", "--pids-limit", "50", "--cpuset-cpus", "1")
NARROWER = ("--memory", "32m", "--memory-swap", "48m", "--cpus", "0.25", "--pids-limit", "20", "--cpuset-cpus", "0")
AS_ASKED = [str(64 * MIB), str(32 * MIB), "50000 100000", "50", "1"]
UPDATED = [str(32 * MIB), str(16 * MIB), "25000 100000", "20", "0"]


def a_life_with_limits(engine: Engine, *more: str) -> Path:
    """Lead a container through its life with limits, updated on the way. Returns its group's directory, which is gone."""
    script = "echo up; trap 'exit 9' TERM; while :; do sleep 0.3; done"
    engine.good("run", "-d", "--name", "limited", *NONE, *LIMITS, *more, "bb", "sh", "-c", script)
    group = group_of(engine, "limited")
    assert said(group, *FILES) == AS_ASKED
    inside = "cd /sys/fs/cgroup && cat " + " ".join(FILES)
    assert engine.good("exec", "limited", "sh", "-c", inside).splitlines() == AS_ASKED
    engine.good("update", *NARROWER, "limited")
    assert said(group, *FILES) == UPDATED
    engine.good("pause", "limited")
    assert "frozen 1" in (group / "cgroup.events").read_text()
    engine.good("unpause", "limited")
    assert "frozen 0" in (group / "cgroup.events").read_text()
    assert engine.good("logs", "limited") == "up"
    stats = engine.good("stats", "--no-stream", "--format", "{{.MemUsage}} {{.PIDs}}", "limited")
    assert "/ 32MiB" in stats or "/ 33.55MB" in stats, "what the runtime wrote is what the engine reads"
    engine.good("stop", "-t", "20", "limited")
    assert engine.good("inspect", "--format", "{{.State.ExitCode}}", "limited") == "9"
    engine.good("rm", "limited")
    assert not group.exists()
    return group


def test_podman_s_limits_bind_and_are_updated(podman: Engine) -> None:
    a_life_with_limits(podman)


def test_docker_s_limits_bind_and_are_updated(docker: Engine) -> None:
    a_life_with_limits(docker, "--health-cmd", "true", "--health-interval", "1s")


def test_containerd_s_limits_bind(ctr: Engine, rootfs: Path) -> None:
    from engines import RUNTIME

    flags = ("--memory-limit", 64 * MIB, "--cpu-quota", 50000, "--cpu-period", 100000, "--runc-binary", RUNTIME, "--rootfs")
    ctr.good("run", "-d", *flags, rootfs.with_suffix(""), "limited", "/bin/sleep", "1000")
    (group,) = Path(find_mount()).rglob("limited")
    # 1024 shares are containerd's default.
    assert said(group, "memory.max", "cpu.max", "cpu.weight") == [str(64 * MIB), "50000 100000", "39"]
    inside = ctr.good("task", "exec", "--exec-id", "e", "limited", "/bin/cat", "/proc/self/cgroup")
    assert inside.endswith("/limited"), "born in the group; without a cgroup namespace, as ctr asks for none"
    assert (group / "cgroup.procs").read_text().count("\n") == 1
    metrics = ctr.good("task", "metrics", "--format", "json", "limited")
    assert json.loads(metrics)["memory"]["usage_limit"] == 64 * MIB
    ctr.good("task", "pause", "limited")
    assert "frozen 1" in (group / "cgroup.events").read_text()
    ctr.good("task", "resume", "limited")
    ctr.good("task", "kill", "-s", "9", "limited")
    wait_for(lambda: "STOPPED" in ctr.good("task", "ls"))
    ctr("task", "rm", "limited")
    ctr.good("container", "rm", "limited")
    assert not group.exists()


# Not at once: the shim begins to watch when the program has started.
MEMORY_HOG = ("sh", "-c", "sleep 3; exec dd if=/dev/zero of=/dev/null bs=104857600 count=1")


@pytest.mark.long
def test_docker_is_told_of_the_out_of_memory_killer(docker: Engine) -> None:
    """containerd's shim watches memory.events of the group that the runtime made."""
    done = docker("run", "--name", "hungry", *NONE, "--memory", "16m", "--memory-swap", "16m", "bb", *MEMORY_HOG)
    assert done.returncode == 137
    assert docker.good("inspect", "--format", "{{.State.OOMKilled}}", "hungry") == "true"
    docker.good("rm", "hungry")


@pytest.mark.long
def test_podman_is_told_of_the_out_of_memory_killer(podman: Engine) -> None:
    done = podman("run", "--name", "hungry", *NONE, "--memory", "16m", "--memory-swap", "16m", "bb", *MEMORY_HOG)
    assert done.returncode == 137
    assert podman.good("inspect", "--format", "{{.State.OOMKilled}}", "hungry") == "true"
    podman.good("rm", "hungry")


@pytest.mark.long
def test_forks_beyond_the_limit_fail_under_each_engine(podman: Engine, docker: Engine) -> None:
    script = "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 9 & done; wait"
    for engine in (podman, docker):
        done = engine("run", "--rm", *NONE, "--pids-limit", "5", "bb", "sh", "-c", script)
        assert "can't fork" in done.stderr + done.stdout


@pytest.mark.long
def test_each_other_limit_of_the_engines_is_in_its_file(podman: Engine, docker: Engine) -> None:
    disk = os.stat("/dev/vda").st_rdev
    number = f"{os.major(disk)}:{os.minor(disk)}"
    flags = ("--cpu-shares", "2048", "--memory-reservation", "32m", "--memory", "64m", "--blkio-weight", "300",
             "--device-read-bps", "/dev/vda:1mb", "--device-write-iops", "/dev/vda:77", "--cpuset-mems", "0")  # fmt: skip
    for engine in (podman, docker):
        engine.good("run", "-d", "--name", "limits", *NONE, *flags, "bb", "sleep", "1000")
        group = group_of(engine, "limits")
        assert said(group, "cpu.weight", "memory.low", "cpuset.mems") == ["79", str(32 * MIB), "0"]
        assert (group / "io.weight").read_text() == "default 2930\n"  # of version 1's scale, as config.json has it
        if engine is podman:  # docker leaves the throttles out on cgroup v2, itself
            assert set((group / "io.max").read_text().split()) >= {number, f"rbps={MIB}", "wiops=77"}
        engine.good("rm", "-f", "-t", "0", "limits") if engine is podman else engine.good("rm", "-f", "limits")
