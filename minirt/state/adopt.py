"""Containers from before there was a database: what their state.json said becomes their rows, once."""

from __future__ import annotations

import json
import os

from minirt.paths import data_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.state.database import Database

__all__ = ["adopt"]

COLUMNS = (
    "id", "name", "image", "command", "user", "rm", "step", "created", "status", "pid", "started_ticks", "started", "finished",
    "exit_code", "oom_killed", "error", "tries", "restarts", "mounts",
)  # fmt: skip


def adopt(base: Database) -> None:
    """Add a row for each whole directory that has a state.json; the file stays where it is. Two that do so at once do it once."""
    from minirt.state.containers import add, named, one

    above = os.path.join(data_root(), "containers")
    base.execute("BEGIN IMMEDIATE")
    for id in sorted(os.listdir(above)) if os.path.isdir(above) else ():
        try:
            with open(os.path.join(above, id, "state.json"), encoding="utf-8") as file:
                found = json.load(file)
            state = {name: found[name] for name in COLUMNS if found.get(name) is not None}
            if state["id"] == id and one(base, id, removing=True) is None:
                if state.get("name") and named(base, state["name"]):
                    state["name"] = ""
                add(base, state)
        except (OSError, ValueError, KeyError, TypeError):
            continue  # half made, or no container of ours
    base.execute("COMMIT")
