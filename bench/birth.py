"""What a container's birth costs from Python, beside the same system calls written by hand in C.

    .venv/bin/python -m bench [--rounds 100] [--alone] [--format json]

The container: five new namespaces (mount, pid, uts, ipc, net), an overlay root, /proc, /dev, /sys, a static `true`,
reaped. Three servers make it on request, one after the other in each round, in an order that is drawn anew, so that the
machine's noise, and the end of the one before, meet all:

    C           birth_parent.c and birth_child.c: the same calls, written out
    minirt      config.json (a dict) to a plan, lowered, run: everything that a caller of the library pays; the executor is
                started first (csrc/plan/spawn.c), and begins while the rest of the plan is made (minirt.oci.compile.begin_plan)
    minirt 300  the same in a process that holds 300 MB more

Times are the servers' own, from before the first call to after the child is reaped (CLOCK_MONOTONIC). What is promised is
said of medians. "low" is the time that a tenth of the births stay below. "processor" is the same of what a birth had of processors,
in all its processes (man 2 getrusage): it has no waiting in it, and waiting is where what else the machine does is felt. The
ratios of that count to each the waiting of C's births (its low less its processor), as both make the same calls.

"Its plan" is what Python takes of that for the plan, from options to lowered records, in a process that has just slept and
whose caches are cold; "in a loop" is the same work with nothing else in between; "first" is that in a process that has not
yet made what its plans have in common (minirt/plan/common.py).

--alone puts all of it on one processor, ahead of all else that wants it (SCHED_FIFO, where that is allowed). Where there is
another one Python makes its plan while the kernel makes the executor; here it does one after the other.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
STATIC = ["-O2", "-Wall", "-Wextra", "-D_GNU_SOURCE"]
FREESTANDING = [
    "-ffreestanding", "-fno-stack-protector", "-fno-pie", "-fcf-protection=none", "-nostdlib", "-static", "-no-pie",
    "-Wl,--build-id=none", "-Wl,-z,noseparate-code", "-Wl,-z,noexecstack", "-s",
]  # fmt: skip
QUIET = ["nosuid", "noexec", "nodev"]
CONFIG = {
    "process": {"args": ["/bin/true"], "env": ["PATH=/bin", "HOME=/root"], "cwd": "/"},
    "root": {"path": "rootfs"},
    "hostname": "box",
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": QUIET},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
         "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
         "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": [*QUIET, "mode=1777", "size=65536k"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*QUIET, "ro"]},
    ],
    "linux": {"namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")]},
}  # fmt: skip


PLAN = {"plan_median": 10, "plan_low": 9, "plan_in_a_loop": 11, "plan_first": 9}  # what is told of a plan, and how wide


class Place:
    """A directory with an overlay's parts, a static `true` in the lower one, and the C programs."""

    def __init__(self, path: str) -> None:
        self.path = path
        for name in ("lower/bin", "upper", "work", "root"):
            os.makedirs(f"{path}/{name}")

    def build(self) -> None:
        """Compile; two seconds."""
        program = "int main(void) { return 0; }"
        subprocess.run(["gcc", "-static", "-O2", "-xc", "-", "-o", f"{self.path}/lower/bin/true"],
                       input=program, text=True, check=True)  # fmt: skip
        for name, flags in (("birth_parent", []), ("birth_child", FREESTANDING)):
            source = str(HERE / f"{name}.c")
            subprocess.run(["gcc", *STATIC, *flags, source, "-o", f"{self.path}/{name}"], check=True)

    @property
    def options(self) -> str:
        """What overlayfs is mounted with."""
        return f"lowerdir={self.path}/lower,upperdir={self.path}/upper,workdir={self.path}/work"

    def by_hand(self) -> list[str]:
        """Return the command of the C server."""
        return [f"{self.path}/birth_parent", f"{self.path}/birth_child", self.options, f"{self.path}/root"]

    def by_plan(self, ballast: int = 0) -> list[str]:
        """Return the command of the Python server that holds so many MB."""
        return [sys.executable, "-m", "bench.birth", "--serve", self.path, "--ballast", str(ballast)]


@contextlib.contextmanager
def place() -> Iterator[Place]:
    """Make the directory, and remove it at the end."""
    path = tempfile.mkdtemp(prefix="birth")
    try:
        made = Place(path)
        made.build()
        yield made
    finally:
        shutil.rmtree(path)


