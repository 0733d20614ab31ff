"""What two plans differ in: `minirt plan diff`. Plans as JSON objects, as `minirt run --plan --format json` prints them."""

from __future__ import annotations

from difflib import SequenceMatcher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["Change", "compare"]


class Change:
    """A call that is only in one of the plans."""

    __slots__ = ("added", "call", "side", "step", "why")

    def __init__(self, record: dict[str, Any], added: bool) -> None:
        self.added = added  # in the second plan
        self.step: str = record["step"]
        self.side: str = record["side"]
        self.call = text(record)
        self.why: str = record["why"]

    def as_dict(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {name: getattr(self, name) for name in self.__slots__}


def text(record: dict[str, Any]) -> str:
    """Return a record as strace prints a call."""
    return f"{record['call']}({', '.join(record['args'])})"


def compare(one: dict[str, Any], other: dict[str, Any]) -> Iterator[Change]:
    """Yield what must be left out of the first plan, and put in, to come to the second; in the order of the plans.

    Two calls are the same if they are of one step and have the same arguments.
    """
    before, after = one["records"], other["records"]
    first, second = ([(record["side"], record["step"], text(record)) for record in records] for records in (before, after))
    for kind, i, j, k, end in SequenceMatcher(None, first, second, autojunk=False).get_opcodes():
        if kind != "equal":
            yield from (Change(record, False) for record in before[i:j])
            yield from (Change(record, True) for record in after[k:end])
