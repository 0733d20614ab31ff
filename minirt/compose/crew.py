"""Things done at the same time, each after those it has to come after, and told in an order that is always the same.

    crew = Crew(say, limit=4)
    crew.do(["db", "cache", "web"], {"web": {"db"}}, one)    # one("db", say) beside one("cache", say), then one("web", say)

What one says is told as it comes only while all before it have ended; else it waits for its turn. So two runs tell the same,
and the same as one thing after another would. Where one fails nothing more is begun, what has begun is let end, and the first
that failed, in that order, is raised.
"""

from __future__ import annotations

import threading
from contextlib import nullcontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from concurrent.futures import Future
    from contextlib import AbstractContextManager

    Say = Callable[[str, str], None]

__all__ = ["Crew"]


class Crew:
    """What does several things at the same time.

    Args:
        say: told what has been done: of what, and what. Twice the same is told once.
        limit: how many things at most; 0 or less: any number.
    """

    def __init__(self, say: Say, limit: int = 0) -> None:
        self.limit = limit
        self.slot: AbstractContextManager[object] = threading.Semaphore(limit) if limit > 0 else nullcontext()  # to hold at work
        self.over = False  # something has failed, or Ctrl-C came: nothing more is begun
        self._say = say
        self._told: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    def say(self, what: str, done: str) -> None:
        """Tell it, if that is not told yet: two who wait for the same have the same to say."""
        with self._lock:
            if (what, done) not in self._told:
                self._told.add((what, done))
                self._say(what, done)

    def do(
        self, names: Sequence[str], after: Mapping[str, Collection[str]], one: Callable[[str, Say], object],
        say: Say | None = None, kind: str = "Container",
    ) -> None:  # fmt: skip
        """Do one thing for each name, and wait for all.

        Args:
            names: in the order in which they are told, and begun as far as they may.
            after: those that a name comes after; they may be none of these.
            one: does it, in a thread of its own; what it says, by its second argument, waits for its turn.
            say: of the thing that this is a part of, whose turn it waits for in its turn.
            kind: of thing, before its name where it fails and another failed before it.

        Raises: what the first that failed raised.
        """
        if not names:
            return
        turns = Turns(names, say or self.say)
        failed: dict[str, BaseException] = {}
        try:
            self._all(names, after, one, turns, failed)
        except BaseException:  # Ctrl-C, as what fails in `one` is kept
            self.over = True
            raise
        finally:
            turns.rest()
        first, *others = sorted(failed, key=names.index) or [""]
        for name in others:
            self.say(f"{kind} {name}", f"failed: {failed[name]}")
        if first:
            raise failed[first]

    def _all(
        self, names: Sequence[str], after: Mapping[str, Collection[str]], one: Callable[[str, Say], object], turns: Turns,
        failed: dict[str, BaseException],
    ) -> None:  # fmt: skip
        """Begin what may begin, until nothing is left, or nothing more is to be begun."""
        from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

        most = self.limit if self.limit > 0 else len(names)
        left = list(names)
        begun: dict[Future[object], str] = {}
        with ThreadPoolExecutor(most) as pool:
            try:
                while True:
                    if not self.over:
                        undone = {*left, *begun.values()}
                        free = [name for name in left if undone.isdisjoint({*after.get(name, ())} - {name})]
                        free = free or left[: not begun]  # a circle: old containers' labels may have one, and a file has none
                        for name in free[: most - len(begun)]:
                            left.remove(name)
                            begun[pool.submit(one, name, turns.teller(name))] = name
                    if not begun:
                        return
                    for future in wait(begun, return_when=FIRST_COMPLETED).done:
                        name, error = begun.pop(future), future.exception()
                        if error is not None:
                            failed[name], self.over = error, True
                        turns.end(name)
            except BaseException:
                self.over = True  # before the pool waits for those who look at it
                raise


class Turns:
    """Who may tell at once, and what the others keep until it is their turn."""

    def __init__(self, names: Sequence[str], say: Say) -> None:
        self._say = say
        self._left = list(names)
        self._kept: dict[str, list[tuple[str, str]]] = {name: [] for name in names}
        self._ended: set[str] = set()
        self._lock = threading.Lock()

    def teller(self, name: str) -> Say:
        """Return what tells for a name."""

        def say(what: str, done: str) -> None:
            with self._lock:
                self._kept[name].append((what, done))
                if name == self._left[0]:
                    self._tell(name)

        return say

    def end(self, name: str) -> None:
        """Say that a name has no more to tell."""
        with self._lock:
            self._ended.add(name)
            while self._left and self._left[0] in self._ended:
                self._tell(self._left.pop(0))
            if self._left:
                self._tell(self._left[0])

    def rest(self) -> None:
        """Tell what is kept of those whose turn does not come, as one before them was not begun."""
        with self._lock:
            for name in self._left:
                self._tell(name)

    def _tell(self, name: str) -> None:
        for what, done in self._kept[name]:
            self._say(what, done)
        self._kept[name].clear()
