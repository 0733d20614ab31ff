"""`minirt-oci` beside runc and crun: the same bundle, the same machine, one run.

    .venv/bin/python -m bench.oci [--runs 40] [--format json]

    run             run ID: /bin/true, start to end and deleted
    create+start+delete   three commands, as an engine gives them; delete with --force
    exec            one more /bin/true in a container that runs
    in process      100 times `run` through the Python API, in one interpreter: per container
    2 at a time     the same by two threads, beside two shells that run the peer

Where the time of one in process goes is told below the table:

    prepared   config.json, the state's directory, the cgroup: Python, one file or directory of the kernel's after the other
    born       from the executor's start until all is ready for the program. Of that the kernel's calls in the executor and in the
               child are told; the rest is their start, and what they wait for Python, which makes the plan meanwhile
    lived      the start, /bin/true itself, and its end: the namespaces go, and their mounts
    removed    the cgroup and the state

The kernel's calls are the floor, and most of it is clone3 and the last umount2, where the kernel waits for other processors. The
same calls from C (`python -m bench`) take as long. Two at a time share locks there: network namespaces are made and
mounts are changed one after the other, so two processors do not make it half.

minirt is installed from a wheel into a virtual environment with nothing else in it. All run in a mount namespace in
which /sys/fs/cgroup is cgroup v2 alone, as crun wants it. "python" is the bare interpreter, `python3 -I -S -c pass`.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.beside import ROOT, able, hyperfine, install, once_more, parser

PEERS = ("runc", "crun")
LIFE = """set -e
cd {bundle}
{runtime} create life </dev/null >/dev/null 2>&1
{runtime} start life
{runtime} delete --force life
"""


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    words = parser("bench.oci", __doc__, inside=True)
    words.add_argument("--runs", type=int, default=40, help="of each command (40)")
    args = words.parse_args(argv)
    if args.inside:
        print(json.dumps(measure(args.inside, args.runs)))
        return 0
    if not able("hyperfine", *PEERS, "busybox"):
        return 1
    with tempfile.TemporaryDirectory(prefix="minirt-bench-", dir="/var/tmp") as name:
        place = Path(name)
        install(place)
        make_bundle(place / "bundle")
        results = once_more("bench.oci", place, "--runs", args.runs)
    show(results) if args.format == "table" else print(json.dumps(results, indent=2))
    return 0


def make_bundle(path: Path) -> None:
    """Make a bundle whose program is a static `true`, which each of the runtimes takes."""
    from minirt.oci.spec import default_spec

    (path / "rootfs/bin").mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox
    shutil.copy(busybox, path / "rootfs/bin/busybox")
    for name in ("true", "sleep"):
        (path / "rootfs/bin" / name).symlink_to("busybox")
    config = default_spec()
    config["ociVersion"] = "1.0.2"
    config["process"].update(args=["/bin/true"], env=["PATH=/bin", "HOME=/"])
    (path / "config.json").write_text(json.dumps(config))
    config["process"]["args"] = ["/bin/sleep", "1000"]
    (path / "sleeper").mkdir()
    config["root"]["path"] = str(path / "rootfs")
    (path / "sleeper/config.json").write_text(json.dumps(config))


def means(commands: dict[str, str], runs: int, place: Path) -> dict[str, float]:
    """Return the mean of each command in milliseconds."""
    results = hyperfine([*commands.values()], runs, 3, place / "hyperfine.json", cwd=place / "bundle", stderr=subprocess.PIPE)
    return {name: result["mean"] * 1000 for name, result in zip(commands, results, strict=True)}


def measure(place: Path, runs: int) -> dict[str, dict[str, float]]:
    """Return milliseconds by measurement and program."""
    runtimes = {"minirt": f"{place}/venv/bin/minirt-oci", **{name: str(shutil.which(name)) for name in PEERS}}
    results = {}
    python = {"python": f"{place}/venv/bin/python3 -I -S -c pass"}
    results["run"] = means({**{name: f"{path} run box" for name, path in runtimes.items()}, **python}, runs, place)
    lives = {}
    for name, path in runtimes.items():
        (place / f"life-{name}").write_text(LIFE.format(bundle=place / "bundle", runtime=path))
        lives[name] = f"sh {place}/life-{name}"
    results["create+start+delete"] = means(lives, runs, place)
    for path in runtimes.values():
        nowhere = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        subprocess.run([path, "run", "-d", "long"], cwd=place / "bundle/sleeper", check=True, **nowhere)
    try:
        results["exec"] = means({name: f"{path} exec long /bin/true" for name, path in runtimes.items()}, runs, place)
    finally:
        for path in runtimes.values():
            subprocess.run([path, "delete", "--force", "long"], check=True)
    code = f"from bench.oci import in_process; import json; print(json.dumps(in_process({str(place)!r})))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    own = json.loads(done.stdout)
    results["in process"] = {"minirt": own["one"], **{name: results["run"][name] for name in PEERS}}
    results["2 at a time"] = {"minirt": own["two"], **{name: two_at_a_time(runtimes[name], place) for name in PEERS}}
    results["of one in process"] = own["phases"]
    return results


def two_at_a_time(runtime: str, place: Path, count: int = 30) -> float:
    """Return the milliseconds of one container among many that two shells make, each one after the other."""
    loops = [f"for i in $(seq {count}); do {runtime} run {name}$i; done" for name in ("left", "right")]
    began = time.perf_counter()
    shells = [subprocess.Popen(["sh", "-ec", loop], cwd=place / "bundle", stdin=subprocess.DEVNULL) for loop in loops]
    assert [shell.wait() for shell in shells] == [0, 0]
    return (time.perf_counter() - began) / (2 * count) * 1000


def in_process(place: str, count: int = 100) -> dict[str, Any]:
    """Return the milliseconds of one container among many that one interpreter makes: one thread, two, and the first's phases."""
    from minirt.runtime.create import run

    values: dict[str, Any] = dict.fromkeys(("console_socket", "pidfd_socket", "pid_file"), "")
    values |= dict.fromkeys(("no_pivot", "no_new_keyring", "detach", "keep", "systemd_cgroup"), False)
    values |= {"bundle": f"{place}/bundle", "preserve_fds": 0}

    def make(name: str, numbers: range) -> None:
        for i in numbers:
            assert run(f"{place}/state", f"{name}{i}", values, print) == 0

    def timed(threads: int) -> float:
        shares = [threading.Thread(target=make, args=("box", range(k, count, threads))) for k in range(threads)]
        began = time.perf_counter()
        for thread in shares:
            thread.start()
        for thread in shares:
            thread.join()
        return (time.perf_counter() - began) / count * 1000

    make("warm", range(3))
    began = time.perf_counter()
    make("box", range(count))
    one = (time.perf_counter() - began) / count * 1000
    return {"one": one, "two": timed(2), "phases": phases(make, count)}


