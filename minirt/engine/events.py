"""What has happened, as people and the Engine API ask for it: since when, until when, which, and as it happens.

    note it            where it happens: Container.save and tell, minirt.state.events.tell
    events             read the table, then look again whenever somebody has committed to the database

No daemon passes events on. Who follows looks at the size and time of SQLite's journal some times a second, which is one stat(2),
and reads only when that has changed. Now and then it also looks at the containers that run: one whose monitor was killed tells
nobody of its end, so who sees that first writes it down (minirt.engine.gc.mend).
"""

from __future__ import annotations

import os
import time

from minirt.engine.filters import Filters
from minirt.paths import data_root
from minirt.state.events import Event, events_after, last_event
from minirt.state.schema import State

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["KEYS", "events", "wanted_by"]

KEYS = ("type", "event", "container", "image", "network", "volume", "label", "scope", "daemon")  # of --filter
LOOK = 0.05  # s between two looks at the journal
MEND = 1.0  # s between two looks for ends that nobody has seen


def events(
    since: float | None = None, until: float | None = None, filters: Filters | None = None,
    wanted: Callable[[], bool] = lambda: True,
) -> Iterator[Event]:  # fmt: skip
    """Yield events, the oldest first.

    Args:
        since: s since 1970: those from then on that are still known; None: only what comes.
        until: s since 1970: none after that, and the end when it has come; None: no end.
        filters: which (KEYS).
        wanted: asked meanwhile whether anybody is still there to read them.

    Raises: UsageError for a filter that is none, StateError.
    """
    filters = filters or Filters([])
    filters.only(*KEYS)
    with State(look=True) as base:
        seen = last_event(base) if since is None else 0
    mended = 0.0
    before: tuple[int, ...] = ()
    while wanted():
        over = until is not None and time.time() >= until  # asked before: what came until then is read now
        now = _journal()
        if now != before:
            before = now
            with State(look=True) as base:
                found = list(events_after(base, seen))
            for event in found:
                seen = event.seq
                moment = event.time / 1e9
                if (since is None or moment >= since) and (until is None or moment < until) and wanted_by(filters, event):
                    yield event
        if over:
            return
        if time.monotonic() - mended > MEND:
            _see_ends()
            mended = time.monotonic()
        time.sleep(LOOK if until is None else max(0.0, min(LOOK, until - time.time())))


def wanted_by(filters: Filters, event: Event) -> bool:
    """Say whether filters choose an event, by docker's rules."""
    attributes = event.attributes

    def about(kind: str) -> bool:
        """Of this kind, and its id begins so, or its name is that; an image also by its name without a tag."""
        names = {event.id, attributes.get("name", "")} if event.type == kind else {attributes.get(kind, "")}
        if kind == "image":
            names |= {name.rpartition(":")[0] for name in names if ":" in name.rpartition("/")[2]}
        return not filters.of(kind) or any(
            value in names or (event.type == kind and event.id.startswith(value)) for value in filters.of(kind) if value
        )

    return (
        filters.equal("type", event.type)
        and filters.equal("scope", "local")
        and (filters.equal("event", event.action) or filters.equal("event", event.action.partition(":")[0]))
        and all(about(kind) for kind in ("container", "image", "network", "volume"))
        and filters.has_labels(attributes)
    )


def _journal() -> tuple[int, ...]:
    """Return what changes when somebody has committed."""
    try:
        status = os.stat(os.path.join(data_root(), "state.sqlite-wal"))
    except FileNotFoundError:
        return (0,)
    return (status.st_ino, status.st_size, status.st_mtime_ns)


def _see_ends() -> None:
    """Write down the ends of containers whose monitor is gone."""
    from minirt.engine.container import containers
    from minirt.engine.gc import mend

    for container in containers():
        if container.state["status"] == "running" and not container.running:
            mend(container)
