"""What is promised of speed, as ratios of figures measured side by side in one run (bench/birth.py).

The promise is of the medians of times, and `python -m bench` prints those. They tell as much of what else the machine does: 0.97
to 1.30 for the same program. Held here is what does not: how much a birth has of processors, in all its processes, counted
together with the waiting that is in a birth by hand, as both make the same calls (tests/system/test_bench.py); of each
server's births what a tenth stay below; and all on one processor, ahead of what else runs, where nothing that Python does is
hidden beside the kernel's work. With sixteen processes that wanted to run on two processors that ratio was 1.12 to 1.16 in eight
runs, with five whose host was busy 1.14 to 1.18 in six; and 1.25 to 1.32 where each birth was made to take a tenth longer. So
the limit lies in the middle: that is seen in every run, and noise in hardly one. The other runs are for a machine whose caches
others need just then, as the kernel does while it takes away the networks and mounts of the tests before: 1.24 to 1.28 was seen
within half a minute of those, and 1.12 to 1.14 after it. So there is a pause between them.
"""

import os
import time

import pytest

from bench.birth import measure, ratios

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="new namespaces and mounts need root")

LIMITS = {"minirt / C": 1.2, "minirt 300 / minirt": 1.1, "plan / C": 0.08, "first plan / C": 0.25}


@pytest.fixture(scope="module")
def measured() -> dict[str, float]:
    """The least of each ratio in up to five runs: until all are as they should be."""
    least = dict.fromkeys(LIMITS, 1000.0)
    for _ in range(5):
        run = ratios(measure(rounds=200, alone=True), "processor")
        least = {name: min(value, run[name]) for name, value in least.items()}
        if all(least[name] <= limit for name, limit in LIMITS.items()):
            break
        time.sleep(10)
    return least


def test_a_birth_costs_little_more_than_the_same_calls_in_c(measured: dict[str, float]) -> None:
    assert measured["minirt / C"] <= LIMITS["minirt / C"]


def test_a_birth_costs_no_more_from_a_process_of_300_megabytes(measured: dict[str, float]) -> None:
    assert measured["minirt 300 / minirt"] <= LIMITS["minirt 300 / minirt"]


def test_making_a_plan_is_a_small_part_of_a_birth(measured: dict[str, float]) -> None:
    """0.08 ms of 1.6; and less than 0.3 where it is the first of its process, which has nothing in common with others yet."""
    assert measured["plan / C"] <= LIMITS["plan / C"]
    assert measured["first plan / C"] <= LIMITS["first plan / C"]
