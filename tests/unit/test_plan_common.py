"""Passages that plans have in common are what they would be if each plan were made alone, and nobody changes them for another."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from test_plan_options import compiled, run_options

from minirt.engine.options import RunOptions
from minirt.linux import constants as k
from minirt.plan import Memory, Plan, Slot, common
from minirt.plan.birth import Birth
from minirt.plan.cut import inject
from minirt.plan.decode import describe
from minirt.plan.layout import EXTENT, HEADER, RECORD
from minirt.plan.lower import Lowered, lower
from minirt.plan.record import Address, Words

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    common.forget()
    yield
    common.forget()


def assert_says_what_the_plan_says(plan: Plan, lowered: Lowered) -> None:
    """Read the memory as the executor does, and compare it with the records. No two pieces of memory may be the same."""
    image = lowered.image
    records, count = EXTENT.unpack_from(image, 8)
    assert count == len(plan.records)
    pieces: dict[int, tuple[int, int, Memory]] = {}

    def at(memory: Memory) -> int:
        address = lowered.offset(memory) + k.PLAN_BASE
        pieces[id(memory)] = (address, address + memory.size, memory)
        if not isinstance(memory, Words):
            data = image[address - k.PLAN_HEADER :][: memory.size]
            assert data == memory.data
        return address

    for i, record in enumerate(plan.records):
        nr, loads, _, *rest = RECORD.unpack_from(image, records - k.PLAN_HEADER + RECORD.size * i)
        numbers, (store, at_least, _, inject, *errnos) = rest[:6], rest[6:]
        assert nr == (k.PLAN_CHECK if record.call == "check" else getattr(k, f"SYS_{record.call}"))
        assert at_least == record.at_least and inject == record.inject
        assert [e for e in errnos[::2] if e] == list(record.otherwise)
        for j, (arg, number) in enumerate(zip(record.args, numbers, strict=False)):
            place = number - k.PLAN_HEADER
            assert (loads >> 2 * j & 3 != 0) == (isinstance(arg, Slot) or arg.__class__.__name__ == "Load")
            if isinstance(arg, int):
                assert number == arg & (1 << 64) - 1
            elif isinstance(arg, str | bytes):
                data = arg.encode(errors="surrogateescape") + b"\0" if isinstance(arg, str) else arg
                assert image[place : place + len(data)] == data
            elif isinstance(arg, Address):
                assert number == at(arg.memory) + arg.offset
            elif isinstance(arg, Memory):
                assert number == at(arg)
            else:
                assert (arg is None) == (number == 0)
        if isinstance(record.store, Memory):
            assert store == at(record.store)
    for (_, end, memory), (begin, _, following) in pairwise(sorted(pieces.values(), key=lambda piece: piece[:2])):
        assert end <= begin or (isinstance(memory, Words) and any(item is following for item in memory.items))


@settings(deadline=None, max_examples=100)
@given(run_options(), run_options())
def test_a_plan_is_the_same_whatever_plans_were_made_before(first: RunOptions, second: RunOptions) -> None:
    common.forget()
    alone = compiled(second)
    text = list(describe(alone))
    assert_says_what_the_plan_says(alone, lower(alone))
    common.forget()
    compiled(first)
    for _ in range(2):  # with what the other has in common with it, and with what it has in common with itself
        plan = compiled(second)
        assert list(describe(plan)) == text
        assert list(plan.steps) == list(alone.steps)
        assert [step.needs for step in plan.steps.values()] == [step.needs for step in alone.steps.values()]
        assert_says_what_the_plan_says(plan, lower(plan))


def test_most_records_of_a_second_container_are_those_of_the_first() -> None:
    one, other = (compiled(RunOptions("image", ["true"], hostname=name)) for name in ("one", "other"))
    same = {id(record) for record in one.records} & {id(record) for record in other.records}
    assert len(same) > len(other.records) / 2
    assert all(record.packed for record in other.records if id(record) in same)


def test_a_failure_that_is_injected_is_not_the_next_plan_s() -> None:
    for _ in range(2):
        inject(compiled(RunOptions("image", ["true"])), "mknodat:2=EPERM")
    assert not any(record.inject for record in compiled(RunOptions("image", ["true"])).records)
    failing = inject(compiled(RunOptions("image", ["true"])), "mknodat:2=EPERM")
    assert [record.inject for record in failing.records if record.call == "mknodat"][:3] == [0, 1, 0]
    assert_says_what_the_plan_says(failing, lower(failing))


def passage(plan: Plan, key: object, text: str = "/") -> None:
    """A descriptor of a directory, stored and loaded in memory that all plans call by the same address."""
    fd = Slot("directory")

    def write() -> None:
        plan.openat(k.AT_FDCWD, text, k.O_RDONLY | k.O_DIRECTORY | k.O_CLOEXEC, store=fd).fchdir(fd).close(fd)

    plan.common(key, write)


def test_what_a_passage_points_to_is_each_plan_s_own() -> None:
    for status in range(1, 4):
        plan = Plan()
        passage(plan, "root")
        plan.execve("/bin/sh", ["sh", "-c", f"test $PWD = / && exit {status}"], [])
        assert plan.run() == status
    assert len(common.passages) == 1


def test_a_passage_that_is_new_when_the_plan_runs_is_written_with_its_part() -> None:
    for _ in range(2):
        plan, other = Plan(), Plan()
        passage(plan, "root")
        passage(plan, "root")
        with Birth(plan.clone3(k.CLONE_PARENT).await_rest(), rest=end) as birth:
            assert list(birth.barriers()) == []
            assert birth.wait() == 7
        passage(other, "usr", "/usr")
        assert_says_what_the_plan_says(other, lower(other))


def end(plan: Plan) -> None:
    passage(plan, "usr", "/usr")
    plan.execve("/bin/sh", ["sh", "-c", "test $(pwd -P) = $(cd /usr; pwd -P) && exit 7"], [])


@pytest.mark.parametrize("write", [
    lambda plan: plan.barrier("look"),
    lambda plan: plan.umask(0, otherwise={1: "on"}).label("on"),
    lambda plan: plan.clone3(k.CLONE_PARENT),
])  # fmt: skip
def test_a_passage_with_numbers_of_its_plan_is_not_kept(write) -> None:  # type: ignore[no-untyped-def]
    for _ in range(2):
        plan = Plan()
        plan.common("key", lambda plan=plan: write(plan))
        assert plan.records and not common.passages and not any(record.packed for record in plan.records)


def test_passages_with_ever_new_keys_take_no_more_than_their_room() -> None:
    for number in range(2000):
        plan = Plan()
        passage(plan, number, "/" + "x" * (number % 300))
        assert len(lower(plan).image) <= HEADER.size + common.POOL + 3 * RECORD.size + 400
    assert 0 < len(common.passages) <= common.MOST and len(common.image()) <= common.POOL
    assert len(common.pool.bytes) == len(common.image())
    assert_says_what_the_plan_says(plan, lower(plan))


def test_threads_that_make_the_same_passage_at_once_get_one() -> None:
    plans, begin = [], threading.Barrier(8)

    def work() -> None:
        begin.wait()
        for number in range(50):
            plan = Plan()
            passage(plan, number, f"/{number}")
            plans.append((plan, lower(plan)))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(plans) == 400 and len(common.passages) <= 50
    for plan, lowered in plans:
        assert_says_what_the_plan_says(plan, lowered)
