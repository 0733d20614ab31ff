"""A second process of a container, as a plan. No root: it is of this test's own process, and is not run."""

from __future__ import annotations

import os

import pytest

from minirt.oci.join import begin_join, finish_join
from minirt.oci.spec import default_spec
from minirt.oci.step import Context

LISTS = [("0,2", [b"\x05" + bytes(7)]), ("64", [bytes(8) + b"\x01" + bytes(7)]), (" ", [])]


@pytest.mark.parametrize(("processors", "masks"), LISTS)
@pytest.mark.parametrize("which", ["initial", "final"])
def test_it_runs_on_the_processors_that_are_named_if_any_are(which: str, processors: str, masks: list[bytes]) -> None:
    config = default_spec()
    config["process"] |= {"args": ["true"], "execCPUAffinity": {which: processors}}
    context = Context(config, "/bundle", join=os.getpid())
    plan = begin_join(context)
    finish_join(plan, context)
    assert [record.args[2] for record in plan.records if record.call == "sched_setaffinity"] == masks
