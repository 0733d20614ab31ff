"""What a build tells while it runs, on standard error: a number for each step, as docker's `--progress plain`.

    #3 [build 2/4] RUN make
    #3 0.412 cc -c main.c
    #3 DONE 1.2s            or CACHED, or ERROR: …

Several stages talk at once; a line is always one step's.
"""

from __future__ import annotations

import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO

__all__ = ["Progress", "Told"]


class Progress:
    """Where all steps of a build are told.

    Args: form, plain, json (an object a line) or quiet; stream, where to.
    """

    def __init__(self, form: str = "plain", stream: IO[str] | None = None) -> None:
        import threading

        self.form = form
        self._stream = stream or sys.stderr
        self._lock = threading.Lock()
        self._count = 0

    def step(self, title: str) -> Told:
        """Begin a step."""
        with self._lock:
            self._count += 1
            number = self._count
        told = Told(self, number)
        told.tell("begin", title)
        return told

    def write(self, number: int, event: str, text: str, seconds: float) -> None:
        """Write a line about a step; seconds since it began."""
        if self.form == "quiet":
            return
        if self.form == "json":
            import json

            line = json.dumps({"step": number, "event": event, "text": text, "seconds": round(seconds, 3)})
        else:
            words = {"begin": text, "output": f"{seconds:.3f} {text}", "cached": "CACHED", "done": f"DONE {seconds:.1f}s",
                     "error": f"ERROR: {text}"}  # fmt: skip
            line = f"#{number} {words[event]}"
        with self._lock:
            print(line, file=self._stream, flush=True)


class Told:
    """One step that is told of."""

    def __init__(self, progress: Progress, number: int) -> None:
        self._progress = progress
        self._number = number
        self._began = time.monotonic()

    def tell(self, event: str, text: str = "") -> None:
        """Tell an event: begin, output, cached, done, error."""
        self._progress.write(self._number, event, text, time.monotonic() - self._began)

    def say(self, line: str) -> None:
        """Pass on a line of its output."""
        self.tell("output", line)
