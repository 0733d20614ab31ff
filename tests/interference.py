"""What another command does just between two steps of ours: without a race, so that it happens each time."""

from __future__ import annotations

from collections.abc import Callable

import pytest


def before_next(
    monkeypatch: pytest.MonkeyPatch, where: object, name: str, other: Callable[[], object], first: object = None
) -> list[str]:
    """Let something else happen once, just before a function is called.

    Args: first, the argument that it is called with; any by default.
    Returns: what is filled when it has happened.
    """
    function, happened = getattr(where, name), []

    def first_the_other(*args: object, **more: object) -> object:
        if not happened and first in (None, *args[:1]):
            happened.append(name)
            other()
        return function(*args, **more)

    monkeypatch.setattr(where, name, first_the_other)
    return happened
