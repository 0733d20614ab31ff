"""What containers use and run: stats, top; and what is left of those that have ended: prune."""

from __future__ import annotations

import json
import time

from minirt.api.containers import by_name
from minirt.api.router import DONE, route

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.api.http import Request

EVERY = 1.0  # s between two looks


@route("GET", "/containers/{name}/stats")
def stats(request: Request, name: str) -> Any:
    """Tell what one uses: once, or again and again until it ends."""
    from minirt.engine.usage import counters, together

    container = by_name(name)
    if not request.flag("stream", True):
        before = None
        if not request.flag("one-shot") and (before := counters(container)):
            time.sleep(EVERY)
        return together(container, counters(container), before)
    before = None
    with request.stream() as write:
        while not request.gone():
            now = counters(container)
            write(json.dumps(together(container, now, before)).encode() + b"\n")
            if now is None and not container.running:
                break
            before = now
            time.sleep(EVERY)
    return DONE


@route("POST", "/containers/prune")
def prune(request: Request) -> Any:
    """Remove those that have ended, or never began."""
    from minirt.engine.filters import Filters
    from minirt.engine.prune import prune_containers

    ids, freed = prune_containers(Filters(request.filters()))
    return {"ContainersDeleted": ids, "SpaceReclaimed": freed}


@route("GET", "/containers/{name}/top")
def top(request: Request, name: str) -> Any:
    """List one's processes."""
    from minirt.engine.processes import processes

    titles, rows = processes(by_name(name), (request.text("ps_args") or "-ef").split())
    return {"Titles": titles, "Processes": rows}