class Server:
    """A process that makes a container for each byte it is sent."""

    def __init__(self, command: Sequence[str], alone: bool = False) -> None:
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, cwd=HERE.parent)
        if alone:
            stand_alone(self.process.pid)

    def birth(self) -> tuple[int, ...]:
        """Return nanoseconds: of one birth, what it had of processors, of making its plan, of one in a loop, of a first one."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(b"b")
        line = self.process.stdout.readline().split()
        if not line:
            raise RuntimeError(f"{self.process.args!r} ended with {self.process.wait()}")
        return tuple(map(int, line))

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def stand_alone(pid: int) -> None:
    """Give a process, and what it will start, the last processor that we may use, ahead of all else where that is allowed."""
    os.sched_setaffinity(pid, {max(os.sched_getaffinity(0))})
    with contextlib.suppress(PermissionError):  # no CAP_SYS_NICE, or a group without real-time bandwidth (man 7 sched)
        os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(1))


def processors() -> int:
    """Return the ns that this process has had of processors, and those that it made and waited for (man 2 getrusage)."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return int(1e9 * sum(one.ru_utime + one.ru_stime for one in used))


def serve(path: str, ballast: int) -> None:
    """Make a container for each byte on standard input, and say what it took, and what of that making the plan."""
    from minirt.oci.compile import begin_plan, compile_plan, finish_plan
    from minirt.oci.step import Context, Overlay
    from minirt.plan import birth as births
    from minirt.plan import common
    from minirt.plan.lower import Lowered, lower

    held = bytearray(os.urandom(1 << 20) * ballast)  # written to, so that the pages are there
    spent = [0]

    def timed(function):  # type: ignore[no-untyped-def]
        def call(*args):  # type: ignore[no-untyped-def]
            began = time.monotonic_ns()
            result = function(*args)
            spent[0] += time.monotonic_ns() - began
            return result

        return call

    def context() -> Context:
        overlay = Overlay([f"{path}/lower"], f"{path}/upper", f"{path}/work", f"{path}/root")
        return Context(CONFIG, path, overlay)

    def loop(before: Callable[[], None] = lambda: None) -> int:
        taken = []
        for _ in range(200):
            before()
            began = time.monotonic_ns()
            lower(compile_plan(context()))
            taken.append(time.monotonic_ns() - began)
        return int(statistics.median(taken))

    first, in_a_loop = loop(common.forget), loop()
    Lowered.add = timed(Lowered.add)  # type: ignore[method-assign]
    begin, finish = timed(begin_plan), timed(finish_plan)
    while os.read(0, 1):
        spent[0] = 0
        before, began = processors(), time.monotonic_ns()
        here = context()
        status = births.run(lambda here=here: begin(here), rest=lambda plan, here=here: finish(plan, here))
        took = time.monotonic_ns() - began
        if status:
            sys.exit(f"exit status {status}")
        os.write(1, b"%d %d %d %d %d\n" % (took, processors() - before, spent[0], in_a_loop, first))
    del held


