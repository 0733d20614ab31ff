"""Which lessons there are, and what each is made of."""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tutorials.tutor.errors import TutorError
from tutorials.tutor.markdown import Fence, fences

__all__ = ["COURSE", "IN_LAB", "TOP", "Lesson", "find", "lessons"]

COURSE = Path(__file__).resolve().parents[1]  # tutorials/
TOP = COURSE.parent  # where minirt/, minivm/ and csrc/ are
IN_LAB = Path("/run/minirt-lab")  # is there in the lab (lab/README.md)
TRACKS = ("containers", "machines")


@dataclass(frozen=True)
class Lesson:
    """A folder with a lesson in it."""

    path: Path

    @property
    def id(self) -> str:
        """Its name: containers/01_by_hand."""
        return f"{self.path.parent.name}/{self.path.name}"

    @property
    def short(self) -> str:
        """Its track and number: c1."""
        return f"{self.path.parent.name[0]}{int(self.path.name[:2])}"

    @cached_property
    def text(self) -> str:
        """The lesson as it is written."""
        return (self.path / "lesson.md").read_text(encoding="utf-8")

    @cached_property
    def title(self) -> str:
        """Its heading, without the number."""
        found = re.search(r"^# (?:\d+\. )?(.+)$", self.text, re.M)
        return found[1] if found else self.path.name

    @cached_property
    def settings(self) -> dict[str, Any]:
        """lesson.toml: minutes, needs (root, kvm, cgroup2), traces (name -> command)."""
        return tomllib.loads((self.path / "lesson.toml").read_text(encoding="utf-8"))

    @property
    def minutes(self) -> int:
        """How long it takes a reader."""
        return int(self.settings["minutes"])

    @property
    def needs(self) -> tuple[str, ...]:
        """What the machine must have for it."""
        return tuple(self.settings.get("needs", ()))

    @property
    def traces(self) -> dict[str, str]:
        """Recorded traces: name -> the command that records it, with FILE for its path."""
        return dict(self.settings.get("traces", {}))

    @cached_property
    def fences(self) -> list[Fence]:
        """The lesson's fenced blocks, in order."""
        return fences(self.text)

    @property
    def symbols(self) -> tuple[str, ...]:
        """What the learner writes: symbols of the real source, from the `exercise` fence."""
        return tuple(line for fence in self.fences if fence.kind == "exercise" for line in fence.body.split())

    @property
    def wrong(self) -> list[Path]:
        """Answers that look right."""
        return sorted([*self.path.glob("wrong/*.py"), *self.path.glob("wrong/*.c")])

    @property
    def language(self) -> str:
        """py or c."""
        return "c" if self.symbols and self.symbols[0].split(":")[0].endswith(".c") else "py"


def lessons(course: Path = COURSE) -> list[Lesson]:
    """Return all lessons, in the order in which they are read."""
    return [Lesson(path.parent) for track in TRACKS for path in sorted((course / track).glob("*/lesson.md"))]


def find(name: str, course: Path = COURSE) -> Lesson:
    """Return the lesson of a name: containers/01_by_hand, c1, by_hand, or any part that only one has. Raises: TutorError."""
    have = lessons(course)
    short = re.fullmatch(r"([cm])0*(\d+)", name)
    if short:
        track = {"c": "containers", "m": "machines"}[short[1]]
        found = [lesson for lesson in have if lesson.path.parent.name == track and int(lesson.path.name[:2]) == int(short[2])]
    else:
        found = [lesson for lesson in have if lesson.id == name.rstrip(os.sep)] or [lesson for lesson in have if name in lesson.id]
    if len(found) != 1:
        which = ", ".join(lesson.id for lesson in found or have)
        raise TutorError(f"{name}: {'several lessons' if found else 'no lesson'} of this name; there are {which}")
    return found[0]
