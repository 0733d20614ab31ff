"""What is to be undone if something fails: contextlib's ExitStack, of which one import would cost 4 ms here."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["Undo"]


class Undo:
    """A list of things to do at the end, the last one first; `keep` forgets them."""

    def __init__(self) -> None:
        self.things: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []

    def call(self, function: Callable[..., Any], *args: Any) -> None:
        """Call this at the end."""
        self.things.append((function, args))

    def keep(self) -> None:
        """Undo nothing of what was noted so far."""
        self.things.clear()

    def __enter__(self) -> Undo:
        return self

    def __exit__(self, *_: object) -> None:
        failure: BaseException | None = None
        while self.things:
            function, args = self.things.pop()
            try:
                function(*args)
            except BaseException as error:  # the others have to be undone all the same
                failure = failure or error
        if failure is not None:
            raise failure
