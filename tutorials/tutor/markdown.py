"""A lesson's text: plain Markdown, in which a fence's first line says what it is.

    ```sh run          `$ command` lines with their output, replayed by the tests; `...` stands for what varies
    ```sh run PROGRAM  the same, where such a program of another package is installed
    ```python          a session of `>>>` lines, replayed too; all of a lesson's share one interpreter
    ```weave SYMBOL    source, pulled in by symbol; the fence is empty
    ```predict         a question, asked before the answer is shown
    ```quiz            a question, then answers that begin with `- `, the right one with `* `
    ```exercise        the symbols that the learner writes, one a line
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Fence", "Quiz", "commands", "fences", "quiz"]

FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<body>.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Fence:
    """A fenced block."""

    kind: str  # the first word behind the backquotes
    words: tuple[str, ...]  # the others
    body: str
    line: int  # where it begins, from 1
    start: int  # where it begins and ends in the text, in characters
    end: int

    @property
    def info(self) -> str:
        """All that stands behind the backquotes."""
        return " ".join((self.kind, *self.words))


@dataclass(frozen=True)
class Quiz:
    """A question with answers to choose from."""

    question: str
    answers: tuple[str, ...]
    right: int  # of answers, from 0


def fences(text: str) -> list[Fence]:
    """Return the fenced blocks of a text."""
    found = []
    for match in FENCE.finditer(text):
        kind, *words = match["info"].split() or [""]
        line = text.count("\n", 0, match.start()) + 1
        found.append(Fence(kind, tuple(words), match["body"], line, match.start(), match.end()))
    return found


def commands(body: str) -> list[tuple[str, str]]:
    """Return the commands of a transcript, each with the output that it shows."""
    return re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", body, re.M)


def quiz(fence: Fence) -> Quiz:
    """Read a quiz. Raises: ValueError where it has not one question and one right answer."""
    lines = fence.body.strip().split("\n")
    at = next((i for i, line in enumerate(lines) if line[:2] in ("* ", "- ")), len(lines))
    answers = lines[at:]
    marks = [line[:2] for line in answers]
    if marks.count("* ") != 1 or len(answers) < 3 or not set(marks) <= {"* ", "- "}:
        raise ValueError(f"line {fence.line}: a quiz has a question, at least three answers, and one of them right")
    return Quiz(" ".join(lines[:at]), tuple(line[2:] for line in answers), marks.index("* "))
