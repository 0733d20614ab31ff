"""What goes wrong in the course itself, and what is wrong with an answer."""

from __future__ import annotations

__all__ = ["Failure", "TutorError"]


class TutorError(Exception):
    """The command cannot do what it was asked for: one line that says what to do."""


class Failure(Exception):
    """One thing about an answer that is not as it should be.

    Args:
        id: names its hints in hints.toml.
        expected, observed: of the kernel, in a line each.
        where: file and line, where there is one.
    """

    def __init__(self, id: str, expected: str, observed: str, where: str = "") -> None:
        super().__init__(f"{id}: expected {expected}; observed {observed}")
        self.id = id
        self.expected = expected
        self.observed = observed
        self.where = where
