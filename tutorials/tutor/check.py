"""An answer is checked: its facts beside those of the real functions, with one secret for both; the first that differs is told."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tutorials.tutor.errors import Failure, TutorError
from tutorials.tutor.exercise import is_blank
from tutorials.tutor.hints import rungs
from tutorials.tutor.lessons import Lesson
from tutorials.tutor.observe import checks, facts, start
from tutorials.tutor.sandbox import kind_for
from tutorials.tutor.source import c_function, python_function
from tutorials.tutor.story import Call, calls, first_difference
from tutorials.tutor.world import NotBorn, Raised, World

__all__ = ["Reference", "Verdict", "check", "judged", "observed", "unfinished"]

PATIENCE = 20  # an answer may take so many times as long as the reference: no machine is too slow


@dataclass
class Verdict:
    """What a check found."""

    lesson: str
    answer: str
    passed: bool
    id: str = ""  # of the failure
    expected: str = ""
    observed: str = ""
    differs: str = ""  # the first call where this run leaves the reference's
    where: str = ""  # file:line
    seconds: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)

    def failed(self, failure: Failure) -> None:
        """Let it say what is wrong."""
        self.passed, self.id, self.expected, self.observed = False, failure.id, failure.expected, failure.observed
        self.where = failure.where or self.where


@dataclass
class Reference:
    """What the real functions give, for one secret."""

    seed: str
    facts: list[tuple[str, Any]]
    seconds: float
    story: list[Call]


def check(lesson: Lesson, answer: Path, reference: Reference | None = None, partial: bool = False,
          sandbox: bool = False, looked: bool = False) -> Verdict:  # fmt: skip
    """Check an answer.

    Args:
        lesson: whose exercise it is.
        answer: the learner's file.
        reference: facts of the real functions, where there are several answers; by default they are observed now.
        partial: functions that the answer lacks are the real ones.
        sandbox: run it in a container of its own (and so the reference, where it is given).
        looked: its text has been looked at already, by `unfinished`.
    """
    begun = time.monotonic()
    verdict = Verdict(lesson.id, str(answer), False)
    try:
        if not looked:
            read(lesson, answer, partial)
        reference = reference or observed(lesson, sandbox=sandbox)
        verdict.differs, verdict.where = parted(lesson, answer, reference, partial, sandbox)
        limit = max(60.0, PATIENCE * reference.seconds)
        patience = max(8.0, 2 * reference.seconds)  # of one guest; the reference's time is that of all of them
        with held(fcntl.LOCK_SH):
            process = start(lesson, reference.seed, str(answer.resolve()), partial, sandbox, patience)
            found = facts(process, limit)
        tidy(found)
        verdict.facts = dict(found)
        judge(lesson, reference.facts, found)
        verdict.passed = True
        verdict.differs = verdict.where = ""
    except Failure as failure:
        verdict.failed(failure)
    verdict.seconds = round(time.monotonic() - begun, 2)
    return verdict


def unfinished(lesson: Lesson, answer: Path, partial: bool = False) -> Verdict | None:
    """Return the verdict on an answer that nothing needs to be run for: it is blank, or no program; else None."""
    verdict = Verdict(lesson.id, str(answer), False)
    try:
        read(lesson, answer, partial)
    except Failure as failure:
        verdict.failed(failure)
        return verdict
    return None


def judged(lesson: Lesson, answer: Path, expected: list[tuple[str, Any]], found: list[tuple[str, Any]]) -> Verdict:
    """Return the verdict on an answer whose facts are known."""
    verdict = Verdict(lesson.id, str(answer), True, facts=dict(found))
    try:
        judge(lesson, expected, found)
    except Failure as failure:
        verdict.failed(failure)
    return verdict


def observed(lesson: Lesson, seed: str = "", sandbox: bool = False) -> Reference:
    """Observe the real functions. Raises: TutorError where even they do not come to an end here."""
    begun, seed = time.monotonic(), seed or secrets.token_hex(8)
    found = facts(start(lesson, seed, "-", sandbox=sandbox), 600)
    bad = [f"{id}: {value}" for id, value in found if id in ("died", "born", "host-unmounted", "host-mounted", "host-name")]
    if bad:
        raise TutorError(f"{lesson.id}: the real source does not run here: {bad[0]} (minirt doctor tells what this machine lacks)")
    world = World("", lesson.symbols, seed, sandbox=kind_for(lesson) if sandbox else "")
    return Reference(seed, found, time.monotonic() - begun, told(lesson, world))


def tidy(found: list[tuple[str, Any]]) -> None:
    """Take away what a wrong answer kept minirt from taking away itself."""
    if os.geteuid() == 0 and {"born", "died", "host-mounted", "host-unmounted"} & {id for id, _ in found}:
        from minirt.engine.gc import collect

        with held(fcntl.LOCK_EX):
            collect()


@contextmanager
def held(how: int) -> Iterator[None]:
    """Keep others from tidying up during an observation, or wait for theirs: what is removed is no longer mounted anywhere.

    Args:
        how: LOCK_SH or LOCK_EX of flock(2), on the directory where minirt keeps its things.
    """
    if os.geteuid() != 0:
        yield
        return
    from minirt import paths

    root = paths.data_root()
    os.makedirs(root, exist_ok=True)
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, how)
        yield
    finally:
        os.close(fd)


def told(lesson: Lesson, world: World) -> list[Call]:
    """Return the calls of the lesson's story; the world ends with it."""
    with world:
        return calls(world, tuple(getattr(checks(lesson.path), "STORY", ())) or ("minirt", "run", "busybox", "true"))


