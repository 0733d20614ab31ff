"""Detached containers beside podman's (with conmon and crun): the same machine, in turn, one run.

    .venv/bin/python -m bench.engine [--containers 300] [--megabytes 256] [--format json]

    start           run -d of a sleeper, ms a container
    stop, rm        of all of them by one command, ms a container
    monitor         memory of what stays with each, KiB: Pss is its part of what is shared, Rss is all that it has mapped
    log             what a container writes to its standard output until it is in the log, MB/s; and how many lines were lost

Both run in a mount namespace in which /sys/fs/cgroup is cgroup v2 alone, as crun wants it, and neither has a network.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from bench.beside import able, once_more, parser
from bench.beside import podman as podman_of

BATCH = 25  # containers that one of the two starts before it is the other's turn
LIMITS = ("--pids-limit=0", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")  # podman's own take rights
ROUNDS = 3  # of the log


class Engine:
    """One of the two. Args: command, how it is called; run, options of its run; monitor, the name of its monitor's process."""

    def __init__(self, name: str, command: list[str], run: tuple[str, ...], monitor: str, env: dict[str, str]) -> None:
        self.name = name
        self.command = command
        self.run = run
        self.monitor = monitor
        self.env = {**os.environ, **env}
        self.ids: list[str] = []
        self.seconds: dict[str, float] = {}

    def __call__(self, *words: str) -> str:
        """Run one command, which must succeed. Returns what it printed."""
        done = subprocess.run([*self.command, *words], env=self.env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=1200)  # fmt: skip
        if done.returncode:
            raise SystemExit(f"{self.name} {' '.join(words[:6])}: {done.stderr.strip()}")
        return done.stdout.strip()

    def timed(self, what: str, *words: str) -> str:
        """The same, and add to how long it took."""
        began = time.perf_counter()
        out = self(*words)
        self.seconds[what] = self.seconds.get(what, 0.0) + time.perf_counter() - began
        return out

    def start(self, count: int) -> None:
        """Start sleepers."""
        for _ in range(count):
            self.ids.append(self.timed("start", "run", "-d", *self.run, "bb", "sleep", "100000"))

    def memory(self) -> dict[str, float]:
        """Return KiB a monitor."""
        ours = [pid for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))) if self.is_monitor(pid)]
        assert len(ours) == len(self.ids), f"{len(ours)} monitors of {len(self.ids)} containers"
        total = {"Pss": 0, "Rss": 0}
        for pid in ours:
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
                key, value, *_ = line.split()
                if key[:-1] in total:
                    total[key[:-1]] += int(value)
        return {f"monitor {key}": value / len(ours) for key, value in total.items()}

    def is_monitor(self, pid: int) -> bool:
        """Say whether a process is one of our containers' monitors."""
        try:
            if Path(f"/proc/{pid}/comm").read_text().strip() != self.monitor:
                return False
            shown = Path(f"/proc/{pid}/environ").read_bytes() + Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False
        return str(self.env["BENCH_PLACE"]).encode() in shown

    def log(self, file: Path, lines: int) -> tuple[float, int]:
        """Let a container write a file to its standard output. Returns seconds of its life, and how many lines were lost.

        It lives until its last line is taken: what is not yet is at most the 64 KiB of the pipe.
        """
        id = self("run", "-d", *self.run, "-v", f"{file}:/lines:ro", "bb", "cat", "/lines")
        self("wait", id)
        state = json.loads(self("inspect", id))[0]["State"]
        began, ended = (datetime.fromisoformat(state[key]).timestamp() for key in ("StartedAt", "FinishedAt"))
        seconds = ended - began
        counted = subprocess.run(["sh", "-c", '"$@" | grep -c "^line "', "sh", *self.command, "logs", id], env=self.env,
                                 stdout=subprocess.PIPE, text=True)  # fmt: skip
        self("rm", id)
        return seconds, lines - int(counted.stdout or 0)


def engines(place: Path) -> list[Engine]:
    """Return both, each with an image `bb`, of the same files."""
    (place / "minirt").mkdir()
    command, env = podman_of(place)
    common = {"BENCH_PLACE": str(place)}
    minirt = Engine("minirt", [f"{Path(sys.executable).parent}/minirt"], ("--network", "none"), "minirt-monitor",
                    {**common, "MINIRT_ROOT": f"{place}/minirt"})  # fmt: skip
    podman = Engine("podman", command, ("--network", "none", *LIMITS), "conmon", {**common, **env})
    minirt("run", "--rm", "busybox", "true")
    minirt("image", "tag", "busybox", "bb")
    minirt("image", "export", "-o", f"{place}/bb.tar", "busybox")
    podman("import", f"{place}/bb.tar", "bb")
    try:
        podman("run", "--rm", *podman.run, "bb", "true")
    except SystemExit as error:  # crun may not load its filter of devices here (RLIMIT_MEMLOCK): then without cgroups
        print(f"{error}: podman without cgroups, which is less to do", file=sys.stderr)
        podman.run = (*podman.run, "--cgroups=disabled")
    return [minirt, podman]


