"""A folder of submissions graded: DIR/LEARNER/containers/01_by_hand/exercise.py, or DIR/LEARNER/01_by_hand.py.

Each is run in a sandbox of its own (sandbox.py); what the real functions give is observed once a lesson, in such a sandbox too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tutorials.tutor.errors import TutorError
from tutorials.tutor.lessons import Lesson, lessons
from tutorials.tutor.place import Place

__all__ = ["grade", "submissions"]


def submissions(place: Path) -> Iterator[tuple[str, Lesson, Path]]:
    """Yield learner, lesson and file of each submission below a directory; "" for the directory's own."""
    by_name = {name: lesson for lesson in lessons() for name in (lesson.path.name, lesson.id)}
    for path in sorted([*place.rglob("*.py"), *place.rglob("*.c")]):
        parts = path.relative_to(place).parts
        name = path.parent.name if path.stem == "exercise" else path.stem
        lesson = by_name.get(name)
        if lesson is not None and path.suffix == f".{lesson.language}":
            yield (parts[0] if parts[0] not in (lesson.path.parent.name, path.name) else ""), lesson, path


def grade(where: Path, as_json: bool, place: Place) -> int:
    """Grade what is there. Returns 0 where all pass, 1 where not, 2 where nothing could be graded.

    Args:
        where: the directory.
        as_json: print one object: learner -> lesson -> verdict.
        place: checks each.
    """
    if not where.is_dir():
        raise TutorError(f"{where}: no such directory")
    results: dict[str, dict[str, Any]] = {}
    count = passed = 0
    for learner, lesson, path in submissions(where):
        verdict = place.told(lesson, path)
        results.setdefault(learner, {})[lesson.id] = {key: value for key, value in asdict(verdict).items() if key != "facts"}
        count, passed = count + 1, passed + verdict.passed
        if not as_json:
            why = "passed" if verdict.passed else f"not yet ({verdict.id}): {verdict.observed}"
            print(f"{learner + ': ' if learner else ''}{lesson.id}: {why}", flush=True)
    if as_json:
        print(json.dumps(results, indent=2))
    else:
        print(f"{passed} of {count} exercises pass")
    return 2 if not count else int(passed != count)