def phases(make: Callable[[str, range], None], count: int) -> dict[str, float]:
    """Return the milliseconds of the parts of one container's life (medians), and of the kernel's calls in its birth."""
    from minirt.plan import birth, executor, ring
    from minirt.runtime import create

    marks: dict[str, list[float]] = {}
    last = [0.0]

    def mark(name: str) -> None:
        now = time.perf_counter()
        marks.setdefault(name, []).append(now - last[0])
        last[0] = now

    def before(owner: Any, method: str, name: str) -> Callable[[], None]:
        real = getattr(owner, method)

        def call(*args: Any) -> Any:
            mark(name)
            return real(*args)

        setattr(owner, method, call)
        return lambda: setattr(owner, method, real)

    def calls(self: birth.Birth) -> None:
        rate = (birth._clock()[0] - started[0]) / (birth._clock()[1] - started[1])  # nanoseconds a tick
        spent = sum(ended - began for record, _, began, ended in ring.outcomes(self, 0) if ended and record.call != "read")
        marks.setdefault("calls", []).append(spent * rate / 1e9)
        finish(self)

    undo = [before(executor.Parent, "spawn", "prepared"), before(create.hooks, "run_inside", "born"),
            before(create.Making, "remove_group", "lived")]  # fmt: skip
    try:
        for i in range(count):
            last[0] = time.perf_counter()
            make("part", range(i, i + 1))
            mark("removed")
    finally:
        for restore in undo:
            restore()
    started, finish = birth._clock(), birth.Birth._finish
    birth.Birth._finish = calls  # type: ignore[method-assign]
    try:
        make("part", range(count))
    finally:
        birth.Birth._finish = finish  # type: ignore[method-assign]
    return {name: statistics.median(times) * 1000 for name, times in marks.items()}


def show(results: dict[str, dict[str, float]]) -> None:
    """Print a table: milliseconds, and how much of a peer's time that is."""
    print(f"{'means of one run, ms':<22}{'minirt':>9}{'runc':>9}{'crun':>9}{'of runc':>10}{'of crun':>9}")
    parts = results.pop("of one in process")
    for name, times in results.items():
        ours, runc, crun = times["minirt"], times["runc"], times["crun"]
        print(f"{name:<22}{ours:>9.1f}{runc:>9.1f}{crun:>9.1f}{ours / runc:>10.2f}{ours / crun:>9.2f}")
    print(f"the bare interpreter: {results['run']['python']:.1f} ms")
    named = ", ".join(f"{name} {parts[name]:.2f}" for name in ("prepared", "born", "lived", "removed"))
    print(f"of one in process: {named}; the kernel's calls in its birth {parts['calls']:.2f} ms")


if __name__ == "__main__":
    sys.exit(main())
