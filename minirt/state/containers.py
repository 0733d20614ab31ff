"""The rows of containers, each as a dict: what `Container.state` has (minirt.engine.container).

    id, name, image, command, user, labels        what it is; name is "" for none
    created, started, finished                    seconds since 1970
    status                                        creating, created, running, restarting, exited, removing
    pid, started_ticks                            its first process, by number and start time
    exit_code, oom_killed, error                  how it ended; exit_code is None where nobody saw it
    rm, step                                      it goes at its end; it is a step of a build
    mounts                                        its volumes and directories (minirt.engine.volumes)
    restart, tries, restarts                      --restart; how often in a row, how often since it was started
    health                                        "", starting, healthy, unhealthy
"""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from typing import Any

    from minirt.state.database import Database

__all__ = ["add", "beginning", "change", "everything", "forget", "named", "one"]

JSON = ("command", "labels", "mounts")
TRUTH = ("rm", "step", "oom_killed")


def add(base: Database, state: dict[str, Any]) -> None:
    """Add a row. Raises: sqlite3.IntegrityError where another has the name."""
    row = _row(state)
    base.execute(f"INSERT INTO container ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", tuple(row.values()))


def change(base: Database, id: str, changes: dict[str, Any]) -> None:
    """Change some of a row. Raises: sqlite3.IntegrityError where another has the name."""
    row = _row(changes)
    base.execute(f"UPDATE container SET {', '.join(f'{name} = ?' for name in row)} WHERE id = ?", (*row.values(), id))


def forget(base: Database, id: str) -> bool:
    """Remove a row. Returns whether there was one."""
    return bool(base.execute("DELETE FROM container WHERE id = ?", (id,)).rowcount)


def one(base: Database, id: str, removing: bool = False) -> dict[str, Any] | None:
    """Return the row with this id, None where there is none. Args: removing, also of a container that is being removed."""
    return _first(base.execute(f"SELECT * FROM container WHERE id = ? AND {_which(removing)}", (id,)))


def named(base: Database, name: str) -> dict[str, Any] | None:
    """Return the row with this name, None where there is none."""
    return _first(base.execute("SELECT * FROM container WHERE name = ?", (name,)))


def beginning(base: Database, text: str) -> list[dict[str, Any]]:
    """Return the rows whose id begins so."""
    found = base.execute(f"SELECT * FROM container WHERE substr(id, 1, ?) = ? AND {_which(False)}", (len(text), text))
    return [_state(row) for row in found]


def everything(base: Database, removing: bool = False) -> list[dict[str, Any]]:
    """Return all rows, the oldest first. Args: removing, also of containers that are being removed."""
    return [_state(row) for row in base.execute(f"SELECT * FROM container WHERE {_which(removing)} ORDER BY created, id")]


def _which(removing: bool) -> str:
    return "TRUE" if removing else "status <> 'removing'"


def _first(cursor: sqlite3.Cursor) -> dict[str, Any] | None:
    row = cursor.fetchone()
    return None if row is None else _state(row)


def _row(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state, or some of it, as SQLite has it."""
    row = {name: json.dumps(value) if name in JSON else value for name, value in state.items()}
    if "name" in row:
        row["name"] = row["name"] or None
    return row


def _state(row: sqlite3.Row) -> dict[str, Any]:
    state = dict(row)
    state["name"] = state["name"] or ""
    for name in JSON:
        state[name] = json.loads(state[name])
    for name in TRUTH:
        state[name] = bool(state[name])
    return state
