"""The executor's start: beside its parent, in the same memory, until the kernel has loaded it. No root needed."""

import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest

from minirt.errors import KernelError, MinirtError
from minirt.plan import Plan
from minirt.plan.birth import Birth
from minirt.plan.executor import Parent


def children() -> list[str]:
    return Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()


def test_the_executor_starts_before_the_plan_is_made() -> None:
    seen = []

    def make() -> Plan:
        (pid,) = children()
        while not os.readlink(f"/proc/{pid}/exe").startswith("/memfd:minirt-executor"):
            time.sleep(0.001)
        seen.append(int(pid))
        return Plan().exit_group(3)

    with Birth(make) as birth:
        assert list(birth.barriers()) == []
        assert [birth.pid] == seen and birth.wait() == 3


def test_a_plan_that_cannot_be_made_leaves_no_executor() -> None:
    def fail() -> Plan:
        raise MinirtError("no such thing")

    before = os.listdir("/proc/self/fd")
    with pytest.raises(MinirtError, match="no such thing"):
        Birth(fail)
    assert children() == [] and os.listdir("/proc/self/fd") == before


def test_what_keeps_the_executor_from_starting_is_told_with_its_errno() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        with pytest.raises(KernelError, match="the executor could not be started: execveat: Bad file descriptor") as caught:
            Plan().exit_group(0).run(fds=(0, 1, 999))
        assert caught.value.errno == 9
    assert children() == []
    assert len(os.listdir("/proc/self/fd")) < before + 10, "none is left of each; some may be another test's thread's"


def test_a_program_may_get_a_thousand_descriptors() -> None:
    fds = [0, 1, 2, *[0] * 900]
    plan = Plan(preserve_fds=900).execve("/bin/sh", ["sh", "-c", "ls /proc/self/fd | wc -l | grep -qx 904 && exit 5"], [])
    assert plan.run(fds=fds) == 5, "and the one that ls reads the directory by"


def test_threads_start_executors_side_by_side_and_the_memory_for_that_is_used_again() -> None:
    """Each has a stack of its own in our memory until its execve; the kernel says when that is free."""
    wrong = []

    def many() -> None:
        for i in range(25):
            if (status := Plan().exit_group(i).run()) != i:
                wrong.append(status)

    def megabytes() -> float:
        return int(re.search(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024  # type: ignore[index]

    many()
    before = megabytes()
    for _ in range(400):
        Plan().exit_group(0).run()
    assert megabytes() < before + 6, "one birth after the other needs one stack; each a new one would be 14 MB"
    threads = [threading.Thread(target=many) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_parent_that_gets_signals_all_the_time_is_not_disturbed() -> None:
    """No handler runs in the new process, which shares the memory that it would change."""
    mine = os.getpid()
    elsewhere = []
    before = signal.signal(signal.SIGALRM, lambda *_: elsewhere.append(os.getpid()) if os.getpid() != mine else None)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        assert [Plan().exit_group(7).run() for _ in range(200)] == [7] * 200
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert elsewhere == []


def test_a_parent_of_another_kind_says_why_it_cannot() -> None:
    class Refuses(Parent):
        def spawn(self, fds: list[int], plan: int) -> int:
            return -11

    with pytest.raises(KernelError, match="clone: Resource temporarily unavailable"):
        Birth(Plan().exit_group(0), parent=Refuses())
    assert children() == []


def reads(plan: Plan) -> int:
    """Return how often a plan waits for more of itself."""
    return sum(record.call == "read" and not record.barrier for record in plan.records)


def test_a_plan_in_parts_runs_each_while_the_next_is_made(tmp_path: Path) -> None:
    made = tmp_path / "made"

    def second(plan: Plan) -> None:
        end = time.monotonic() + 60
        while not made.is_dir():  # the part before is run meanwhile
            assert time.monotonic() < end
            time.sleep(0.001)
        plan.mkdirat(-100, str(made / "below"), 0o755)

    parts = (lambda plan: plan.mkdirat(-100, str(made), 0o755), second, lambda plan: plan.exit_group(5))
    with Birth(lambda: Plan().clone3(0x8000).await_rest(), rest=parts) as birth:  # CLONE_PARENT
        assert list(birth.barriers()) == [] and birth.wait() == 5
    assert (made / "below").is_dir() and reads(birth.plan) == 3


def test_from_a_barrier_on_a_plan_is_not_in_parts() -> None:
    """The message that more is there would be taken for the barrier's answer."""
    parts = (lambda plan: plan.umask(0), lambda plan: plan.barrier("wait"), lambda plan: plan.exit_group(6))
    with Birth(lambda: Plan().clone3(0x8000).await_rest(), rest=parts) as birth:
        barriers = birth.barriers()
        assert next(barriers) == "wait" and reads(birth.plan) == 2
        assert list(barriers) == [] and birth.wait() == 6


def test_a_part_that_cannot_be_made_leaves_no_child() -> None:
    def fail(plan: Plan) -> None:
        raise MinirtError("no such thing")

    with pytest.raises(MinirtError, match="no such thing"):
        Birth(lambda: Plan().clone3(0x8000).await_rest(), rest=(lambda plan: plan.umask(0), fail))
    assert children() == []
