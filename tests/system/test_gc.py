"""minirt killed by SIGKILL at any moment: `minirt gc` then leaves no mount, process, cgroup or directory.

And nothing that lives is hurt.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from command import Minirt, gone

from minirt.engine import gc
from minirt.engine import run as engine
from minirt.engine.container import containers
from minirt.engine.options import RunOptions
from minirt.linux.cgroup2 import find_mount, find_parent
from minirt.linux.process import start_time

pytestmark = [
    pytest.mark.root,
    pytest.mark.timeout(120),
    pytest.mark.skipif(os.geteuid() != 0, reason="making a container's namespaces needs CAP_SYS_ADMIN"),
]

PLANS = {
    "default": {},
    "user namespace": {"userns": "auto", "tmpfs": ["/data"]},
    "everything": {"tty": True, "init": True, "volume": ["/var/tmp:/data:ro"], "workdir": "/a/b", "user": "nobody"},
}


@pytest.fixture
def root(minirt: Minirt, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINIRT_ROOT", str(minirt.root))
    return minirt.root


def run(**chosen: object) -> int:
    return engine.run(RunOptions("busybox", ["true"], **{"rm": True, **chosen}))


def killed(prepare: Callable[[], None], **chosen: object) -> bool:
    """Run a container in a process of its own; say whether that was killed before it came to its end."""
    pid = os.fork()
    if pid == 0:
        nothing = os.open("/dev/null", os.O_RDWR)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        try:
            prepare()
            run(**chosen)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def collect(root: Path) -> None:
    """gc, and again when a program has ended that had begun: it was not to be hurt."""
    gc.collect()
    deadline = time.monotonic() + 20
    while processes(root) and time.monotonic() < deadline:
        time.sleep(0.005)
    gc.collect()


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def processes(root: Path) -> list[int]:
    """Those that have something of this root mounted, in a mount namespace of their own."""
    ours, found = os.readlink("/proc/self/ns/mnt"), []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{pid}/ns/mnt") != ours and root.name in Path(f"/proc/{pid}/mountinfo").read_text():
                found.append(int(pid))
        except OSError:
            continue
    return found


def left(root: Path, ids: set[str]) -> dict[str, list[object]]:
    groups = find_parent(find_mount()) if find_mount() else "/nowhere"
    return {
        "directories": sorted(os.listdir(root / "lib" / "containers")) if (root / "lib" / "containers").is_dir() else [],
        "holds": sorted(set(os.listdir(root / "lib" / "image" / "holds")) & ids),
        "processes": processes(root),
        "mounts": [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if root.name in line],
        "cgroups": sorted(set(os.listdir(groups)) & ids) if os.path.isdir(groups) else [],
        "rows": rows(root),
    }


def rows(root: Path) -> list[object]:
    """The ids of the containers that its database knows, also of those that are being removed."""
    if not (root / "lib" / "state.sqlite-wal").exists():
        return []
    with closing(sqlite3.connect(root / "lib" / "state.sqlite", timeout=60)) as base:
        return sorted(id for (id,) in base.execute("SELECT id FROM container"))


SAVE = engine.Container.save
NOTHING = {"directories": [], "holds": [], "processes": [], "mounts": [], "cgroups": [], "rows": []}


def ids(root: Path) -> set[str]:
    return set(os.listdir(root / "lib" / "containers"))


@pytest.mark.parametrize("name", PLANS)
def test_killed_in_each_barrier_nothing_is_left(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    met: list[str] = []
    stand = engine.Session.stand
    monkeypatch.setattr(engine.Session, "stand", lambda self, at, birth: met.append(at) or stand(self, at, birth))
    assert run(**PLANS[name]) == 0 and "resolve" in met
    for barrier in met:
        fatal = lambda self, at, birth, b=barrier: die() if at == b else stand(self, at, birth)  # noqa: E731
        monkeypatch.setattr(engine.Session, "stand", fatal)
        assert killed(lambda: None, **PLANS[name])
        made = ids(root)
        assert len(made) == 1
        collect(root)
        assert left(root, made) == NOTHING, barrier


class Events:
    """Dies at the n-th event of interest that the interpreter tells its audit hooks (PEP 578)."""

    WANTED = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chown", "os.chmod", "shutil.rmtree", "open", "fcntl.flock",
              "os.fork", "cpython.run_", "sqlite3.connect")  # fmt: skip

    def __init__(self, die_at: int) -> None:
        self.left = die_at

    def __call__(self, event: str, args: tuple[object, ...]) -> None:
        if event in self.WANTED:
            self.left -= 1
            if self.left == 0:
                die()


@pytest.mark.parametrize(("name", "every"), [("default", 1), ("user namespace", 4), ("everything", 4)])
def test_killed_at_each_file_that_is_touched_nothing_is_left(name: str, every: int, root: Path) -> None:
    assert run(**PLANS[name]) == 0  # so that all is imported
    at = moments = 1
    while killed(partial(sys.addaudithook, Events(at)), **PLANS[name]):
        made = ids(root)
        collect(root)
        assert left(root, made) == NOTHING, f"killed at event {at}"
        at += every
        moments += 1
    assert moments > 12
    assert left(root, set()) == NOTHING


def test_killed_without_rm_what_is_left_has_exited_or_is_gone(root: Path) -> None:
    run(rm=False)
    (kept,) = ids(root)
    at = 1
    while killed(partial(sys.addaudithook, Events(at)), rm=False):
        made = ids(root)
        collect(root)
        found = left(root, made)
        assert {**found, "directories": [], "holds": [], "rows": []} == NOTHING, f"killed at event {at}"
        for id in found["directories"]:
            assert engine.Container.load(str(id)).state["status"] == "exited", f"killed at event {at}"
        assert found["holds"] == found["directories"] == found["rows"] and kept in found["directories"]
        at += 3


def test_killed_at_any_time_nothing_is_left_once_the_program_has_ended(minirt: Minirt) -> None:
    began = time.monotonic()
    assert minirt("run", "--rm", "busybox", "true").returncode == 0
    whole = time.monotonic() - began
    chosen = random.Random(5)
    seen: set[str] = set()
    for _ in range(36):
        nowhere = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = minirt.start("run", "--rm", "--init", "busybox", "sleep", "0.1", **nowhere)
        time.sleep(chosen.random() * whole * 1.3)
        process.kill()
        process.wait()
        seen |= {path.name for path in minirt.containers}
        assert minirt("gc").returncode == 0  # now, when it may live or not
    deadline = time.monotonic() + 30
    while processes(minirt.root) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert minirt("gc").returncode == 0
    assert seen and left(minirt.root, seen) == NOTHING


@pytest.fixture
def orphan(minirt: Minirt):
    """A container whose minirt was killed while its program runs; give what ends it."""
    process = minirt.start("run", "--name", "box", "busybox", "sh", "-c", "echo up; sleep 600 & wait")
    assert process.stdout.readline() == "up\n"
    while not (state := minirt.state()).get("pid"):
        time.sleep(0.01)
    process.kill()
    process.wait()
    process.stdout.close()
    process.stderr.close()
    pidfd = os.pidfd_open(state["pid"])

    def end() -> None:
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        except ProcessLookupError:
            return
        while processes(minirt.root):
            time.sleep(0.01)

    yield end
    end()
    os.close(pidfd)


def test_a_program_that_lives_on_is_left_alone_and_shown(minirt: Minirt, orphan: Callable[[], None]) -> None:
    before = processes(minirt.root)
    assert minirt("gc").stdout == ""
    assert before and set(before) <= set(processes(minirt.root)) and len(minirt.containers) == 1
    assert json.loads(minirt("ps", "--format", "json").stdout)["State"] == "running"
    assert json.loads(minirt("inspect", "box").stdout)[0]["State"]["Pid"] in before


def test_ps_shows_a_container_as_exited_whose_program_is_gone(minirt: Minirt, orphan: Callable[[], None]) -> None:
    orphan()
    assert minirt("ps", "--format", "json").stdout == ""
    shown = json.loads(minirt("ps", "-a", "--format", "json").stdout)
    assert shown["State"] == "exited" and shown["Status"].startswith("Exited (255)")  # nobody saw its status
    assert minirt.state()["status"] == "exited"
    assert minirt("rm", "box").returncode == 0 and minirt.containers == []


def test_a_program_that_began_as_its_minirt_was_killed_is_found(root: Path, minirt: Minirt) -> None:
    """Killed between execve and the note of its pid: /proc alone knows."""

    pid = os.fork()
    if pid == 0:
        engine.Container.save = lambda self, told=(), **changes: die() if "pid" in changes else SAVE(self, told, **changes)
        engine.run(RunOptions("busybox", ["sleep", "600"]))
        os._exit(0)
    os.waitpid(pid, 0)
    (shown,) = json.loads(minirt("inspect", minirt("ps", "-q").stdout.strip()).stdout)
    assert shown["State"]["Running"] and Path(f"/proc/{shown['State']['Pid']}/cmdline").read_bytes() == b"sleep\x00600\x00"
    assert minirt("rm", "-f", shown["Id"]).returncode == 0
    assert left(root, {shown["Id"]}) == NOTHING


def test_a_program_that_ended_before_its_start_time_was_read_does_not_run_for_ever(root: Path) -> None:
    """The time is -1 then, as that of any process that is not there: one that was found so is not taken for alive."""

    def save(self: engine.Container, told: object = (), **changes: object) -> None:
        if changes.get("pid"):
            pid = changes["pid"]
            while " Z " not in Path(f"/proc/{pid}/stat").read_text():
                time.sleep(0.005)
            SAVE(self, told, **{**changes, "started_ticks": start_time(pid)})
            die()
        SAVE(self, told, **changes)

    assert killed(lambda: setattr(engine.Container, "save", save))
    made = ids(root)
    (container,) = containers()
    assert container.state["started_ticks"] == -1 and not container.running
    collect(root)
    assert left(root, made) == NOTHING


def test_rm_force_ends_a_container_that_nobody_stays_with(minirt: Minirt, orphan: Callable[[], None]) -> None:
    made = {path.name for path in minirt.containers}
    assert minirt("rm", "box").returncode == 1
    assert minirt("rm", "-f", "box").returncode == 0
    assert left(minirt.root, made) == NOTHING


def test_rm_force_waits_for_the_minirt_that_stays_with_it(minirt: Minirt) -> None:
    for rm in ((), ("--rm",)):
        process = minirt.start("run", *rm, "--name", "box", "busybox", "sh", "-c", "echo up; sleep 600")
        assert process.stdout.readline() == "up\n"
        while not minirt.state().get("pid"):
            time.sleep(0.01)
        done = minirt("rm", "-f", "box")
        _, error = process.communicate(timeout=30)
        assert (done.returncode, process.returncode, error) == (0, 137, ""), done.stderr + error
        assert minirt.containers == []


def test_the_name_of_a_dead_container_that_was_to_be_removed_is_free(minirt: Minirt) -> None:
    process = minirt.start("run", "--rm", "--name", "box", "busybox", "sh", "-c", "echo up; sleep 600")
    assert process.stdout.readline() == "up\n"
    while not (state := minirt.state()).get("pid"):
        time.sleep(0.01)
    process.kill()
    process.wait()
    process.stdout.close()
    process.stderr.close()
    assert minirt("run", "--rm", "--name", "box", "busybox", "true").returncode == 125, "it lives"
    os.kill(state["pid"], signal.SIGKILL)
    while not gone(state["pid"]):  # which is after its mounts have
        time.sleep(0.01)
    assert minirt("run", "--rm", "--name", "box", "busybox", "true").returncode == 0
    assert minirt.containers == []


def test_a_dry_run_tells_and_leaves_all(root: Path, minirt: Minirt) -> None:
    assert run() == 0
    assert killed(lambda: sys.addaudithook(Events(20)))
    before = left(root, ids(root))
    told = json.loads(minirt("gc", "--dry-run", "--format", "json").stdout)
    assert {garbage["path"] for garbage in told} >= {str(path) for path in minirt.containers} and told
    assert left(root, ids(root)) == before and before != NOTHING
    assert json.loads(minirt("gc", "--format", "json").stdout) == told
    assert minirt("gc").stdout == ""


def test_what_is_mounted_below_a_stale_directory_is_unmounted_and_not_removed(root: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("keep me")
    point = root / "lib" / "containers" / ("a" * 64) / "merged with\tspace"
    point.mkdir(parents=True)
    subprocess.run(["mount", "--bind", tmp_path, point], check=True)
    kinds = [garbage.kind for garbage in gc.collect()]
    assert kinds == ["mount", "container"]
    assert (tmp_path / "mine").read_text() == "keep me"
    assert left(root, set()) == NOTHING


def test_half_written_content_goes_and_what_is_being_written_stays(own_store: Minirt, monkeypatch: pytest.MonkeyPatch) -> None:
    from minirt.image.scratch import Scratch

    monkeypatch.setenv("MINIRT_ROOT", str(own_store.root))
    scratch = Scratch(f"{own_store.root}/lib/image/tmp")
    path, fd = scratch.directory()
    assert gc.collect() == [] and os.path.isdir(path)
    os.close(fd)  # what the kernel does for a process that is killed
    assert [garbage.path for garbage in gc.collect()] == [path] and not os.path.exists(path)
    assert own_store("run", "--rm", "busybox", "true").returncode == 0


def test_gc_beside_runs_takes_nothing_from_them(minirt: Minirt) -> None:
    runs = [minirt.start("run", "--rm", "busybox", "sh", "-c", "sleep 0.05; echo done") for _ in range(8)]
    while any(process.poll() is None for process in runs):
        done = minirt("gc")
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
    for process in runs:
        assert process.communicate() == ("done\n", "")


def test_what_cannot_be_removed_does_not_hide_what_went_wrong(minirt: Minirt) -> None:
    """Something is mounted in the container's directory when its birth fails."""
    step = minirt.start("run", "--rm", "--step", "busybox", "true", stdin=subprocess.PIPE, start_new_session=True)
    while not minirt.containers:
        time.sleep(0.01)
    (container,) = minirt.containers
    while not (container / "config.json").exists():
        time.sleep(0.01)
    subprocess.run(["mount", "-t", "tmpfs", "mine", container / "work"], check=True)
    _, told = step.communicate("q\n", timeout=30)
    assert f"{container} was not removed: Device or resource busy: minirt gc" in told and "Traceback" not in told
    assert [line.split(" ")[1] for line in minirt("gc").stdout.splitlines()] == ["mount", "container"]
    assert left(minirt.root, {container.name}) == NOTHING
