"""Lessons with their source in them. What a `weave` names is pulled in by symbol; what does not resolve is an error."""

from __future__ import annotations

import re
from pathlib import Path

from tutorials.tutor.errors import TutorError
from tutorials.tutor.exercise import blank, hollow
from tutorials.tutor.hints import RUNGS, table
from tutorials.tutor.lessons import COURSE, TOP, Lesson, lessons
from tutorials.tutor.markdown import Fence, quiz
from tutorials.tutor.source import source

__all__ = ["SCREEN", "TERMS", "build", "terms", "woven"]

SCREEN = 60  # lines of source at a time
TERMS = 4  # new terms a lesson
LINK = re.compile(r"\]\((?:\.\./)*glossary\.md#([\w-]+)\)")


def woven(lesson: Lesson, top: Path = TOP) -> str:
    """Return a lesson's Markdown with the source in it. Raises: TutorError with the lesson's line."""
    text, at = "", 0
    for fence in lesson.fences:
        text += lesson.text[at : fence.start] + block(lesson, fence, top)
        at = fence.end
    return text + lesson.text[at:]


def block(lesson: Lesson, fence: Fence, top: Path) -> str:
    """Return what stands for a fence in the woven lesson."""
    if fence.kind == "weave":
        try:
            piece = source(fence.words[0], top)
        except (TutorError, IndexError) as error:
            raise TutorError(f"{lesson.id}/lesson.md:{fence.line}: weave {error}") from None
        place = f"{piece.path.relative_to(top)}:{piece.first}"
        yours = fence.words[0] in lesson.symbols and "whole" not in fence.words  # nobody writes what has just been read
        text = hollow(fence.words[0], top) if yours else piece.text
        return f"```{piece.language} title=\"{place}\"\n{text}```"
    if fence.kind == "exercise":
        text = blank(lesson, top)
        return f"```{'c' if lesson.language == 'c' else 'python'} title=\"exercise.{lesson.language}\"\n{text}```"
    return lesson.text[fence.start : fence.end]


def build(out: Path | None = None, top: Path = TOP) -> list[str]:
    """Weave all lessons, and hold them against the rules of the course.

    Args:
        out: directory to write them to; by default nothing is written.
        top: the tree that source and lessons are taken from.

    Returns what is wrong, a line each.
    """
    problems: list[str] = []
    known: set[str] = set()
    glossary = (top / "tutorials/glossary.md").read_text(encoding="utf-8") if (top / "tutorials/glossary.md").exists() else ""
    defined = {anchor(title) for title in re.findall(r"^## (.+)$", glossary, re.M)}
    for lesson in lessons(top / COURSE.name):
        try:
            text = woven(lesson, top)
            problems += rules(lesson, top, known, defined)
        except (TutorError, ValueError, OSError) as error:
            problems.append(str(error) if str(error).startswith(lesson.id) else f"{lesson.id}: {error}")
            continue
        if out is not None:
            path = out / f"{lesson.id}.md"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return problems


def rules(lesson: Lesson, top: Path, known: set[str], defined: set[str]) -> list[str]:
    """Return what of a lesson is not as lessons are."""
    found = []
    new = [term for term in terms(lesson) if term not in known]
    known |= set(new)
    if len(new) > TERMS:
        found.append(f"{lesson.id}: {len(new)} new terms, and {TERMS} are enough: {', '.join(new)}")
    found += [f"{lesson.id}: the glossary has no {term!r}" for term in terms(lesson) if term not in defined]
    for fence in lesson.fences:
        if fence.kind == "quiz":
            quiz(fence)
        if fence.kind == "weave" and len(source(fence.words[0], top).text.splitlines()) > SCREEN:
            found.append(f"{lesson.id}/lesson.md:{fence.line}: {fence.words[0]} does not fit one screen of {SCREEN} lines")
    for id, rungs in table(lesson).items():
        symbol = rungs.get("source")
        if symbol:
            source(symbol, top)
        found += [f"{lesson.id}/hints.toml: {id} has no {rung}" for rung in ("says", *RUNGS[:2]) if rung not in rungs]
    return found


def terms(lesson: Lesson) -> list[str]:
    """Return the terms of the glossary that a lesson links to, each once."""
    return list(dict.fromkeys(LINK.findall(lesson.text)))


def anchor(title: str) -> str:
    """Return the anchor that Markdown renderers make of a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")
