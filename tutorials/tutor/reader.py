"""tutor read: a lesson gone through, its predictions and quizzes asked before it goes on.

In a pipe nothing is asked: the lesson is printed, with its source in it.
"""

from __future__ import annotations

import re
import sys

from tutorials.tutor.lessons import TOP, Lesson
from tutorials.tutor.markdown import Fence, quiz
from tutorials.tutor.weave import block, woven

__all__ = ["read"]


def read(lesson: Lesson) -> int:
    """Show a lesson, one section at a time. Returns 0."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        print(woven(lesson), end="")
        return 0
    at = right = asked = 0
    for fence in lesson.fences:
        show(lesson.text[at : fence.start])
        at = fence.end
        if fence.kind == "predict":
            input(f"{fence.body.strip()}\n  your guess: ")
        elif fence.kind == "quiz":
            asked += 1
            right += ask(fence)
        else:
            show(block(lesson, fence, TOP))
    show(lesson.text[at:])
    print(f"{right} of {asked} questions answered right" if asked else "")
    return 0


def show(text: str) -> None:
    """Print Markdown, formatted where rich is there; wait for Enter between sections."""
    for number, section in enumerate(re.split(r"(?m)^(?=## )", text)):
        if number:
            input("[Enter] ")
        try:
            from rich.console import Console
            from rich.markdown import Markdown

            Console().print(Markdown(re.sub(r'^(```\w+) title="([^"]+)"$', r"`\2`\n\n\1", section, flags=re.M)))
        except ImportError:
            print(section)


def ask(fence: Fence) -> bool:
    """Ask a quiz until it is answered; returns whether the first answer was right."""
    one = quiz(fence)
    print(one.question)
    for number, answer in enumerate(one.answers, 1):
        print(f"  {number}. {answer}")
    tries = 0
    while True:
        said = input("  number: ").strip()
        tries += 1
        if said == str(one.right + 1):
            print("  yes")
            return tries == 1
        print("  no; think again" if said.isdigit() else f"  a number from 1 to {len(one.answers)}")
