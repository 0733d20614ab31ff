"""A plan's memory as csrc/plan/plan.h lays it out: where its parts lie in the file, and which fields they have.

Needs nothing else, as `minirt oci start` reads one outcome and no more. A test compares all of it with the header.
"""

from __future__ import annotations

from struct import Struct

__all__ = [
    "CAPACITY", "EXTENT", "EXTENT_AT", "HEADER", "HEADER_AT", "OUTCOME", "PENDING", "RECORD", "USED_AT", "last_result",
]  # fmt: skip

HEADER = Struct("<QQIIQII")  # struct plan: magic records count used ring capacity reserved
HEADER_AT = 1 << 20  # PLAN_HEADER - PLAN_BASE: in the file
EXTENT = Struct("<QI")  # of it: records count
EXTENT_AT = HEADER_AT + 8
USED_AT = EXTENT_AT + EXTENT.size
RECORD = Struct("<IHH6QQiHH8H")  # struct record
OUTCOME = Struct("<IIqQQ")  # struct outcome
PENDING = -(1 << 63)  # the call has begun and has not returned
CAPACITY = HEADER_AT // OUTCOME.size  # of the ring, which fills the file up to the header; a hole until it is written to


def last_result(path: str) -> int:
    """Return the result of the last record that was begun in a plan's file; PENDING where it has not returned, as a good execve."""
    with open(path, "rb", buffering=0) as file:
        file.seek(USED_AT)
        used = int.from_bytes(file.read(4), "little")
        file.seek(OUTCOME.size * (used - 1))
        result: int = OUTCOME.unpack(file.read(OUTCOME.size))[2]
    return result
