"""Each exercise: blank fails, the real source passes, each wrong answer fails for its reason, and the host never notices."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import Minirt

TOP = Path(__file__).resolve().parents[2]
LESSONS = [path.parent for path in sorted(TOP.glob("tutorials/*/*/lesson.md"))]
REFERENCES = {"01_by_hand": "minirt/oci/rootfs.py"}  # what the exercise was cut out of
WRONG = [path for lesson in LESSONS for path in sorted(lesson.glob("wrong/*.py"))]
FENCE = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```$", re.M | re.S)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="the check makes mount namespaces, which takes CAP_SYS_ADMIN")


def check(lesson: Path, answer: Path, minirt: Minirt) -> subprocess.CompletedProcess[str]:
    before = Path("/proc/self/mountinfo").read_text()
    done = subprocess.run([sys.executable, lesson / "check.py", answer], env=minirt.env, capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=100, check=False)  # fmt: skip
    assert Path("/proc/self/mountinfo").read_text() == before
    assert minirt.containers == []
    assert "Traceback" not in done.stderr, done.stderr
    return done


@needs_root
@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.name)
def test_the_blank_exercise_fails_and_the_real_source_passes(lesson: Path, minirt: Minirt) -> None:
    blank = check(lesson, lesson / "exercise.py", minirt)
    assert blank.returncode == 1 and "(blank)" in blank.stdout, blank.stdout
    reference = check(lesson, TOP / REFERENCES[lesson.name], minirt)
    assert reference.returncode == 0, reference.stdout


@needs_root
@pytest.mark.parametrize("answer", WRONG, ids=lambda path: path.stem)
def test_a_wrong_answer_fails_for_its_reason(answer: Path, minirt: Minirt) -> None:
    wanted = re.search(r"^The check says: ([\w-]+): (.+)$", ast.get_docstring(ast.parse(answer.read_text())) or "", re.M)
    assert wanted, "its docstring tells what the check says"
    done = check(answer.parent.parent, answer, minirt)
    assert done.returncode == 1 and f"not yet ({wanted[1]})" in done.stdout and wanted[2] in done.stdout, done.stdout
    assert re.search(rf"^differs:  {answer.name}:\d+: call \d+ is ", done.stdout, re.M) and "\nhint: " in done.stdout


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.name)
def test_each_failure_has_its_hints_and_their_source_is_there(lesson: Path) -> None:
    code = (lesson / "check.py").read_text() + (TOP / "tutorials" / "checking.py").read_text()
    hints = tomllib.loads((lesson / "hints.toml").read_text())
    assert set(re.findall(r'Failure\("([\w-]+)"', code)) == set(hints)
    for rungs in hints.values():
        assert list(rungs) == ["question", "pointer", "pseudo", "source"]
        resolve(rungs["source"])


def resolve(symbol: str) -> object:
    module, _, names = symbol.partition(":")
    found: object = importlib.import_module(module)
    for name in names.split("."):
        found = getattr(found, name)
    return found


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.name)
def test_the_exercise_is_the_real_source_without_its_insides(lesson: Path) -> None:
    """Same functions, same decorators: what passes here runs there."""

    def functions(path: Path) -> dict[str, str]:
        found = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
        return {f.name: "".join(map(ast.unparse, f.decorator_list)) + ast.unparse(f.args) for f in found}

    blank, real = functions(lesson / "exercise.py"), functions(TOP / REFERENCES[lesson.name])
    assert blank and blank.items() <= real.items()
    for path in lesson.glob("wrong/*.py"):
        assert functions(path) == blank


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.name)
def test_a_lesson_asks_and_shows_the_source(lesson: Path) -> None:
    fences = FENCE.findall((lesson / "lesson.md").read_text())
    kinds = [kind for kind, _ in fences]
    assert kinds.count("quiz") >= 3 and kinds.count("predict") >= 3 and "exercise" in kinds
    for kind, body in fences:
        if kind == "quiz":
            question, *answers = body.strip().split("\n")
            assert question.endswith("?") and len(answers) >= 3
            assert [a[:2] for a in answers].count("* ") == 1 and all(a[:2] in ("* ", "- ") for a in answers)
    for symbol in re.findall(r"^```weave (\S+)\n```$", (lesson / "lesson.md").read_text(), re.M):
        assert resolve(symbol).__doc__


@needs_root
def test_grade_tells_what_is_not_passed_yet(minirt: Minirt) -> None:
    words = [sys.executable, "-m", "tutorials.grade", "--json", "by_hand"]
    done = subprocess.run(words, cwd=TOP, env=minirt.env, capture_output=True, text=True, timeout=100, check=False)
    told = json.loads(done.stdout)["containers/01_by_hand"]
    assert told["passed"] == (done.returncode == 0) == (" passed" in told["told"])


def test_grade_says_that_it_needs_root(minirt: Minirt) -> None:
    if os.geteuid() == 0 and subprocess.run(["setpriv", "--reuid=65534", "test", "-r", __file__], check=False).returncode:
        pytest.skip(f"{TOP} is below a directory that only root may enter")
    drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    done = subprocess.run([*drop, sys.executable, TOP / "tutorials/containers/01_by_hand/check.py"], capture_output=True,
                          text=True, timeout=60, check=False)  # fmt: skip
    assert done.returncode == 2 and "needs root: sudo" in done.stdout and done.stdout.count("\n") == 1
