"""What takes a while, told in lines of JSON as it goes on: pull, push, build, load (Docker Engine API, "ProgressDetail")."""

from __future__ import annotations

import json
import threading
import time

from minirt.api.errors import message_of
from minirt.errors import MinirtError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minirt.api.http import Request

__all__ = ["Lines", "Transfer", "tell"]

OFTEN = 0.1  # s between two lines about one blob


class Lines:
    """The lines of an answer; threads may say some. The head goes with the first: what fails before has a status of its own."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._lock = threading.Lock()
        self._write: Callable[[bytes], None] | None = None
        self._stream = request.stream()

    def say(self, **line: Any) -> None:
        """Send a line. Raises: Gone."""
        with self._lock:
            if self._write is None:
                self._write = self._stream.__enter__()
            self._write(json.dumps(line).encode() + b"\r\n")

    def end(self) -> None:
        """End the answer."""
        if self._write is None:
            self._write = self._stream.__enter__()
        self._stream.__exit__(None, None, None)


def tell(request: Request, work: Callable[[Lines], object]) -> None:
    """Answer with the lines that some work says. What goes wrong once there are some is the last one."""
    lines = Lines(request)
    try:
        work(lines)
    except MinirtError as error:
        if not request.answered:
            raise
        text = message_of(error)
        lines.say(errorDetail={"message": text}, error=text)
    lines.end()


class Transfer:
    """Tells of the blobs of a pull or push. Args: lines; verb, Downloading or Pushing; done, what is said in the end."""

    def __init__(self, lines: Lines, verb: str, done: str) -> None:
        self._lines = lines
        self._verb = verb
        self._done = done
        self._sizes: dict[str, int] = {}
        self._counts: dict[str, int] = {}
        self._next: dict[str, float] = {}

    def begin(self, digest: str, size: int) -> None:
        """A blob begins; size in bytes."""
        self._sizes[digest], self._counts[digest], self._next[digest] = size, 0, 0.0
        self._lines.say(status="Preparing" if self._verb == "Pushing" else "Pulling fs layer", progressDetail={}, id=short(digest))

    def advance(self, digest: str, count: int) -> None:
        """Bytes are there; negative, where it begins again."""
        self._counts[digest] = self._counts.get(digest, 0) + count
        if time.monotonic() < self._next.get(digest, 0.0):
            return
        self._next[digest] = time.monotonic() + OFTEN
        current, total = self._counts[digest], self._sizes.get(digest, 0)
        part = min(max(current, 0) / total, 1.0) if total else 0.0
        bar = f"[{'=' * int(50 * part)}>{' ' * (50 - int(50 * part))}] {amount(current)}/{amount(total)}"
        detail = {"current": current, "total": total}
        self._lines.say(status=self._verb, progressDetail=detail, progress=bar, id=short(digest))

    def say(self, digest: str, text: str) -> None:
        """Something is done with a blob."""
        words = {"there": "Already exists" if self._verb == "Downloading" else "Layer already exists"}
        self._lines.say(status=words.get(text, self._done), progressDetail={}, id=short(digest))


def short(digest: str) -> str:
    """Return the beginning of a digest, as docker shows it."""
    return digest.partition(":")[2][:12]


def amount(count: float) -> str:
    """Return bytes for people."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.4g}{unit}"
        count /= 1000
    return f"{count:.4g}GB"
