"""The tables of state.sqlite. A change of them is one more entry, which leads from the version before to the next.

A time is in seconds since 1970 (REAL), but where nanoseconds count (INTEGER). What is asked for by its content is a column;
what is only carried along is JSON.
"""

from __future__ import annotations

from minirt.state.database import Database

__all__ = ["MIGRATIONS", "State"]

MIGRATIONS = (
    # 1: events. `seq` only grows: who follows asks for what is above the last that he saw.
    """
    CREATE TABLE event (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, time INTEGER NOT NULL, type TEXT NOT NULL, action TEXT NOT NULL,
        id TEXT NOT NULL, attributes TEXT NOT NULL
    ) STRICT;
    """,
)


class State(Database):
    """state.sqlite. Args: look, nothing is going to be changed."""

    def __init__(self, look: bool = False) -> None:
        super().__init__("state.sqlite", MIGRATIONS, look)
