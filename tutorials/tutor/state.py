"""What a learner has done, kept between commands: tutor.json in the course's directory, where the exercises lie too.

The directory is $TUTOR_DIR, or minirt-course in the home directory of who types (with sudo: not root's).
"""

from __future__ import annotations

import json
import os
import pwd
import time
from pathlib import Path
from typing import Any

from tutorials.tutor.exercise import blank
from tutorials.tutor.lessons import TOP, Lesson, lessons
from tutorials.tutor.weave import woven

__all__ = ["State"]

GLOSSARY = TOP / "tutorials/glossary.md"


def directory() -> Path:
    """Return the course's directory."""
    if os.environ.get("TUTOR_DIR"):
        return Path(os.environ["TUTOR_DIR"]).absolute()
    user = os.environ.get("SUDO_UID") if os.geteuid() == 0 else None
    home = pwd.getpwuid(int(user)).pw_dir if user else os.path.expanduser("~")
    return Path(home) / "minirt-course"


class State:
    """What is known of a learner.

    Attributes:
        passed: lesson -> when, in seconds since 1970.
        current: the lesson that is being worked on; "" for none.
        last: lesson -> its last check's verdict.
        rungs: lesson -> how many hints for the failure that is there now.
    """

    def __init__(self) -> None:
        self.directory = directory()
        self.path = self.directory / "tutor.json"
        try:
            kept: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # the first time, or damaged: begin anew
            kept = {}
        self.passed: dict[str, float] = dict(kept.get("passed") or {})
        self.current: str = str(kept.get("current") or "")
        self.last: dict[str, dict[str, Any]] = dict(kept.get("last") or {})
        self.rungs: dict[str, int] = dict(kept.get("rungs") or {})

    def save(self) -> None:
        """Write it to a new file, and rename that."""
        self.make(self.directory)
        kept = {name: getattr(self, name) for name in ("current", "passed", "last", "rungs")}
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        own(new)
        new.rename(self.path)

    def make(self, path: Path) -> None:
        """Make a directory below the course's, which belongs to who typed."""
        for step in [*reversed(path.parents), path]:
            if step.is_relative_to(self.directory) and not step.is_dir():
                step.mkdir(parents=True)
                own(step)

    def exercise(self, lesson: Lesson) -> Path:
        """Return where a lesson's exercise lies."""
        return self.directory / lesson.id / f"exercise.{lesson.language}"

    def start(self, lesson: Lesson, anew: bool = False) -> Path:
        """Make a lesson the current one. Writes its blank exercise where there is none yet; to read, the lesson and the glossary.

        Args:
            lesson: which.
            anew: keep what is there as exercise.py.old, and write a blank.

        Returns the exercise's path.
        """
        path = self.exercise(lesson)
        self.make(path.parent)
        if anew and path.exists():
            path.rename(path.with_name(path.name + ".old"))
        if not path.exists():
            written(path, blank(lesson))
        written(path.with_name("lesson.md"), woven(lesson))
        written(self.directory / "glossary.md", GLOSSARY.read_text(encoding="utf-8"))  # where the lesson's links lead
        self.current = lesson.id
        self.save()
        return path

    def checked(self, lesson: Lesson, verdict: dict[str, Any]) -> None:
        """Remember a check. Hints begin anew where another thing fails than before."""
        before = self.last.get(lesson.id, {}).get("id")
        if before != verdict["id"]:
            self.rungs.pop(lesson.id, None)
        self.last[lesson.id] = verdict
        if verdict["passed"]:
            self.passed.setdefault(lesson.id, time.time())
        self.save()

    def next(self) -> Lesson | None:
        """Return the first lesson behind the current one that is not passed; else any that is not."""
        have = lessons()
        at = next((i for i, lesson in enumerate(have) if lesson.id == self.current), -1)
        return next((lesson for lesson in have[at + 1 :] + have if lesson.id not in self.passed), None)


def written(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    own(path)


def own(path: Path) -> None:
    """Give a file to who typed sudo, who is going to edit it."""
    if os.geteuid() == 0 and os.environ.get("SUDO_UID"):
        os.chown(path, int(os.environ["SUDO_UID"]), int(os.environ.get("SUDO_GID", -1)))
