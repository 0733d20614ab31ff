"""The plan as data, and run by the executor. No root: the calls here need none."""

import os
import time
from pathlib import Path

import pytest

from minirt.errors import KernelError
from minirt.linux.constants import CLONE_PARENT, O_RDONLY
from minirt.plan import Memory, Plan, Slot
from minirt.plan.birth import Birth, PlanFailed
from minirt.plan.here import perform


def test_exit_status_of_the_program_comes_back() -> None:
    assert Plan().execve("/bin/sh", ["sh", "-c", "exit 7"], []).run() == 7


def test_a_slot_carries_a_result_into_a_later_argument(tmp_path: os.PathLike[str]) -> None:
    out = os.path.join(tmp_path, "out")
    fd = Slot("file")
    plan = Plan().openat(-100, out, os.O_WRONLY | os.O_CREAT, 0o644, store=fd).write(fd, "told", 4)
    assert plan.exit_group(0).run() == 0
    with open(out) as file:
        assert file.read() == "told"


def test_failure_names_the_call_and_the_errno() -> None:
    with pytest.raises(PlanFailed, match=r'openat\(AT_FDCWD, "/no/such", 0, 0000\): ENOENT'):
        Plan().openat(-100, "/no/such", O_RDONLY).execve("/bin/true").run()


def test_a_result_below_the_least_that_is_wanted_is_no_success_here() -> None:
    fd = os.open(os.devnull, os.O_RDONLY)
    try:
        with pytest.raises(KernelError, match=rf"read\({fd}, .*\): returned 0, and at least 1 is wanted"):
            perform(Plan().read(fd, Memory(bytes(1)), 1, at_least=1))
    finally:
        os.close(fd)


def test_arguments_that_are_not_those_of_the_call_are_refused_by_its_name() -> None:
    with pytest.raises(TypeError, match=r"pivot_root\(new_root, put_old\): 1 arguments given"):
        Plan().pivot_root(".")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"SystemCalls\.umount2\(\).*'target'"):
        Plan().umount2(target="/")


def test_an_executor_that_stands_at_a_barrier_has_its_whole_plan() -> None:
    """It would take the message that the rest is there for the barrier's answer, and go on alone."""
    plan = Plan().barrier("wait").clone3(CLONE_PARENT).await_rest()
    birth = Birth(plan, rest=lambda plan: plan.exit_group(7))
    barriers = birth.barriers()
    assert next(barriers) == "wait"
    time.sleep(0.05)
    state = Path(f"/proc/{birth.executor}/stat").read_text().rpartition(")")[2].split()[0]
    assert state == "S" and birth.peek(plan.pid) < 0, "it waits, and has made nobody"
    assert list(barriers) == [] and birth.wait() == 7
    birth.close()