def parted(lesson: Lesson, answer: Path, reference: Reference, partial: bool, sandbox: bool) -> tuple[str, str]:
    """Say where an answer's calls leave the reference's. Raises: Failure where its function raises."""
    if lesson.language == "c":
        return "", ""
    world = World(str(answer.resolve()), lesson.symbols, reference.seed, partial, kind_for(lesson) if sandbox else "")
    try:
        return first_difference(reference.story, told(lesson, world), answer, lesson.symbols)
    except NotBorn:
        return "", ""  # it does not end; the facts say so
    except Raised as error:
        raise raised(answer, str(error)) from None


def raised(answer: Path, text: str) -> Failure:
    """Return the failure for an exception of the learner's."""
    what = json.loads(text)
    kind = "blank" if what["raised"].startswith("NotImplementedError") else "raised"
    return Failure(kind, "the function comes to its end", what["raised"], f"{answer.name}:{what['line']}")


def read(lesson: Lesson, answer: Path, partial: bool) -> None:
    """Look at the text of an answer. Raises: Failure where it cannot be one."""
    try:
        text = answer.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Failure("not-source", f"a file that can be read: {answer}", str(error)) from None
    for symbol in lesson.symbols:
        name = symbol.partition(":")[2]
        if lesson.language == "c":
            node = c_function(text.encode(), name)
            empty = node is not None and b"#error not written yet" in node.text
            line = node.start_point[0] + 1 if node is not None else 0
        else:
            try:
                function = python_function(text, name)
            except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
                line = getattr(error, "lineno", None) or 1
                raise Failure("not-source", f"{answer.name} is Python", str(error), f"{answer.name}:{line}") from None
            node, line = function, function.lineno if function else 0
            empty = function is not None and is_blank(function)
        if node is None and not partial:
            raise Failure("not-source", f"{answer.name} defines {name}", "it does not", f"{answer.name}:1")
        if empty:
            raise Failure("blank", f"{name} does something", "it is not written yet", f"{answer.name}:{line}")


def judge(lesson: Lesson, expected: list[tuple[str, Any]], found: list[tuple[str, Any]]) -> None:
    """Compare facts, in their order. Raises: Failure for the first that differs."""
    wanted = dict(expected)
    for id, value in found:
        if id == "raised":
            raise raised(Path("exercise.py"), str(value))
        if wanted.get(id) != value:
            says = rungs(lesson, id, str(value)).get("says", id)
            want = shown(wanted[id]) if id in wanted and wanted[id] is not True else ""
            raise Failure(id, f"{says}: {want}" if want and want not in says else says, shown(value))
    missing = [id for id, _ in expected if id not in dict(found)]
    if missing:
        raise Failure("died", "the check comes to its end", f"it saw nothing of {missing[0]}")


def shown(value: Any) -> str:
    """Return a fact as text."""
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "nothing"
    return {True: "so it is", False: "it is not so"}[value] if isinstance(value, bool) else str(value)
