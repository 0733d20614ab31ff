"""Where an answer is checked: here, or in the lab where this machine lacks what the lesson needs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from tutorials.tutor.check import Reference, Verdict, check, observed, unfinished
from tutorials.tutor.errors import TutorError
from tutorials.tutor.lab import Lab
from tutorials.tutor.lessons import IN_LAB, Lesson

__all__ = ["Place", "lacking"]

TUTOR = Path(sys.executable).with_name("tutor")
CONTROLLERS = {"memory", "cpu", "pids"}


def lacking(lesson: Lesson) -> list[str]:
    """Return which of a lesson's needs this machine does not meet: root, kvm, cgroup2."""
    have = {
        "root": os.geteuid() == 0,
        "kvm": os.access("/dev/kvm", os.R_OK | os.W_OK),
        "cgroup2": controllers() >= CONTROLLERS,
    }
    return [need for need in lesson.needs if not have.get(need, False)]


def controllers() -> set[str]:
    """Return the controllers of the cgroup v2 tree, where it is mounted alone."""
    try:
        return set(Path("/sys/fs/cgroup/cgroup.controllers").read_text().split())
    except OSError:
        return set()


class Place:
    """Checks answers. The lab is started for the first that needs it, and stays until `close`.

    Args:
        lab: True: in the lab whatever this machine has; False: never there; None: where something is lacking.
        say: told what is being done, where that takes long.
        sandbox: each answer in a container of its own.
        keep: observe the real functions once a lesson, for all answers.
        partial: functions that an answer lacks are the real ones.
    """

    def __init__(
        self, lab: bool | None, say: Callable[[str], None], sandbox: bool = False, keep: bool = False, partial: bool = False
    ) -> None:
        self.wish, self.say, self.sandbox, self.keep, self.partial = lab, say, sandbox, keep, partial
        self.lab: Lab | None = None
        self.references: dict[str, Reference] = {}

    def __call__(self, lesson: Lesson, path: Path) -> Verdict:
        """Check an answer. Raises: TutorError where it cannot be checked."""
        self.refuse(lesson)
        lack = lacking(lesson)
        if not lack and not self.wish:
            return self.here(lesson, path)
        early = unfinished(lesson, path, self.partial)  # for that no machine is needed
        return early or self.there(lesson, path, f"this machine lacks {', '.join(lack)}" if lack else "as you ask")

    def refuse(self, lesson: Lesson) -> None:
        """Say why a lesson cannot be checked. Raises: TutorError."""
        lack = lacking(lesson)
        if IN_LAB.is_dir() and (lack or self.wish):
            raise TutorError(f"{lesson.id} needs {', '.join(lack) or 'the lab'}: there is no lab in the lab")
        if lack == ["root"] and not self.wish:
            raise TutorError(f"{lesson.id} needs root: sudo {TUTOR} ... (or, in a virtual machine, without root: --lab)")
        if lack and self.wish is False:
            raise TutorError(f"{lesson.id} needs {', '.join(lack)}, which this machine lacks; without --no-lab the lab has it")

    def here(self, lesson: Lesson, path: Path) -> Verdict:
        if self.keep and lesson.id not in self.references:
            self.references[lesson.id] = observed(lesson, sandbox=self.sandbox)
        return check(lesson, path, self.references.get(lesson.id), self.partial, self.sandbox)

    def there(self, lesson: Lesson, path: Path, why: str) -> Verdict:
        if self.lab is None:
            self.say(f"{lesson.id}: {why}: starting the lab, a virtual machine (lab/README.md)")
            self.lab = Lab(self.say)
        return self.lab.check(lesson, path, self.sandbox, self.partial)

    def close(self) -> None:
        """Switch the lab off, where there is one."""
        if self.lab is not None:
            self.lab.close()

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def told(self, lesson: Lesson, path: Path) -> Verdict:
        """Check an answer; that it cannot be checked is a verdict, too."""
        try:
            return self(lesson, path)
        except TutorError as error:
            return Verdict(lesson.id, str(path), False, "lacking", f"a machine with {', '.join(lesson.needs)}", str(error))
