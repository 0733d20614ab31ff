"""A folder of submissions graded: DIR/LEARNER/containers/01_by_hand/exercise.py, DIR/LEARNER/01_by_hand.py, or DIR/LEARNER/c1.py.

Each is run in a sandbox of its own (sandbox.py); what the real functions give is observed once a lesson, in such a sandbox too.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tutorials.tutor.errors import TutorError
from tutorials.tutor.lessons import TRACKS, Lesson, lessons
from tutorials.tutor.place import Place

__all__ = ["grade", "submissions"]


def submissions(place: Path) -> list[tuple[str, Lesson | None, Path]]:
    """Return learner, lesson and file of each submission below a directory; "" for the directory's own.

    The lesson is None where the file's name is that of none, or the lesson is in another language.
    """
    by_name = {name: lesson for lesson in lessons() for name in (lesson.path.name, lesson.short)}
    found: list[tuple[str, Lesson | None, Path]] = []
    for path in sorted([*place.rglob("*.py"), *place.rglob("*.c")]):
        parts = path.relative_to(place).parts
        lesson = by_name.get(path.parent.name if path.stem == "exercise" else path.stem)
        if lesson is not None and path.suffix != f".{lesson.language}":
            lesson = None
        found.append(("" if parts[0] in (*TRACKS, path.name) else parts[0], lesson, path))
    return found


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
        if lesson is None:
            print(f"tutor: {path} is no lesson's: it is not graded", file=sys.stderr)
            continue
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
