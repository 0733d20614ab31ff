"""How far a long command is: on a terminal only, and only where it takes long enough to look at."""

from __future__ import annotations

import sys

from minirt.cli.image.print import human

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

__all__ = ["Counter"]


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
        try:
            from rich.console import Console
            from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
        except ImportError:
            self._plain = True
            return
        columns = (TextColumn(self._what), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True)  # Console reads NO_COLOR
        self._bar.add_task(self._what, total=self._total or None)
        self._bar.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self._plain:
            print("\r\33[K", end="", file=sys.stderr, flush=True)
