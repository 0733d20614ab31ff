"""Whatever call of a birth fails, nothing is left: no mount, process, cgroup, directory or interface."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import subprocess
import time
from copy import copy
from pathlib import Path
from typing import NamedTuple

import pytest

from minirt.engine import planned, session
from minirt.engine import run as engine
from minirt.engine.options import RunOptions
from minirt.errors import MinirtError
from minirt.linux.cgroup2 import find_mount, find_parent
from minirt.plan import Plan
from minirt.state.schema import State

pytestmark = [
    pytest.mark.root,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="making a container's namespaces needs CAP_SYS_ADMIN"),
]

PLANS = {
    "default": {},
    "user namespace": {"userns": "auto", "tmpfs": ["/data"], "security_opt": ["no-new-privileges"]},
    "everything": {
        "tty": True, "init": True, "read_only": True, "volume": ["/var/tmp:/data:ro"], "workdir": "/a/b", "user": "nobody",
        "sysctl": ["net.ipv4.ip_forward=1"], "ulimit": ["nofile=64"], "device": ["/dev/full:/dev/mine"],
        "oom_score_adj": 100,
    },
}  # fmt: skip


MADE: set[str] = set()  # ids of the containers that were begun in this process


class Left(NamedTuple):
    """What a run could leave behind, as the kernel lists it."""

    mounts: frozenset[str]
    children: frozenset[str]
    cgroups: frozenset[str]
    directories: frozenset[str]
    interfaces: frozenset[str]
    descriptors: frozenset[str]


def listing(path: str) -> frozenset[str]:
    return frozenset(os.listdir(path)) if os.path.isdir(path) else frozenset()


def left(root: Path) -> Left:
    cgroups = find_parent(find_mount()) if find_mount() else "/nowhere"
    # What other programs mount meanwhile on this machine is not ours.
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(root) in line]
    groups = listing(cgroups) & MADE  # nor are the groups of containers that others run
    return Left(
        frozenset(mounts),
        frozenset(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()),
        groups,
        listing(f"{root}/lib/containers"),
        listing("/sys/class/net"),
        listing("/proc/self/fd"),
    )


def run(**chosen: object) -> MinirtError | int:
    """Run a container in this process; return its exit status, or how it failed."""
    try:
        return engine.run(RunOptions("busybox", ["true"], rm=True, **chosen))
    except MinirtError as error:
        return error


@pytest.fixture
def root(minirt, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run in this process, with minirt's directories below a place of the test's own."""
    create = engine.Container.create

    def noted(*args: object):
        container = create(*args)
        MADE.add(container.id)
        return container

    monkeypatch.setattr(engine.Container, "create", noted)
    monkeypatch.setenv("MINIRT_ROOT", str(minirt.root))
    State().base.close()  # from now on this process has a descriptor of it
    return minirt.root


def plan_of(monkeypatch: pytest.MonkeyPatch, **chosen: object) -> Plan:
    """Return the plan of a run that goes well, in one piece as a run with --fail has it; without the barriers of who watches."""
    plans = []
    shape = planned.shape

    def noted(plan: Plan, options: RunOptions) -> Plan:
        plans.append(copy(plan))
        plans[0].items = list(plan.items)
        return shape(plan, options)

    with monkeypatch.context() as patch:
        patch.setattr(planned, "shape", noted)
        assert run(trace="/dev/null", **chosen) == 0
    return plans[0]


