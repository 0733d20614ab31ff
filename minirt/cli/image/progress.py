"""How far a long command is: bars on a terminal, a line for each thing done elsewhere. All of it on standard error."""

from __future__ import annotations

import sys

from minirt.cli.image.print import human, short

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

__all__ = ["Counter", "Part", "Transfer"]


class Counter:
    """Bytes so far, on a terminal only: rich's bar where it is installed, else one line that counts.

    Args: what is done, in a word; total, bytes, 0 where it is not known. Nothing is shown, or imported, in the first 0.3 s.
    """

    def __init__(self, what: str, total: int) -> None:
        import time

        self._clock = time.monotonic
        self._what = what
        self._total = total
        self._done = 0
        self._next = self._clock() + 0.3 if sys.stderr.isatty() else float("inf")
        self._bar: Any = None
        self._plain = False

    def __enter__(self) -> Counter:
        return self

    def advance(self, count: int) -> None:
        """Count bytes, and show them at most ten times a second."""
        self._done += count
        if self._clock() < self._next:
            return
        self._next = self._clock() + 0.1
        if self._bar is None and not self._plain:
            self._start()
        if self._plain:
            of = f" of {human(self._total)}" if self._total else ""
            print(f"\r{human(self._done)}{of} ", end="", file=sys.stderr, flush=True)
        else:
            self._bar.update(0, completed=self._done)

    def _start(self) -> None:
        self._bar = _bars()
        if self._bar is None:
            self._plain = True
            return
        self._bar.add_task(self._what, total=self._total or None)
        self._bar.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self._plain:
            print("\r\33[K", end="", file=sys.stderr, flush=True)


def _bars() -> Any:
    """Return rich's bars, not started, or None where rich is not installed."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
    except ImportError:
        return None
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)  # Console reads NO_COLOR


class Transfer:
    """The blobs of a pull or push: a bar each on a terminal, a line when something is done with one elsewhere.

    Args: quiet, to show nothing. Its methods are called by several threads.
    """

    def __init__(self, quiet: bool = False) -> None:
        import threading

        self._lock = threading.Lock()
        self._quiet = quiet
        self._bar: Any = _bars() if sys.stderr.isatty() and not quiet else None
        self._tasks: dict[str, Any] = {}
        self._sizes: dict[str, int] = {}

    def __enter__(self) -> Transfer:
        if self._bar is not None:
            self._bar.start()
        return self

    def of(self, name: str) -> Part:
        """Return what is told of one of several transfers, which may have blobs in common."""
        return Part(self, name)

    def begin(self, digest: str, size: int, name: str = "") -> None:
        """A blob begins; size in bytes; name, of the transfer, if there are several."""
        with self._lock:
            self._sizes[name + digest] = size
            if self._bar is not None:
                self._tasks[name + digest] = self._bar.add_task(called(name, digest), total=size)

    def advance(self, digest: str, count: int, name: str = "") -> None:
        """Bytes are there; negative, where it begins again."""
        if self._bar is not None:
            self._bar.advance(self._tasks[name + digest], count)

    def say(self, digest: str, text: str, name: str = "") -> None:
        """Something is done with a blob."""
        if self._quiet:
            return
        with self._lock:
            if self._bar is None:
                size = human(self._sizes.get(name + digest, 0))
                print(f"{called(name, digest)}  {size}  {text}", file=sys.stderr, flush=True)
            elif name + digest in self._tasks:
                self._bar.update(self._tasks[name + digest], description=f"{called(name, digest)} {text}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


class Part:
    """One of several transfers that are shown together. Args: whole, who shows them; name, of this one."""

    def __init__(self, whole: Transfer, name: str) -> None:
        self._whole = whole
        self._name = name

    def begin(self, digest: str, size: int) -> None:
        """As `Transfer.begin`."""
        self._whole.begin(digest, size, self._name)

    def advance(self, digest: str, count: int) -> None:
        """As `Transfer.advance`."""
        self._whole.advance(digest, count, self._name)

    def say(self, digest: str, text: str) -> None:
        """As `Transfer.say`."""
        self._whole.say(digest, text, self._name)


def called(name: str, digest: str) -> str:
    """Return what a blob is called, with the image's name before it where there are several."""
    return f"{name}  {short(digest)}" if name else short(digest)
