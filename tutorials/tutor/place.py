"""What a lesson needs of the machine, and the lab for what this one lacks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tutorials.tutor.lessons import TOP, Lesson

__all__ = ["in_lab", "lacking"]

CONTROLLERS = {"memory", "cpu", "pids"}


def lacking(lesson: Lesson) -> list[str]:
    """Return which of a lesson's needs this machine does not meet: root, kvm, cgroup2."""
    have = {
        "root": os.geteuid() == 0,
        "kvm": os.access("/dev/kvm", os.R_OK | os.W_OK),
        "cgroup2": os.geteuid() == 0 and controllers() >= CONTROLLERS,
    }
    return [need for need in lesson.needs if not have.get(need, False)]


def controllers() -> set[str]:
    """Return the controllers of the cgroup v2 tree, where it is mounted alone."""
    try:
        return set(Path("/sys/fs/cgroup/cgroup.controllers").read_text().split())
    except OSError:
        return set()


def in_lab(lesson: Lesson, answer: Path, words: list[str]) -> int:
    """Check an answer in the lab (lab/README.md). Returns the exit status.

    The lab gets a copy of this tree; the answer is put into it for as long as that is made.
    """
    carried = Path(tempfile.mkdtemp(prefix=".answer-", dir=TOP / "tutorials"))
    try:
        copy = carried / answer.name
        shutil.copyfile(answer, copy)
        print(f"{lesson.id}: this machine lacks {', '.join(lacking(lesson))}: checking in the lab", file=sys.stderr)
        place = str(copy.relative_to(TOP))
        command = [str(TOP / "lab" / "run"), ".venv/bin/tutor", "check", lesson.id, "--answer", place, *words]
        return subprocess.run(command, cwd=TOP, check=False).returncode
    finally:
        shutil.rmtree(carried)
