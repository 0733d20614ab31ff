"""What the lessons' checks share: the learner's functions in place of the real system's, and how a failure is told.

A check runs in a mount namespace that it makes for itself, in which all mounts are shared, as systemd has them on most
hosts: so a wrong answer does there what it would do to a host, and the host never hears of it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType

from minirt.oci import compile as steps
from minirt.oci.step import Context, Overlay
from minirt.plan import Plan
from minirt.plan.decode import call_text

__all__ = ["Failure", "first_difference", "grade", "load", "observe", "transplant"]

SHARED = "mount --make-rprivate / && mount --make-rshared / && exec \"$@\""


class Failure(Exception):
    """One thing that is not as it should be.

    Args:
        id: names its hints in hints.toml.
        expected, observed: of the kernel, in a line each.
    """

    def __init__(self, id: str, expected: str, observed: str) -> None:
        super().__init__(f"expected: {expected}\nobserved: {observed}")
        self.id = id


def load(path: Path, names: Sequence[str]) -> ModuleType:
    """Return the learner's file as a module. Raises: Failure where it cannot be, or lacks one of the functions."""
    spec = importlib.util.spec_from_file_location("answer", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            spec.loader.exec_module(module)
    except Exception as error:
        raise Failure("not-python", f"{path.name} can be imported", f"{type(error).__name__}: {error}") from None
    for name in names:
        if not callable(getattr(module, name, None)):
            raise Failure("not-python", f"{path.name} defines {name}(p, c)", "it does not")
    return module


def transplant(module: ModuleType, names: Sequence[str]) -> None:
    """Put the learner's steps in the place of those with the same names, for this process."""
    steps.ORDER = tuple(getattr(module, f.__name__) if f.__name__ in names else f for f in steps.ORDER)


def records(order: Iterable[object], names: Sequence[str]) -> list[str]:
    """Return the calls that some steps append, as text."""
    plan = Plan()
    plan.clone3(0)
    bundle = "/containers/box"
    config = {"linux": {"namespaces": [{"type": "mount"}]}, "process": {"args": ["true"]}}
    context = Context(config, bundle, Overlay(["/layers/1"], f"{bundle}/upper", f"{bundle}/work", f"{bundle}/merged"))
    for function in order:
        if getattr(function, "__name__", "") in names:
            with contextlib.redirect_stdout(io.StringIO()):
                function(plan, context)  # type: ignore[operator]
    return [f"{record.step}: {call_text(record)}" for record in plan.records[1:]]


def first_difference(module: ModuleType, names: Sequence[str]) -> str:
    """Say at which call the learner's plan leaves the real one, and in which line that function is; or nothing."""
    real = records(steps.ORDER, names)
    theirs = [getattr(module, f.__name__) for f in steps.ORDER if f.__name__ in names]
    mine = records(theirs, names)
    at = next((i for i, pair in enumerate(zip(real, mine, strict=False)) if pair[0] != pair[1]), min(len(real), len(mine)))
    if real == mine:
        return ""
    step = (mine if at < len(mine) else real)[at].partition(":")[0]
    code = getattr(module, step).__wrapped__.__code__
    there = mine[at] if at < len(mine) else "no call"
    return f"{Path(code.co_filename).name}:{code.co_firstlineno}: call {at + 1} is `{there}`"


def observe(script: Path, *words: str, seconds: int = 60) -> dict[str, object]:
    """Run a check's observer in a mount namespace of its own, all shared; return the JSON object that it prints last."""
    shared = ["unshare", "--mount", "--propagation", "private", "sh", "-c", SHARED, "sh"]
    run = subprocess.run([*shared, sys.executable, str(script), "--observe", *words], capture_output=True, text=True,
                         stdin=subprocess.DEVNULL, timeout=seconds, check=False)  # fmt: skip
    lines = run.stdout.splitlines()
    if run.returncode or not lines:
        raise Failure("died", "the check comes to its end", (run.stderr.strip().splitlines() or ["it was killed"])[-1])
    seen: dict[str, object] = json.loads(lines[-1])
    return seen


def grade(lesson: Path, checks: Iterable[object], answer: Path) -> int:
    """Run the checks on an answer, tell the first failure with its first hint. Returns the exit status."""
    if os.geteuid() != 0:
        print(f"{lesson.name}: needs root: sudo {sys.executable} {' '.join(sys.argv)}")
        return 2
    try:
        for check in checks:
            check(answer)  # type: ignore[operator]
    except Failure as failure:
        hints = tomllib.loads((lesson / "hints.toml").read_text())
        print(f"{lesson.name}: not yet ({failure.id})\n{failure}\nhint:     {hints[failure.id]['question']}")
        return 1
    print(f"{lesson.name}: passed")
    return 0
