"""Lesson 6's formulas beside what the kernel does: weight, quota, the pressure of both, memory.high.

Sources: Documentation/admin-guide/cgroup-v2.rst; kernel/sched/psi.c (avg10), mm/memcontrol.c (calculate_high_delay), 6.12.
"""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from minirt.linux.cgroup_files import keyed, put, read
from tutorials.tutor.measure import Curve

BUSY = "while :; do :; done"
HIGH, CHARGE = 16 << 20, 256 << 10  # bytes: the threshold; what is charged at a time, MEMCG_CHARGE_BATCH pages
EVERY, WINDOW = 2.0, 10.0  # seconds: how often pressure is averaged, over how long (PSI_FREQ, avg10)


def measure() -> Iterator[Curve]:
    yield weight()
    yield from quota_and_pressure()
    yield memory_high()


def minirt(*words: str) -> str:
    """Run minirt; returns what it prints."""
    return subprocess.run([sys.executable, "-m", "minirt", *words], check=True, capture_output=True, text=True).stdout.strip()


@contextmanager
def busy(*options: str) -> Iterator[tuple[str, str]]:
    """Run a container that computes for ever: its id, and its group's directory."""
    id = minirt("run", "-d", "--cpuset-cpus", "0", *options, "busybox", "sh", "-c", BUSY)
    try:
        yield id, group_of(minirt("inspect", "--format", "{{.State.Pid}}", id))
    finally:
        minirt("rm", "-f", id)


def group_of(pid: str) -> str:
    """Return the directory of a process's group (man 7 cgroups)."""
    return "/sys/fs/cgroup" + Path(f"/proc/{pid}/cgroup").read_text().strip().removeprefix("0::")


def used(groups: list[str], seconds: float) -> tuple[list[int], float]:
    """Return the processor time that each group uses within some seconds, and how many these really were."""
    before, begun = [keyed(group, "cpu.stat")["usage_usec"] for group in groups], time.monotonic()
    time.sleep(seconds)
    after, ended = [keyed(group, "cpu.stat")["usage_usec"] for group in groups], time.monotonic()
    return [b - a for a, b in zip(before, after, strict=True)], ended - begun


def weight() -> Curve:
    """Two on one processor; one has the weight 100, the other more and more."""
    points = []
    with busy("--cpu-weight", "100") as (_, one), busy("--cpu-weight", "100") as (id, other):
        for value in (100, 300, 900):
            minirt("update", "--cpu-weight", str(value), id)
            (first, second), _ = used([one, other], 1.0)
            points.append((value, value / (100 + value), second / (first + second)))
    return Curve("weight", "share = weight / sum of weights", "weight, beside 100", "share of the processor", points)


def quota_and_pressure() -> Iterator[Curve]:
    """One alone, with a quota; and how long it was kept waiting."""
    points = []
    with busy("--cpus", "0.5") as (id, group):
        for cpus in (0.5, 0.25, 0.1):
            minirt("update", "--cpus", str(cpus), id)
            (time_used,), seconds = used([group], 1.0)
            quota, period = map(int, read(group, "cpu.max").split())
            points.append((cpus, quota / period, time_used / 1e6 / seconds))
        yield Curve("quota", "throughput = quota / period", "--cpus", "processor time a second", points)
        yield pressure(group)


def pressure(group: str) -> Curve:
    """avg10 as the kernel says it, beside the mean that its own total gives: each 2 s, one more sample."""
    decay = math.exp(-EVERY / WINDOW)
    points: list[tuple[float, float, float]] = []
    total, average = some(group)
    begun = last = time.monotonic()
    predicted = -1.0
    while len(points) < 3:
        time.sleep(0.05)
        now_total, now_average = some(group)
        now = time.monotonic()
        if now_average == average:
            continue
        share = 100 * (now_total - total) / 1e6 / (now - last)
        if predicted < 0:  # from the first change on it is known when the kernel counts
            predicted, begun = now_average, now
        else:
            for _ in range(max(1, round((now - last) / EVERY))):
                predicted = predicted * decay + share * (1 - decay)
            points.append((round(now - begun, 1), predicted, now_average))
        total, average, last = now_total, now_average, now
    formula = "avg10 = avg10 e^(-2/10) + share (1 - e^(-2/10)), each 2 s"
    return Curve("pressure", formula, "seconds", "per cent of the time that some task waits", points)


def some(group: str) -> tuple[int, float]:
    """Return cpu.pressure's line `some`: microseconds in all, and avg10."""
    words = dict(word.split("=") for word in read(group, "cpu.pressure").splitlines()[0].split()[1:])
    return int(words["total"]), float(words["avg10"])


def memory_high() -> Curve:
    """A program that fills memory as fast as it may, beyond memory.high: each charge makes it sleep, as the square of the excess.

    d(usage) / dt = CHARGE / (64 s * excess^2), where excess = (usage - high) / high; hence the cube root.
    """
    points: list[tuple[float, float, float]] = []
    words = [sys.executable, "-m", "minirt", "run", "-i", "--rm", "--memory", "64m", "busybox", "sh", "-c",
             "echo; read _; exec dd if=/dev/zero of=/dev/shm/file bs=4k count=12000"]  # fmt: skip
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdout.readline()
        pid = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0]
        group = group_of(pid)
        put(group, "memory.high", str(HIGH))
        process.stdin.write("\n")
        process.stdin.flush()
        while int(read(group, "memory.current")) < HIGH:
            time.sleep(0.01)
        begun = time.monotonic()
        for _ in range(6):
            time.sleep(0.5)
            usage, seconds = int(read(group, "memory.current")), time.monotonic() - begun
            excess = (3 * seconds * CHARGE / (64 * HIGH)) ** (1 / 3)
            points.append((round(seconds, 1), HIGH * excess / (1 << 20), (usage - HIGH) / (1 << 20)))
        (Path(group) / "cgroup.kill").write_text("1")
    formula = "sleep = 64 s * ((usage - high) / high)^2 for each 256 KiB, 2 s at most"
    return Curve("memory.high", formula, "seconds", "MiB beyond memory.high, which is 16", points)
