"""The lesson on cgroups followed as a learner would: cgroup v2's controllers are here, so it is not done in tests/system.

What is promised of each lesson is told by the functions of tests/system/test_tutorials.py, which are called for this one.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import test_documents as documents
import test_tutorials as course
from test_documents import alone  # noqa: F401
from test_tutorials import here, place, unchanged  # noqa: F401

from tutorials.tutor.exercise import blank
from tutorials.tutor.lessons import TOP, find

pytestmark = [pytest.mark.timeout(600)]
LESSON = find("c6")
DOCUMENT = "tutorials/containers/06_cgroups/lesson.md"
CHEAT = """
for path in glob.glob("/sys/fs/cgroup/**/memory.max", recursive=True) + glob.glob("/proc/*/fd/1"):
    try:
        open(path, "w").write("1000")
    except OSError:
        pass
"""
MEASURED = Path("/var/tmp/lesson6")


def test_a_learner_begins_fails_is_helped_and_passes(here: Path, unchanged: None) -> None:  # noqa: F811
    course.test_a_learner_begins_fails_is_helped_and_passes(LESSON, here, unchanged)


def test_each_wrong_answer_fails_with_its_own_words(here: Path, unchanged: None) -> None:  # noqa: F811
    course.test_each_wrong_answer_fails_with_its_own_words(LESSON, here, unchanged)


def test_each_fact_has_its_hints(here: Path) -> None:  # noqa: F811
    course.test_each_fact_has_its_hints(LESSON, here)


def test_submissions_are_graded_each_in_a_sandbox_with_groups_of_its_own(here: Path, unchanged: None) -> None:  # noqa: F811
    right, empty = blank(LESSON, solved=True), blank(LESSON).replace("raise NotImplementedError", "return iter(())")
    answers = {
        "right": right,
        "wrong": right.replace('"memory.max"', '"memory.high"'),
        "cheats": f"{empty}\nimport glob, os\n{CHEAT}\nprint('{LESSON.id}: passed')\n",
    }
    for name, text in answers.items():
        (here / "class" / name).mkdir(parents=True)
        (here / "class" / name / "c6.py").write_text(text)
    words = [sys.executable, "-m", "tutorials.tutor.cli", "grade", "--json", str(here / "class")]
    done = subprocess.run(words, capture_output=True, text=True, cwd=TOP, timeout=500, check=False)
    told = {learner: results[LESSON.id] for learner, results in json.loads(done.stdout).items()}
    assert {name: (one["passed"], one["id"]) for name, one in told.items()} == {
        "right": (True, ""), "wrong": (False, "memory"), "cheats": (False, "weight")}, done  # fmt: skip
    assert told["wrong"]["observed"].startswith("memory.max max, ") and told["wrong"]["differs"] == "", "the calls are the same"


@pytest.mark.long
@pytest.mark.timeout(1700)
def test_nine_of_ten_mechanical_mistakes_are_noticed(here: Path, unchanged: None) -> None:  # noqa: F811
    course.test_nine_of_ten_mechanical_mistakes_are_noticed(LESSON, here, unchanged)


def test_a_recorded_trace_equals_a_fresh_one(here: Path) -> None:  # noqa: F811
    course.test_a_recorded_trace_equals_a_fresh_one(LESSON, here)


@pytest.fixture
def measured() -> Iterator[Path]:
    shutil.rmtree(MEASURED, ignore_errors=True)
    yield MEASURED
    shutil.rmtree(MEASURED, ignore_errors=True)


def test_what_is_shown_happens_and_what_is_measured_comes_near_the_formulas(measured: Path, alone: None) -> None:  # noqa: F811
    documents.test_transcripts_replay(DOCUMENT, alone)
    points = {path.stem: json.loads(path.read_text())["points"] for path in measured.glob("*.json")}
    assert all(abs(predicted - got) <= 0.12 for _, predicted, got in points["weight"]), points
    assert all(abs(predicted - got) <= 0.12 for _, predicted, got in points["quota"]), points
    assert all(abs(predicted - got) <= 8 for _, predicted, got in points["pressure"]), points
    assert all(0 <= got <= predicted + 1 for _, predicted, got in points["memory.high"]), points
    assert "<svg" in (measured / "memory.high.svg").read_text()
