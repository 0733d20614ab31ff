"""What has happened, in docker's words: written down in the transaction that made it so, read by who asks for it.

    {"Type": "container", "Action": "die", "Actor": {"ID": "...", "Attributes": {"exitCode": "0", "image": "busybox", ...}},
     "scope": "local", "time": 1764115200, "timeNano": 1764115200123456789}

No daemon passes them on: who follows looks at the table again when the database was written to (minirt.engine.events).

Source: Docker's Engine API, "Monitor events"
"""

from __future__ import annotations

import json
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from minirt.state.database import Database

__all__ = ["MOST", "Event", "events_after", "last_event", "note", "tell"]

MOST = 10_000  # events that are kept, about three megabytes
EVERY = 100  # of them, between two looks for what is too old


class Event:
    """One event."""

    __slots__ = ("action", "attributes", "id", "seq", "time", "type")

    def __init__(self, seq: int, time: int, type: str, action: str, id: str, attributes: dict[str, str]) -> None:
        self.seq = seq
        self.time = time  # ns since 1970
        self.type = type  # container, image, network, volume
        self.action = action
        self.id = id  # of what it happened to; an image's or a volume's is its name
        self.attributes = attributes

    def as_dict(self) -> dict[str, Any]:
        """Return it as a JSON object, as Docker's Engine API has it."""
        old = {"status": self.action, "id": self.id, "from": self.attributes.get("image", "")} if self.type == "container" else {}
        return {
            **old, "Type": self.type, "Action": self.action, "Actor": {"ID": self.id, "Attributes": self.attributes},
            "scope": "local", "time": self.time // 10**9, "timeNano": self.time,
        }  # fmt: skip


def note(base: Database, type: str, action: str, id: str, attributes: Mapping[str, str] | None = None) -> None:
    """Write down in a transaction that something happens.

    Args:
        base: state.sqlite, in a transaction.
        type: container, image, network, volume.
        action: docker's word: create, start, die ...
        id: whom it happens to.
        attributes: name, image, labels and what else docker tells of it.
    """
    cursor = base.execute(
        "INSERT INTO event (time, type, action, id, attributes) VALUES (?, ?, ?, ?, ?)",
        (time.time_ns(), type, action, id, json.dumps(attributes or {}, ensure_ascii=False)),
    )
    seq = cursor.lastrowid or 0
    if seq % EVERY == 0:
        base.execute("DELETE FROM event WHERE seq <= ?", (seq - MOST,))


def tell(type: str, action: str, id: str, attributes: Mapping[str, str] | None = None) -> None:
    """Write down that something has happened, in a transaction of its own. Raises: StateError."""
    from minirt.state.schema import State

    with State() as base:
        note(base, type, action, id, attributes)


def events_after(base: Database, seq: int) -> Iterator[Event]:
    """Yield what was written down after an event, the oldest first."""
    for row in base.execute("SELECT * FROM event WHERE seq > ? ORDER BY seq", (seq,)):
        yield Event(row["seq"], row["time"], row["type"], row["action"], row["id"], json.loads(row["attributes"]))


def last_event(base: Database) -> int:
    """Return the number of the event that came last, 0 where none has."""
    (seq,) = base.execute("SELECT coalesce(max(seq), 0) FROM event").fetchone()
    return int(seq)