def measure(rounds: int, warm: int = 10, alone: bool = False) -> dict[str, dict[str, float]]:
    """Return, for each server, milliseconds: of a birth, and of making its plan.

    Args:
        rounds: births of each server that count.
        warm: births of each before these.
        alone: on one processor, ahead of all else.
    """
    with place() as here, contextlib.ExitStack() as stack:
        commands = {"C": here.by_hand(), "minirt": here.by_plan(), "minirt 300": here.by_plan(300)}
        servers = {name: stack.enter_context(Server(command, alone)) for name, command in commands.items()}
        taken: dict[str, list[tuple[int, ...]]] = {name: [] for name in servers}
        for i in range(warm + rounds):
            for name, server in random.sample(list(servers.items()), len(servers)):
                once = server.birth()
                if i >= warm:
                    taken[name].append(once)
    result = {}
    for name, times in taken.items():
        births, used, plans, loops, firsts = [sorted(value / 1e6 for value in column) for column in zip(*times, strict=True)]
        result[name] = {
            "median": statistics.median(births), "low": births[rounds // 10], "processor": used[rounds // 10],
            "plan_median": statistics.median(plans), "plan_low": plans[rounds // 10],
            "plan_in_a_loop": loops[0], "plan_first": firsts[0],
        }  # fmt: skip
    return result


def ratios(measured: dict[str, dict[str, float]], of: str = "median") -> dict[str, float]:
    """Return what something is promised of: against C, of a large process against a small, of Python's part.

    Args:
        measured: by `measure`.
        of: median, low, or processor.
    """
    waiting = measured["C"]["low"] - measured["C"]["processor"] if of == "processor" else 0
    c, small, large = (measured[name][of] + waiting for name in ("C", "minirt", "minirt 300"))
    plan, first = measured["minirt"]["plan_in_a_loop"], measured["minirt"]["plan_first"]
    return {"minirt / C": small / c, "minirt 300 / minirt": large / small, "plan / C": plan / c, "first plan / C": first / c}


def count_calls(command: Sequence[str], births: int = 4, warm: int = 8) -> Counter[str]:
    """Return how often one birth makes each system call, in all its processes, as strace sees it.

    The fewest of several births: what the interpreter does now and then for itself (brk) is no part of it.
    """
    with tempfile.NamedTemporaryFile("r", prefix="strace") as file:
        with Server(["strace", "-f", "-qq", "-e", "signal=none", "-o", file.name, *command]) as server:
            for _ in range(warm + births):
                server.birth()
        text = file.read()
    lines = [line.split(None, 1) for line in text.splitlines()]
    driver = next(pid for pid, rest in lines if rest.startswith("read(0,"))
    found: list[Counter[str]] = []
    for pid, rest in lines:
        if pid == driver and rest.startswith(("read(0, ", "<... read resumed>", "write(1, ")):
            if rest.startswith("read(0, "):
                found.append(Counter())
            continue
        if not found:
            continue
        if "ERESTARTSYS" in rest:  # the end of the helper broke in on a wait: the kernel makes the call again
            found[-1][rest.split(None, 2)[1] if rest.startswith("<...") else rest.partition("(")[0]] -= rest[0] == "<"
        elif not rest.startswith(("<...", "+++", "---")):
            found[-1][rest.partition("(")[0]] += 1
    last = found[-1 - births : -1]
    fewest = {name: min(one[name] for one in last) for name in set().union(*last)}
    return Counter({name: n for name, n in fewest.items() if n})


def table(measured: dict[str, dict[str, float]]) -> str:
    """Return the figures as text."""
    head = f"{'one container, ms':<20}{'median':>9}{'low':>9}{'processor':>11}"
    lines = [head + f"{'its plan':>10}{'low':>9}{'in a loop':>11}{'first':>9}"]
    for name, row in measured.items():
        plan = "".join(f"{row[key]:>{width}.3f}" for key, width in PLAN.items()) if row["plan_median"] else ""
        lines.append(f"{name:<20}{row['median']:>9.2f}{row['low']:>9.2f}{row['processor']:>11.2f}{plan}")
    medians, lows, used = (ratios(measured, of) for of in ("median", "low", "processor"))
    lines += [f"{name:<20}{value:>9.2f}{lows[name]:>9.2f}{used[name]:>11.2f}" for name, value in medians.items()]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; or be one of the servers."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="What a container's birth costs, beside C.")
    parser.add_argument("--rounds", type=int, default=100, metavar="N", help="births of each (100)")
    parser.add_argument("--alone", action="store_true", help="on one processor, ahead of all else")
    parser.add_argument("--format", choices=("table", "json"), default="table", help="how to print (table)")
    parser.add_argument("--serve", default="", metavar="DIR", help=argparse.SUPPRESS)
    parser.add_argument("--ballast", type=int, default=0, metavar="MB", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.serve:
        serve(args.serve, args.ballast)
        return 0
    if os.geteuid() != 0:
        print("bench: new namespaces and mounts need root", file=sys.stderr)
        return 1
    measured = measure(args.rounds, alone=args.alone)
    if args.format == "json":
        told = {"milliseconds": measured, "ratios": ratios(measured), "processor": ratios(measured, "processor")}
        print(json.dumps(told, indent=2))
    else:
        print(table(measured))
    return 0


if __name__ == "__main__":
    sys.exit(main())