@pytest.mark.parametrize("name", PLANS)
def test_a_failure_at_any_call_leaves_nothing(name: str, root: Path, monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    plan = plan_of(monkeypatch, **PLANS[name])
    assert run(**PLANS[name]) == 0  # a process keeps the executor, and a device filter's program for those who want the same
    before = left(root)
    assert before.directories == frozenset()
    count: dict[str, int] = {}
    failed = 0
    for record in plan.records:
        if record.barrier:
            continue
        count[record.call] = count.get(record.call, 0) + 1
        what = f"{record.call}:{count[record.call]}=EPERM"
        outcome = run(fail=[what], **PLANS[name])
        assert left(root) == before, f"{what} in step {record.step}"
        if isinstance(outcome, MinirtError):
            failed += 1
            assert errno.EPERM not in record.otherwise, what
            assert "\n" not in str(outcome) and "EPERM" in str(outcome), what
            assert outcome.exit_code == (126 if record.call == "execve" else 125), what
        elif errno.EPERM not in record.otherwise:
            # Not reached: the executor's end says nothing of the child, or an earlier call's errno went past it.
            assert outcome == 0 and (record.call == "exit_group" or not reached(record, plan)), what
    assert failed > 60


def reached(record, plan: Plan) -> bool:
    """Whether nothing before it in its step may branch past it."""
    before = [r for r in plan.records[: plan.records.index(record)] if r.step == record.step]
    return not any(r.positive or any(r.otherwise.values()) for r in before)


@pytest.mark.parametrize("error", ["ENOMEM", "EAGAIN", "ENOSPC"])
def test_a_failure_to_make_the_process_leaves_nothing(root: Path, error: str) -> None:
    assert run() == 0  # as above
    before = left(root)
    outcome = run(fail=[f"clone3={error}"])
    assert isinstance(outcome, MinirtError) and error in str(outcome)
    assert left(root) == before


@pytest.mark.parametrize("barrier", ["resolve", "idmaps", "console"])
def test_an_error_of_ours_at_a_barrier_leaves_nothing(root: Path, monkeypatch: pytest.MonkeyPatch, barrier: str) -> None:
    def fail(session, birth) -> None:
        raise MinirtError("planted")

    method = {"resolve": "resolve", "idmaps": "id_maps", "console": "console"}[barrier]
    before = left(root)
    monkeypatch.setattr(engine.Session, method, fail)
    assert str(run(userns="auto", tty=True)) == "planted"
    assert left(root) == before


def test_an_error_while_the_rest_of_the_plan_is_made_leaves_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The executor has begun by then, and its child waits for what will not come."""
    before = left(root)

    def fail(*_: object) -> None:
        raise MinirtError("the rest cannot be")

    monkeypatch.setattr(session, "finish_plan", fail)
    outcome = run()
    assert isinstance(outcome, MinirtError) and "the rest cannot be" in str(outcome)
    assert left(root) == before


def test_death_of_the_child_while_the_rest_of_the_plan_is_made_leaves_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, finish = left(root), session.finish_plan

    def kill(plan: Plan, context: object) -> None:
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        for pid in children:
            os.kill(int(pid), signal.SIGKILL)
        finish(plan, context)

    monkeypatch.setattr(session, "finish_plan", kill)
    assert isinstance(run(), MinirtError)
    assert left(root) == before


def test_death_of_the_child_at_a_barrier_leaves_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve = engine.Session.resolve

    def kill(session, birth) -> None:
        resolve(session, birth)
        os.kill(birth.pid, signal.SIGKILL)

    before = left(root)
    monkeypatch.setattr(engine.Session, "resolve", kill)
    outcome = run()
    assert isinstance(outcome, MinirtError) and outcome.exit_code == 125 and "\n" not in str(outcome)
    assert left(root) == before


def test_a_container_that_fails_without_rm_is_not_kept(root: Path) -> None:
    with pytest.raises(MinirtError):
        engine.run(RunOptions("busybox", ["true"], fail=["pivot_root=EPERM"]))
    assert left(root).directories == frozenset()


@pytest.fixture
def orphans_come_to_us():
    """Be the parent of what our descendants leave behind (man 2 PR_SET_CHILD_SUBREAPER)."""
    libc = ctypes.CDLL(None)
    assert libc.prctl(36, 1, 0, 0, 0) == 0
    yield
    libc.prctl(36, 0, 0, 0, 0)


@pytest.mark.parametrize("calls", [1, 5, 12, 40])
def test_sigkill_of_minirt_at_a_barrier_ends_the_child(minirt, orphans_come_to_us, calls: int) -> None:
    before = left(minirt.root).children
    pipe = subprocess.PIPE
    running = minirt.start("run", "--rm", "--step", "busybox", "sleep", "60", stdin=pipe, start_new_session=True)
    running.stdin.write("\n" * calls)
    running.stdin.flush()
    text, end = "", time.monotonic() + 30
    while text.count("[Enter]") <= calls and time.monotonic() < end:
        text += os.read(running.stderr.fileno(), 65536).decode()
    waiting = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    assert waiting, "there is no child that waits"
    running.kill()
    running.communicate(timeout=10)
    end = time.monotonic() + 10
    while (ours := left(minirt.root).children - before) and time.monotonic() < end:
        for pid in ours:
            os.waitpid(int(pid), os.WNOHANG)
        time.sleep(0.01)
    assert not ours
    # Its directory and its cgroup are left, as nobody was there to remove them; the group must be empty.
    (container,) = minirt.containers
    if find_mount() and os.path.isdir(group := os.path.join(find_parent(find_mount()), container.name)):
        os.rmdir(group)


def test_each_cut_plan_runs_or_is_refused_and_leaves_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One wall less, or only the first few: it still leaves a process that runs, and the host as it was."""
    steps = list(plan_of(monkeypatch).steps)
    before, name = left(root), os.uname()
    for options in [*({"without": [step]} for step in steps), *({"upto": step} for step in steps)]:
        outcome = run(**options)
        if isinstance(outcome, MinirtError):
            assert "nothing would be left to run" in str(outcome), options
        else:
            assert outcome == 0, options
        assert left(root) == before, options
        assert os.uname() == name, options


def test_q_at_a_step_leaves_nothing(minirt) -> None:
    before = left(minirt.root)
    done = minirt("run", "--rm", "--step", "busybox", "true", input="\n" * 9 + "q\n", start_new_session=True)
    assert done.returncode == 130
    assert "pivot_root" not in done.stdout
    assert left(minirt.root) == before
