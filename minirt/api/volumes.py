"""Volumes: made, listed, told of, removed."""

from __future__ import annotations

from minirt.api.errors import ApiError, reading
from minirt.api.router import Created, route

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.api.http import Request


@route("GET", "/volumes")
def list_all(request: Request) -> Any:
    """List them."""
    from minirt.engine.filters import Filters
    from minirt.engine.volume_view import chosen, described

    return {"Volumes": [described(volume) for volume in chosen(Filters(request.filters()))], "Warnings": None}


@route("POST", "/volumes/create")
def create(request: Request) -> Any:
    """Make one, if there is none of this name."""
    from minirt.engine.volume_view import described
    from minirt.engine.volumes import create as make

    body = request.json()
    if body.get("Driver") not in (None, "", "local"):
        raise ApiError(404, f"error looking up volume plugin {body['Driver']}: there is local")
    with reading():
        given = [(body.get(field) or {}).items() for field in ("Labels", "DriverOpts")]
        labels, options = ({str(key): str(value) for key, value in pairs} for pairs in given)
        return Created(described(make(body.get("Name") or "", labels, options)))


@route("POST", "/volumes/prune")
def prune(request: Request) -> Any:
    """Remove those that no container uses: without a name of their own, or all."""
    from minirt.engine.filters import Filters
    from minirt.engine.volume_view import keeper
    from minirt.engine.volumes import prune as sweep

    filters = Filters(request.filters())
    names, freed = sweep(filters.truth("all") is True, keeper(filters))
    return {"VolumesDeleted": names, "SpaceReclaimed": freed}


@route("GET", "/volumes/{name}")
def inspect(request: Request, name: str) -> Any:
    """Tell all about one."""
    from minirt.engine.volume_view import described
    from minirt.volume.store import find

    return described(find(name))


@route("DELETE", "/volumes/{name}")
def remove(request: Request, name: str) -> None:
    """Remove one."""
    from minirt.engine.volumes import remove as drop
    from minirt.volume.store import load

    if load(name) is not None or not request.flag("force"):
        drop(name)