def measure(place: Path, count: int, megabytes: int) -> dict[str, dict[str, float]]:
    """Return numbers by measurement and engine."""
    both = engines(place)
    results: dict[str, dict[str, float]] = {}
    for engine in both:  # what is read for the first time
        engine("rm", "-f", engine("run", "-d", *engine.run, "bb", "sleep", "100000"))
    for first in range(0, count, BATCH):
        for engine in both:
            engine.start(min(BATCH, count - first))
    for engine in both:
        for name, value in engine.memory().items():
            results.setdefault(name, {})[engine.name] = value
    for engine in both:
        engine.timed("stop", "stop", "-t", "0", *engine.ids)
        engine.timed("rm", "rm", *engine.ids)
    for name in ("start", "stop", "rm"):
        results[name] = {engine.name: engine.seconds[name] / count * 1000 for engine in both}
    lines = megabytes * 10_000  # of a hundred bytes
    file = place / "lines"
    with open(file, "w") as stream:
        stream.writelines(f"line {number:094}\n" for number in range(lines))
    best: dict[str, float] = {}
    for _ in range(ROUNDS):
        for engine in both:
            seconds, lost = engine.log(file, lines)
            best[engine.name] = max(best.get(engine.name, 0.0), megabytes / max(seconds, 0.001))
            results.setdefault("lines lost", {engine.name: 0 for engine in both})[engine.name] += lost
    return {**results, "log": best}


def show(results: dict[str, dict[str, float]], count: int) -> None:
    """Print a table."""
    print(f"{f'{count} containers':<22}{'minirt':>10}{'podman':>10}{'ratio':>8}")
    units = {"log": "MB/s", "lines lost": "", "monitor Pss": "KiB", "monitor Rss": "KiB"}
    for name, row in sorted(results.items(), key=lambda item: item[0] not in ("start", "stop", "rm")):
        ratio = f"{row['minirt'] / row['podman']:8.2f}" if row["podman"] else ""
        print(f"{f'{name} {units.get(name, chr(109) + chr(115))}':<22}{row['minirt']:>10.1f}{row['podman']:>10.1f}{ratio}")
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    words = parser("bench.engine", __doc__, inside=True)
    words.add_argument("--containers", type=int, default=300, help="of each (300)")
    words.add_argument("--megabytes", type=int, default=256, help="that a container writes (256)")
    args = words.parse_args(argv)
    if args.inside:
        print(json.dumps(measure(args.inside, args.containers, args.megabytes)))
        return 0
    if not able("podman", "conmon", "crun"):
        return 1
    place = Path(tempfile.mkdtemp(prefix="minirt-bench-", dir="/var/tmp"))
    try:
        results = once_more("bench.engine", place, "--containers", args.containers, "--megabytes", args.megabytes)
    except subprocess.CalledProcessError:
        return 1
    finally:
        end_all(place)
    show(results, args.containers) if args.format == "table" else print(json.dumps(results, indent=2))
    return 0


def end_all(place: Path) -> None:
    """Remove what an interrupted measurement leaves: its containers, and the directory."""
    env = {**os.environ, "MINIRT_ROOT": f"{place}/minirt", "CONTAINERS_STORAGE_CONF": f"{place}/storage.conf"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    minirt = f"{Path(sys.executable).parent}/minirt"
    subprocess.run(["sh", "-c", f"ids=$({minirt} ps -aq); [ -z \"$ids\" ] || {minirt} rm -f $ids"], env=env, **quiet)  # type: ignore[call-overload]
    subprocess.run(["podman", "--tmpdir", f"{place}/tmp", "--runtime", "crun", "rm", "-fa", "-t", "0"], env=env, **quiet)  # type: ignore[call-overload]
    subprocess.run(["sh", "-c", f"umount {place}/graph/overlay 2>/dev/null; rm -rf {place}"], **quiet)  # type: ignore[call-overload]


if __name__ == "__main__":
    sys.exit(main())
