"""Things done at the same time: what comes after what, how many at once, what is told and in which order, what fails."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minirt.compose.crew import Crew

pytestmark = pytest.mark.timeout(120)
LIMIT = 30  # s that a thread has to come


@st.composite
def works(draw) -> tuple[list[str], dict[str, set[str]]]:
    """Names in an order that fits what they come after, and that."""
    names = [f"n{i}" for i in range(draw(st.integers(1, 7)))]
    return names, {name: draw(st.sets(st.sampled_from([*names[:i], "elsewhere"]))) for i, name in enumerate(names)}


@settings(max_examples=60, deadline=None)
@given(works(), st.integers(-1, 3))
def test_each_comes_after_what_it_has_to_and_all_is_told_in_order(work, limit: int) -> None:
    names, after = work
    told, ended, now, most = [], set(), set(), 0
    crew = Crew(lambda what, done: told.append((what, done)), limit)

    def one(name: str, say) -> None:
        nonlocal most
        assert after[name] - {"elsewhere"} <= ended
        now.add(name)
        most = max(most, len(now))
        say(name, "first")
        time.sleep(0.0005 * (int(name[1:]) % 3))
        say(name, "last")
        now.discard(name)
        ended.add(name)

    crew.do(names, after, one)
    assert told == [(name, word) for name in names for word in ("first", "last")]
    assert limit <= 0 or most <= limit


def test_what_need_not_wait_does_not_and_a_part_of_a_thing_has_its_turn() -> None:
    told, meet = [], threading.Barrier(3)
    crew = Crew(lambda what, done: told.append(f"{what} {done}"))

    def part(name: str, say) -> None:
        if name != "d":
            meet.wait(LIMIT)  # a1, a2 and b are there at the same time
        say(name, "done")

    def one(name: str, say) -> None:
        if name == "a":
            crew.do(["a1", "a2"], {}, part, say)
        else:
            part(name, say)

    crew.do(["a", "b", "d"], {"d": {"a", "b"}}, one)
    assert told == ["a1 done", "a2 done", "b done", "d done"]


def test_who_waits_tells_at_once_and_the_same_is_told_once() -> None:
    told, seen = [], threading.Event()

    def say(what: str, done: str) -> None:
        told.append((what, done))
        seen.set()

    def one(name: str, say) -> None:
        say("db", "Waiting")
        assert seen.wait(LIMIT), "it is told while we wait, not afterwards"
        say("db", "Healthy")

    Crew(say).do(["a", "b"], {}, one)
    assert told == [("db", "Waiting"), ("db", "Healthy")]


def test_the_first_that_fails_in_order_is_raised_and_nothing_more_is_begun() -> None:
    told, begun, meet = [], [], threading.Barrier(3)
    crew = Crew(lambda what, done: told.append((what, done)))

    def one(name: str, say) -> None:
        begun.append(name)
        meet.wait(LIMIT)
        if name == "good":
            end = time.monotonic() + LIMIT
            while not crew.over:
                assert time.monotonic() < end
                time.sleep(0.001)
            say(name, "Started")
            return
        raise ValueError(name)

    with pytest.raises(ValueError, match="bad"):
        crew.do(["good", "bad", "worse", "after"], {"after": {"bad"}}, one, kind="Service")
    assert sorted(begun) == ["bad", "good", "worse"]
    assert told == [("good", "Started"), ("Service worse", "failed: worse")]


def test_what_is_kept_is_told_though_one_before_it_is_never_begun() -> None:
    told = []
    crew = Crew(lambda what, done: told.append(what))
    meet = threading.Barrier(2)

    def one(name: str, say) -> None:
        meet.wait(LIMIT)
        if name == "bad":
            raise ValueError
        say(name, "done")

    with pytest.raises(ValueError):
        crew.do(["bad", "late", "good"], {"late": {"bad"}}, one)
    assert told == ["good"]


def test_a_circle_is_begun_somewhere() -> None:
    done = []
    Crew(lambda what, word: None).do(["a", "b"], {"a": {"b"}, "b": {"a"}}, lambda name, say: done.append(name))
    assert done == ["a", "b"]


def test_ctrl_c_begins_nothing_more_and_who_waits_sees_it() -> None:
    begun, crew = [], Crew(lambda what, done: None)

    def one(name: str, say) -> None:
        begun.append(name)
        import _thread

        _thread.interrupt_main()
        end = time.monotonic() + LIMIT
        while not crew.over:
            assert time.monotonic() < end
            time.sleep(0.001)

    with pytest.raises(KeyboardInterrupt):
        crew.do(["a", "b"], {"b": {"a"}}, one)
    assert begun == ["a"]
