"""From records to the memory that csrc/plan/executor.c runs: numbers, and pointers that are plain numbers.

The layout is csrc/plan/plan.h's (layout.py): the ring, a header, the records, the arena that their arguments point into. The
same file is mapped by the executor at PLAN_BASE and read and written here by offset, so nothing is shared but a
descriptor.

A plan may come in two parts: the executor begins with the first while the second is being made (`Lowered.add`).
"""

from __future__ import annotations

from minirt.linux import constants
from minirt.plan import common
from minirt.plan.arena import Arena
from minirt.plan.layout import CAPACITY, EXTENT, HEADER, RECORD
from minirt.plan.pack import pack
from minirt.plan.record import END, Label, Memory, Record, Words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.plan.builder import Plan

__all__ = ["Lowered", "lower"]


class Lowered:
    """A plan as bytes, with what is needed to write into it later and to read its ring.

    Attributes:
        image: the header, the pool and the first part, which belong at HEADER_AT.
        pool: what passages in common point into (common.py); empty for a plan that begins without one.
        records: in their order, as the ring counts them.
    """

    __slots__ = ("arena", "end", "image", "items", "packed", "pool", "records")

    def __init__(self) -> None:
        self.image = b""
        self.records: list[Record] = []
        self.items = 0  # of the plan, that are lowered
        self.packed = bytearray()
        self.pool = b""
        self.end = constants.PLAN_HEADER + HEADER.size  # address of the next part
        self.arena = Arena()

    def offset(self, memory: Memory) -> int:
        """Return where in the file a piece of memory lies."""
        address = self.arena.addresses.get(id(memory)) or common.pool.addresses[id(memory)]
        return address - constants.PLAN_BASE

    def add(self, plan: Plan) -> tuple[int, bytes, bytes]:
        """Lower what has been appended to the plan since the last time.

        Returns: where in the file it belongs, the bytes, and what is to be at EXTENT_AT once they are there.
        Raises: ValueError for a jump to a label that is missing or lies behind, too many tolerated errnos, too many records.
        """
        items = plan.items[self.items :] if self.items else plan.items
        self.items = len(plan.items)
        first = len(self.records)
        records: list[Record] = []
        labels: dict[str, int] = {END: constants.PLAN_END}
        for item in items:
            if isinstance(item, Label):
                labels[item.name] = first + len(records)
            else:
                records.append(item)
        count = first + len(records)
        if 2 * count > CAPACITY:
            raise ValueError(f"{count} system calls are more than a plan can have ({CAPACITY // 2})")
        self.records += records
        if not first and any(record.packed for record in records):
            self.pool = common.image()
            self.end += len(self.pool)
        begin, pool = self.end, len(self.pool)
        self.arena.begin(begin + RECORD.size * count)
        # Structures first: a slot that lies inside one has its address from there.
        for record in records:
            if not record.packed or record.pool > pool:
                for arg in record.args:
                    if arg.__class__ is Words:
                        self.arena.memory(arg)
        self.packed += pack(records, first, labels, self.arena, pool)
        for late in plan.late.values():
            self.arena.memory(late)
        self.arena.put(b"")
        self.end = self.arena.base + len(self.arena.bytes)
        return begin - constants.PLAN_BASE, bytes(self.packed + self.arena.bytes), EXTENT.pack(begin, count)


def lower(plan: Plan) -> Lowered:
    """Turn a plan into the bytes that the executor maps.

    Args:
        plan: what to lower; it is not changed.

    Returns: the bytes, and where things lie in them.
    Raises: ValueError for a jump to a label that is missing or lies behind, too many tolerated errnos, too many records.
    """
    lowered = Lowered()
    _, part, extent = lowered.add(plan)
    header = HEADER.pack(constants.PLAN_MAGIC, *EXTENT.unpack(extent), 0, constants.PLAN_BASE, CAPACITY, 0)
    lowered.image = header + lowered.pool + part
    return lowered
