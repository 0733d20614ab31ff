"""Hints in four rungs, a question, a pointer, pseudo-code, the source: for the failure that actually happened.

hints.toml has a table for each fact that can differ; [born.EBUSY] is chosen before [born] where what was observed has EBUSY in
it. tutorials/hints.toml has those that every lesson shares.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from tutorials.tutor.lessons import COURSE, Lesson
from tutorials.tutor.source import source

__all__ = ["RUNGS", "hint", "rungs", "table"]

RUNGS = ("question", "pointer", "pseudo", "source")


@cache
def read(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def table(lesson: Lesson) -> dict[str, Any]:
    """Return all hints of a lesson, the common ones included."""
    return {**read(COURSE / "hints.toml"), **read(lesson.path / "hints.toml")}


def rungs(lesson: Lesson, id: str, observed: str = "") -> dict[str, str]:
    """Return the rungs for a failure, and what it `says` is expected."""
    found = table(lesson).get(id, {})
    common = {key: value for key, value in found.items() if isinstance(value, str)}
    for key, value in found.items():
        if isinstance(value, dict) and key in observed:
            return {**common, **value}
    return common


def hint(lesson: Lesson, id: str, observed: str, rung: int) -> str:
    """Return one rung's text; rung 3 is the real source. Rungs that a failure lacks are passed over."""
    have = rungs(lesson, id, observed)
    name = RUNGS[min(rung, len(RUNGS) - 1)]
    if name == "source":
        symbol = have.get("source") or lesson.symbols[0]
        return f"the real source, {symbol}:\n\n{source(symbol).text}"
    return have.get(name) or have.get("question", "")
