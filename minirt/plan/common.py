"""What plans have in common: passages that are the same in each, made and lowered once in the life of a process.

Most records of a container's plan do not depend on the container: the nodes of /dev are the same, and the kernel's own file
systems are mounted in the same way. So who makes many of them, a server, makes these once (`Plan.common`). What such records
point to lies in a pool, which has the same place in the memory of every plan, right behind the header (lower.py); so their
bytes are the same in every plan, too.

A plan gets the records themselves, and nobody may change them; who must, changes a copy (cut.py). A record with a label or a
barrier is of its own plan, as those have numbers there: a passage with one is not kept. Nor is more than fits into POOL, so
that a server whose passages have ever new keys does not grow.
"""

from __future__ import annotations

from _thread import allocate_lock

from minirt.linux import constants
from minirt.plan.arena import Arena
from minirt.plan.layout import HEADER, RECORD
from minirt.plan.pack import pack
from minirt.plan.record import Record, Words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence
    from typing import Any

    from minirt.plan.builder import Step
    from minirt.plan.record import Label

__all__ = ["MOST", "POOL", "Passage", "forget", "image", "keep", "passages", "pool"]

POOL = 8192  # bytes that passages may point to, all together
MOST = 256  # passages


class Passage:
    """Records in a row, each with its bytes; the steps that they begin; and what else their maker had to say."""

    __slots__ = ("current", "records", "steps", "value")

    def __init__(self, records: Sequence[Record], steps: Sequence[Step], current: str, value: Any) -> None:
        self.records = tuple(records)
        self.steps = tuple(steps)
        self.current = current  # the step that follows without one of its own
        self.value = value


passages: dict[Hashable, Passage] = {}
pool = Arena(constants.PLAN_HEADER + HEADER.size)
_image = b""  # of the pool
_lock = allocate_lock()


def image() -> bytes:
    """Return the pool as it is now. It only grows: what a passage points to stays where it is."""
    return _image


def keep(key: Hashable, items: Sequence[Record | Label], steps: Sequence[Step], current: str, value: Any) -> None:
    """Keep a passage that was just made, if it can be the same in every plan, and if there is room.

    Args:
        key: what it depends on.
        items: what it appended.
        steps: those that it began.
        current: the step that it ended in.
        value: what else follows from the key.
    """
    if len(passages) >= MOST:
        return
    records = [item for item in items if isinstance(item, Record) and not numbered(item)]
    if len(records) < len(items):
        return
    with _lock:
        if key not in passages and len(passages) < MOST and lowered(records):
            passages[key] = Passage(records, steps, current, value)


def numbered(record: Record) -> bool:
    """Say whether a record holds the number of a barrier or of another record."""
    return bool(record.barrier or record.positive or (record.otherwise and any(record.otherwise.values())))


def lowered(records: Sequence[Record]) -> bool:
    """Give records their bytes. Returns whether there was room for what they point to."""
    global _image
    for record in records:
        for arg in record.args:
            if arg.__class__ is Words:
                pool.memory(arg)
    packed = bytes(pack(records, 0, {}, pool))
    pool.put(b"")  # the records behind it begin at a whole word
    if len(pool.bytes) > POOL:
        end = pool.base + len(_image)
        del pool.bytes[len(_image) :]
        pool.texts = {text: address for text, address in pool.texts.items() if address < end}
        pool.addresses = {memory: address for memory, address in pool.addresses.items() if address < end}
        return False
    _image = bytes(pool.bytes)
    for at, record in enumerate(records):
        record.pool = len(_image)
        record.packed = packed[RECORD.size * at : RECORD.size * (at + 1)]
    return True


def forget() -> None:
    """Be as a process is that has made no plan yet, for who measures what the first one costs. Not while a plan is run."""
    global pool, _image
    with _lock:
        passages.clear()
        pool, _image = Arena(pool.base), b""
