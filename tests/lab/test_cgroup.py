"""Limits really bind, on a kernel whose cgroup v2 has every controller: `lab/run python -m pytest tests/lab`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.lab,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not os.path.exists("/run/minirt-lab"), reason="cgroup v2's controllers are sure to be there in the lab"),
]  # fmt: skip

CGROUP = "/sys/fs/cgroup"


def keyed(text: str) -> dict[str, int]:
    """Return a flat keyed file (cpu.stat, memory.events) as numbers by key."""
    return {key: int(value) for key, value in (line.split() for line in text.splitlines() if len(line.split()) == 2)}


def groups_left() -> list[Path]:
    """Return the containers' groups that are still there."""
    return [path for path in Path(CGROUP).glob("**/minirt/*") if path.is_dir()]


@pytest.fixture(autouse=True)
def nothing_left(minirt):
    yield
    assert groups_left() == []
    assert minirt.containers == []


def test_memory_limit_kills_and_says_so(minirt) -> None:
    script = "cat /sys/fs/cgroup/memory.max; exec tail -c 200m /dev/zero"
    done = minirt("run", "--rm", "--memory", "32m", "--memory-swap", "32m", "busybox", "sh", "-c", script)
    assert done.stdout.split() == [str(32 << 20)]
    assert done.returncode == 137
    assert "out of memory (--memory 32m)" in done.stderr


def test_a_sigkill_that_is_not_the_oom_killer_s_is_not_told_as_one(minirt) -> None:
    done = minirt("run", "--rm", "--memory", "64m", "busybox", "sh", "-c", "sh -c 'kill -9 $$'; exit $?")
    assert done.returncode == 137
    assert "out of memory" not in done.stderr


def test_half_a_cpu_is_half_a_cpu(minirt) -> None:
    """Usage over wall time, by the kernel's own clock and count, over 3 s and so 30 periods."""
    script = (
        "while :; do :; done & p=$!; sleep 1; a=$(cat /proc/uptime /sys/fs/cgroup/cpu.stat); sleep 3;"
        " b=$(cat /proc/uptime /sys/fs/cgroup/cpu.stat); kill $p; cat /sys/fs/cgroup/cpu.max; echo \"$a\"; echo =; echo \"$b\""
    )  # fmt: skip
    text = minirt.sh(script, "--cpus", "0.5")
    limit, rest = text.split("\n", 1)
    assert limit == "50000 100000"
    moments = []
    for part in rest.split("\n=\n"):
        uptime, stat = part.split("\n", 1)
        moments.append((float(uptime.split()[0]), keyed(stat)))
    (t1, first), (t2, second) = moments
    share = (second["usage_usec"] - first["usage_usec"]) / 1e6 / (t2 - t1)
    assert second["nr_throttled"] > first["nr_throttled"]
    assert 0.45 <= share <= 0.55


def test_pids_limit_makes_fork_fail(minirt) -> None:
    script = "for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids.current"
    done = minirt("run", "--rm", "--pids-limit", "5", "busybox", "sh", "-c", script)
    assert "can't fork" in done.stderr or "Resource temporarily unavailable" in done.stderr


def test_cpuset_is_what_the_scheduler_uses(minirt) -> None:
    text = minirt.sh("grep Cpus_allowed_list /proc/self/status", "--cpuset-cpus", "1")
    assert text.split() == ["Cpus_allowed_list:", "1"]


def test_weights_and_swap_are_written(minirt) -> None:
    files = "cpu.weight memory.swap.max memory.low"
    options = ("--cpu-weight", "50", "--memory", "64m", "--memory-swap", "96m", "--memory-reservation", "16m")
    text = minirt.sh(f"cd {CGROUP}; cat {files}", *options)
    assert text.split() == ["50", str(32 << 20), str(16 << 20)]


def test_the_process_is_born_in_its_group(minirt, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is there, alone, while it waits for us to let it go on: clone3 put it there, as nobody moves it."""
    from minirt.engine import run as engine
    from minirt.engine.options import RunOptions

    seen = {}
    resolve = engine.Session.resolve

    def look(session, birth) -> None:
        group = Path(f"/proc/{birth.pid}/cgroup").read_text().strip().removeprefix("0::")
        seen["group"], seen["pid"] = group, birth.pid
        seen["procs"] = Path(f"{CGROUP}{group}/cgroup.procs").read_text().split()
        resolve(session, birth)

    monkeypatch.setenv("MINIRT_ROOT", str(minirt.root))
    monkeypatch.setattr(engine.Session, "resolve", look)
    assert engine.run(RunOptions("busybox", ["true"], rm=True, memory="64m")) == 0
    assert os.path.basename(os.path.dirname(seen["group"])) == "minirt"
    assert seen["procs"] == [str(seen["pid"])]


def test_the_container_sees_its_group_as_the_root(minirt) -> None:
    assert minirt.sh("cat /proc/self/cgroup") == "0::/"
    done = minirt("run", "--rm", "busybox", "sh", "-c", f"echo 1 > {CGROUP}/cgroup.procs; mkdir {CGROUP}/mine")
    assert done.stderr.count("Read-only file system") == 2


def test_a_failure_leaves_no_group(minirt) -> None:
    for what in ("clone3=ENOMEM", "openat:1=EMFILE", "pivot_root=EPERM"):
        assert minirt("run", "--fail", what, "--memory", "64m", "busybox", "true").returncode == 125
        assert groups_left() == []
