"""Answers checked in the lab (lab/README.md): one machine for all of them, started at the first.

Requests go in as JSON objects, a line each, by the machine's standard input; what inside.py answers comes back the same way. So
this tree is never written to, and what a verdict looks like is the same wherever it was made.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import IO, Any

from tutorials.tutor.check import Verdict, judged
from tutorials.tutor.errors import TutorError
from tutorials.tutor.lessons import TOP, Lesson
from tutorials.tutor.world import NotBorn, World

__all__ = ["Lab"]

RUN = TOP / "lab" / "run"
ALWAYS = str(7 * 86400)  # seconds that the machine may stay
SILENCE = 900  # seconds without a word after which it counts as dead
MACHINES = 3  # an emulated machine may crash; the check then begins again in another
LACKS = (" is missing: ", "could not be built", "no subordinate ids", "is an x86_64 machine")  # what no other machine would mend


class Dead(Exception):
    """The machine has ended, or says nothing; the text is what the lab said last."""


class Lab:
    """A machine that checks answers.

    Args:
        say: told what it is doing.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.process: subprocess.Popen[bytes] | None = None

    def check(self, lesson: Lesson, answer: Path, sandbox: bool, partial: bool = False) -> Verdict:
        """Check an answer there. Raises: TutorError where the lab does not start, or the lesson does not run even there."""
        request: dict[str, Any] = {"lesson": lesson.id, "name": answer.name, "text": answer.read_text(encoding="utf-8")}
        request |= {"sandbox": sandbox, "partial": partial}
        if lesson.language == "c":  # inside there is no compiler
            try:
                request["guest"] = b64encode(compiled(lesson, answer)).decode()
            except NotBorn as error:
                return judged(lesson, answer, [], [("born", str(error))])
        for left in reversed(range(MACHINES)):
            try:
                told = self.ask(request)
                break
            except Dead as dead:
                self.close()
                if not left or any(words in str(dead) for words in LACKS):
                    raise TutorError(f"{lesson.id}: the lab that it needs does not run: {dead}") from None
                self.say("the machine is gone; the check begins again in another")
        if "error" in told:
            raise TutorError(str(told["error"]))
        return Verdict(**{**told["verdict"], "answer": str(answer)})

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a request; returns the answer to it. Raises: Dead."""
        if self.process is None:
            self.start()
        assert self.process is not None and self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # its last words tell why
        while True:
            told: dict[str, Any] = json.loads(self.line())
            if "stage" not in told:
                return told
            self.say(f"[{time.monotonic() - self.begun:3.0f} s] {told['stage']}")

    def start(self) -> None:
        """Start the machine. Raises: TutorError where there is none in this tree."""
        if not RUN.exists():
            raise TutorError(f"{RUN} is not there: the lab comes with the source, and not with the package")
        pipe = subprocess.PIPE
        words = [str(RUN), "--timeout", ALWAYS, ".venv/bin/python", "-m", "tutorials.tutor.inside"]
        self.begun, self.waiting, self.last = time.monotonic(), b"", list[str]()
        self.process = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, cwd=TOP)
        assert self.process.stderr is not None
        self.listener = Thread(target=self.listen, args=(self.process.stderr, self.last), daemon=True)
        self.listener.start()

    def listen(self, stream: IO[bytes], last: list[str]) -> None:
        """Tell what the lab says itself: that it is being built, what is missing."""
        for line in stream:
            last.append(line.decode(errors="replace").strip().removeprefix("lab: "))
            self.say(f"lab: {last[-1]}")

    def line(self) -> bytes:
        """Return the machine's next line. Raises: Dead."""
        assert self.process is not None and self.process.stdout is not None
        fd = self.process.stdout.fileno()
        while b"\n" not in self.waiting:
            if not select.select([fd], [], [], SILENCE)[0]:
                raise Dead(f"it has said nothing for {SILENCE} seconds")
            data = os.read(fd, 65536)
            if not data:
                self.listener.join(10)
                raise Dead("; ".join(self.last[-4:]) or f"lab/run ended with status {self.process.wait()}")
            self.waiting += data
        line, _, self.waiting = self.waiting.partition(b"\n")
        return line

    def close(self) -> None:
        """Switch it off; it keeps nothing."""
        process, self.process = self.process, None
        if process is not None:
            process.terminate()
            process.wait()
            self.listener.join(10)
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()


def compiled(lesson: Lesson, answer: Path) -> bytes:
    """Return the guest with an answer's C functions in it. Raises: NotBorn where it does not compile."""
    with World(str(answer), lesson.symbols, "") as world:
        return world.kernel().read_bytes()
