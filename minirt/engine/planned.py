"""The plan of a container that is not made, and plans that are cut or are to fail: what --plan, --upto and --fail show."""

from __future__ import annotations

import os
import sys

from minirt.engine.context import make_context
from minirt.engine.images import find_image
from minirt.engine.spec import make_spec
from minirt.oci.compile import compile_plan
from minirt.paths import data_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.engine.options import RunOptions
    from minirt.image.store import Image
    from minirt.plan import Plan

__all__ = ["plan_of", "shape", "show_plan"]


def shape(plan: Plan, options: RunOptions) -> Plan:
    """Cut the plan and plant failures in it, as asked; say on standard error what else a cut takes along."""
    if options.upto is None and not options.without and not options.fail:
        return plan
    from minirt.plan.cut import cut, inject

    if options.upto is not None or options.without:
        plan = cut(plan, options.upto, tuple(options.without))
        for note in plan.notes:
            print(f"minirt: {note}", file=sys.stderr)
    for what in options.fail:
        inject(plan, what)
    return plan


def show_plan(options: RunOptions, image: Image) -> int:
    """Print the plan and run nothing: no directory, no cgroup."""
    from minirt.plan.decode import describe, plan_as_dict
    from minirt.plan.explain import Explainer

    plan = plan_of(options, image)
    if options.as_shell:
        from minirt.plan.shell import script

        path = planned_path()
        words = " ".join(["minirt", "run", "...", options.image, *options.command]).replace("\n", " ")
        for line in script(plan, [f"{path}/{name}" for name in ("upper", "work", "merged")], words):
            print(line)
    elif options.format == "json":
        import json

        print(json.dumps(plan_as_dict(plan), indent=2))
    else:
        for line in describe(plan, Explainer(sys.stdout).paint):
            print(line)
    return 0


def planned_path() -> str:
    """Return the directory that a container which is only planned would have."""
    return os.path.join(data_root(), "containers", "CONTAINER")


def plan_of(options: RunOptions, image: Image | None = None) -> Plan:
    """Return the plan of a container that is not made: what would be under an id is under CONTAINER."""
    image = image or find_image(options.image)
    spec = make_spec(options, image.config.get("config") or {}, "c" * 64)
    return shape(compile_plan(make_context(options, image, planned_path(), spec, None)), options)
