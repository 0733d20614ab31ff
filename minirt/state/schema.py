"""The tables of state.sqlite. A change of them is one more entry, which leads from the version before to the next.

A time is in seconds since 1970 (REAL), but where nanoseconds count (INTEGER). What is asked for by its content is a column;
what is only carried along is JSON.
"""

from __future__ import annotations

from minirt.state.database import Database

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MIGRATIONS", "State"]

MIGRATIONS = (
    # 1: events. `seq` only grows: who follows asks for what is above the last that he saw.
    """
    CREATE TABLE event (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, time INTEGER NOT NULL, type TEXT NOT NULL, action TEXT NOT NULL,
        id TEXT NOT NULL, attributes TEXT NOT NULL
    ) STRICT;
    """,
    # 2: containers. Times are REAL; a name that is not there is NULL, as such are all different; pid and its start time
    # (started_ticks, since boot) name a process together.
    """
    CREATE TABLE container (
        id TEXT PRIMARY KEY, name TEXT UNIQUE, image TEXT NOT NULL, command TEXT NOT NULL, user TEXT NOT NULL DEFAULT '',
        labels TEXT NOT NULL DEFAULT '{}', rm INTEGER NOT NULL DEFAULT 0, step INTEGER NOT NULL DEFAULT 0,
        created REAL NOT NULL, status TEXT NOT NULL, pid INTEGER NOT NULL DEFAULT 0, started_ticks INTEGER NOT NULL DEFAULT 0,
        started REAL, finished REAL, exit_code INTEGER, oom_killed INTEGER NOT NULL DEFAULT 0, error TEXT NOT NULL DEFAULT '',
        restart TEXT NOT NULL DEFAULT 'no', tries INTEGER NOT NULL DEFAULT 0, restarts INTEGER NOT NULL DEFAULT 0,
        health TEXT NOT NULL DEFAULT '', mounts TEXT NOT NULL DEFAULT '[]'
    ) STRICT;
    """,
    # 3: what is known of a container's health beside its status (container.health): the checks that failed in a row, and the last.
    """
    CREATE TABLE health (
        container TEXT PRIMARY KEY REFERENCES container (id) ON DELETE CASCADE, streak INTEGER NOT NULL DEFAULT 0,
        log TEXT NOT NULL DEFAULT '[]'
    ) STRICT;
    """,
)


class State(Database):
    """state.sqlite. Args: look, nothing is going to be changed."""

    def __init__(self, look: bool = False) -> None:
        super().__init__("state.sqlite", MIGRATIONS, look)

    def _migrate(self, migrations: Sequence[str], version: int) -> None:
        super()._migrate(migrations, version)
        if version < 2:
            from minirt.state.adopt import adopt

            adopt(self)
