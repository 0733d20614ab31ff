"""The birth written by hand in C is a fair measure: it makes the same system calls as the plan."""

import os
import shutil

import pytest

from bench.birth import count_calls, place

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="new namespaces and mounts need root"),
    pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed"),
]


def test_a_birth_by_plan_makes_the_calls_of_the_birth_by_hand() -> None:
    with place() as here:
        by_hand, by_plan = count_calls(here.by_hand()), count_calls(here.by_plan())
    assert by_plan == by_hand
    assert by_plan["clone3"] == 1 and by_plan["mount"] == 7
