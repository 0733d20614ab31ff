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
from tutorials.tutor.source import c_function, python_function, source

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


def hint(lesson: Lesson, verdict: dict[str, Any], rung: int) -> str:
    """Return one rung's text; the last is the real source. A rung that a failure lacks is passed over, to the next one.

    Args:
        verdict: of the check that failed: `id`, `observed`, `answer`, `where`.
        rung: index of RUNGS; beyond the last it is the last.
    """
    have = {**of_function(lesson, verdict), **rungs(lesson, verdict["id"], verdict["observed"])}
    name = next(name for name in RUNGS[min(rung, len(RUNGS) - 1) :] if name in have)
    if name == "source":
        return f"the real source, {have[name]}:\n\n{source(have[name]).text}"
    return have[name]


def of_function(lesson: Lesson, verdict: dict[str, Any]) -> dict[str, str]:
    """Return what can be said where no fact is known: of the function in which the verdict's line is, or of the first one."""
    symbol = next((one for one in lesson.symbols if holds(one, verdict)), lesson.symbols[0])
    told = [one["pseudo"] for one in table(lesson).values() if one.get("source") == symbol and "pseudo" in one]
    return {"source": symbol, **({"pseudo": "\n".join(dict.fromkeys(told))} if told else {})}


def holds(symbol: str, verdict: dict[str, Any]) -> bool:
    """Say whether the line that a verdict names is in the answer's function of a symbol."""
    number = str(verdict["where"]).rpartition(":")[2]
    try:
        text = Path(verdict["answer"]).read_text(encoding="utf-8")
        if symbol.partition(":")[0].endswith(".c"):
            node = c_function(text.encode(), symbol.partition(":")[2])
            first, last = (node.start_point[0] + 1, node.end_point[0] + 1) if node is not None else (0, -1)
        else:
            found = python_function(text, symbol.partition(":")[2])
            first, last = (found.lineno, found.end_lineno or 0) if found is not None else (0, -1)
    except (OSError, SyntaxError, ValueError):  # it was renamed, or is no program now
        return False
    return number.isdigit() and first <= int(number) <= last
