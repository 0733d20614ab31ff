"""tutor watch: the exercise is checked each time its file is saved. A live screen on a terminal, plain lines elsewhere.

Plain lines (--plain; also in a pipe, with TERM=dumb or NO_SCREEN) never move the cursor: a screen reader reads them as they come.
"""

from __future__ import annotations

import os
import select
import sys
from dataclasses import asdict
from typing import Any

from tutorials.tutor.hints import hint
from tutorials.tutor.lessons import Lesson, lessons
from tutorials.tutor.place import Place
from tutorials.tutor.state import State

__all__ = ["Watch", "plain_wanted", "verdict_lines", "watch_live", "watch_plain"]

POLL = 0.3  # seconds between looks at the file's time


def plain_wanted(asked: bool) -> bool:
    """Say whether lines are wanted, not a screen."""
    dumb = os.environ.get("TERM", "dumb") == "dumb" or "NO_SCREEN" in os.environ
    return asked or dumb or not (sys.stdout.isatty() and sys.stdin.isatty())


def verdict_lines(verdict: dict[str, Any]) -> list[str]:
    """Return a verdict as lines, the first of which says whether it is passed."""
    if verdict["passed"]:
        return [f"{verdict['lesson']}: passed"]
    lines = [f"{verdict['lesson']}: not yet ({verdict['id']})"]
    lines += [f"expected: {verdict['expected']}", f"observed: {verdict['observed']}"]
    lines += [f"differs:  {verdict['differs']}"] * bool(verdict["differs"])
    lines += [f"where:    {verdict['where']}"] * bool(verdict["where"])
    return lines


class Watch:
    """What both ways of watching share: the file, its last check, the hints.

    Args:
        state: the learner's.
        lesson: which is watched.
        place: where it is checked; none: it is only hinted at.
    """

    def __init__(self, state: State, lesson: Lesson, place: Place | None = None) -> None:
        self.state, self.place = state, place
        self.hints: list[str] = []
        self.go_to(lesson)

    def go_to(self, lesson: Lesson) -> None:
        """Turn to a lesson."""
        self.lesson = lesson
        self.path = self.state.start(lesson)
        self.seen = 0.0
        self.hints.clear()

    def changed(self) -> bool:
        """Say whether the file was saved since the last call."""
        try:
            now = self.path.stat().st_mtime
        except OSError:  # an editor is just replacing it
            return False
        before, self.seen = self.seen, now
        return now != before

    def verdict(self) -> dict[str, Any]:
        """Check the file, and remember what came of it."""
        assert self.place is not None
        self.hints.clear()
        verdict = asdict(self.place.told(self.lesson, self.path))
        self.state.checked(self.lesson, verdict)
        return verdict

    def hint(self) -> str:
        """Return the next hint for what fails."""
        last = self.state.last.get(self.lesson.id)
        if last is None or last["passed"]:
            return "there is nothing to help with: check first"
        rung = self.state.rungs.get(self.lesson.id, 0)
        self.state.rungs[self.lesson.id] = rung + 1
        self.state.save()
        text = hint(self.lesson, last, rung)
        self.hints.append(text)
        return text

    def next(self) -> bool:
        """Go to the next lesson that is not passed. Returns False where there is none."""
        lesson = self.state.next()
        if lesson is not None:
            self.go_to(lesson)
        return lesson is not None


def watch_plain(watch: Watch, rounds: int = 0) -> int:
    """Print each check's verdict; a line `hint`, `next` or `quit` on standard input does what it says.

    Args:
        rounds: end after so many checks; 0: at the end of input, or at `quit`.
    """
    print(f"watching {watch.path}: it is checked each time you save it; type hint, next or quit", flush=True)
    checks, listening = 0, True
    while True:
        if watch.changed():
            print("\n".join(verdict_lines(watch.verdict())), flush=True)
            checks += 1
            if checks == rounds:
                return 0
        readable, _, _ = select.select([sys.stdin] if listening else [], [], [], POLL)
        if readable:
            line = sys.stdin.readline()
            word = line.strip()
            listening = bool(line)
            if word in ("quit", "q") or (not line and not rounds):
                return 0
            if word in ("hint", "h"):
                print(f"hint:     {watch.hint()}", flush=True)
            if word in ("next", "n"):
                print(f"next: {watch.path}" if watch.next() else "every exercise is passed", flush=True)


def watch_live(watch: Watch) -> int:
    """Show a screen with progress, the file to open, the last check and hints; keys do the rest."""
    import termios
    import tty

    from rich.console import Console
    from rich.live import Live

    console, fd = Console(), sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    message = ""
    try:
        tty.setcbreak(fd)
        with Live(page(watch, message), console=console, screen=True, auto_refresh=False) as live:
            if watch.place is not None:  # what the lab says belongs on the screen
                watch.place.say = lambda text: live.update(page(watch, text), refresh=True)
            while True:
                if watch.changed():
                    live.update(page(watch, "checking ..."), refresh=True)
                    watch.verdict()
                    live.update(page(watch, ""), refresh=True)
                readable, _, _ = select.select([fd], [], [], POLL)
                key = os.read(fd, 1).decode(errors="replace") if readable else ""
                if key in ("q", "\x04"):
                    return 0
                if key:
                    message = pressed(watch, key)
                    live.update(page(watch, message), refresh=True)
    except KeyboardInterrupt:
        return 0
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def pressed(watch: Watch, key: str) -> str:
    """Do what a key asks for; returns what to say."""
    if key == "h":
        watch.hint()
    elif key == "n":
        return "" if watch.next() else "every exercise is passed"
    elif key == "c":
        watch.seen = 0.0
    elif key == "r":
        watch.path = watch.state.start(watch.lesson, anew=True)
        watch.seen = 0.0
        return f"a new blank; what was there is {watch.path.name}.old"
    else:
        return f"no key {key!r}"
    return ""


def page(watch: Watch, message: str) -> Any:
    """Return the screen, for rich."""
    from rich.console import Group
    from rich.markup import escape
    from rich.panel import Panel
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    have, passed = lessons(), watch.state.passed
    head = Table.grid(padding=(0, 2))
    done = len([x for x in have if x.id in passed])
    head.add_row(Text(f"{done} of {len(have)} exercises pass"), ProgressBar(len(have), done, width=30))
    marks = Text()
    for lesson in have:
        mark = "✔" if lesson.id in passed else "▶" if lesson.id == watch.lesson.id else "·"
        style = "green" if lesson.id in passed else "bold" if lesson.id == watch.lesson.id else "dim"
        marks.append(f"{mark} {lesson.id:<32} {lesson.title}\n", style=style)
    last = watch.state.last.get(watch.lesson.id)
    told = "\n".join(verdict_lines(last)) if last else "not checked yet"
    colour = "green" if last and last["passed"] else "yellow"
    parts: list[Any] = [head, marks, Text(f"open: {watch.path}\nread: {watch.path.with_name('lesson.md')}\n", style="bold")]
    parts.append(Panel(escape(told), title="last check", border_style=colour))
    parts += [Panel(escape(text), title=f"hint {number}") for number, text in enumerate(watch.hints, 1)]
    parts.append(Text(f"{message}\n" if message else ""))
    parts.append(Text("saved files are checked   h hint   n next   c check   r reset   q quit", style="reverse"))
    return Group(*parts)
