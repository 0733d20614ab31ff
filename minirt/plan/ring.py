"""What came of each record: read from the ring that the executor fills in without a system call (csrc/plan/plan.h)."""

from __future__ import annotations

import os

from minirt.errors import KernelError
from minirt.plan.layout import OUTCOME, PENDING, USED_AT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minirt.plan.birth import Birth
    from minirt.plan.record import Record

    Outcome = tuple[Record, int, int, int]  # the record, its result, when it began and ended in TSC ticks

__all__ = ["PlanFailed", "failure", "outcomes", "used"]

LAST = 4  # outcomes, among which is mostly the one that tells how it ended


class PlanFailed(KernelError):
    """A record of the plan failed: which, in which step, and with what.

    Attributes: record, step, errno (0 where the process died or the other side was gone).
    """

    def __init__(self, record: Record, errno: int, text: str) -> None:
        super().__init__(errno, text)
        self.record = record
        self.step = record.step


def used(birth: Birth) -> int:
    """Return how many records were begun."""
    return int.from_bytes(os.pread(birth.memory, 4, USED_AT), "little")


def outcomes(birth: Birth, start: int = 0, count: int = -1) -> list[Outcome]:
    """Return (record, result, began, ended) of each record that was begun; times in TSC ticks.

    Args:
        birth: of whose plan.
        start: without so many of the first.
        count: how many there are, where that is known.
    """
    records = birth.lowered.records
    if count < 0:
        count = used(birth)
    ring = os.pread(birth.memory, OUTCOME.size * (count - start), OUTCOME.size * start)
    return [(records[at], result, began, ended) for at, _, result, began, ended in OUTCOME.iter_unpack(ring)]


def backward(birth: Birth, count: int) -> Iterator[Outcome]:
    """Yield the outcomes, the last one first; those before the last few are read only if somebody asks."""
    first = max(count - LAST, 0)
    yield from reversed(outcomes(birth, first, count))
    yield from reversed(outcomes(birth, 0, first))


def failure(birth: Birth) -> PlanFailed | None:
    """Return the failure that ended the plan, or None if the program was started (or the plan ended well)."""
    count = used(birth)
    for record, result, _, _ in backward(birth, count):
        if result == PENDING:
            if record.call in ("execve", "execveat", "exit_group"):
                return None
            return PlanFailed(record, 0, f"{where(birth, record)}: the process died in this call")
        errno = -result if -4096 < result < 0 else 0
        if errno and errno not in record.otherwise:
            return PlanFailed(record, errno, explain(birth, record, errno))
        if not errno and result < record.at_least:
            return PlanFailed(record, 0, f"{where(birth, record)}: returned {result}: the other side has gone")
        if record.side == "container" or birth.plan.pid is None:
            return None
    return PlanFailed(birth.lowered.records[0], 0, "the executor died before the first record")


def where(birth: Birth, record: Record) -> str:
    """Return a record's call as text, with its step."""
    from minirt.plan.decode import call_text

    return f"step {record.step}: {call_text(record, birth)}" if record.step else call_text(record, birth)


def explain(birth: Birth, record: Record, errno: int) -> str:
    """Return a failure in words, with what usually causes it."""
    from errno import errorcode

    from minirt.plan.causes import usual_cause

    text = f"{where(birth, record)}: {errorcode.get(errno, errno)} ({os.strerror(errno)})"
    cause = usual_cause(record.call, errno)
    return f"{text}: {cause}" if cause else text
