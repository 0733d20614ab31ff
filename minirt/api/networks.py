"""Networks: made, listed, told of, removed; containers connected to them."""

from __future__ import annotations

from minirt.api.containers import by_name
from minirt.api.errors import reading
from minirt.api.router import Created, route

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.api.http import Request


@route("GET", "/networks")
def list_all(request: Request) -> Any:
    """List them."""
    from minirt.engine.networks import listed

    return listed(request.filters())


@route("POST", "/networks/create")
def create(request: Request) -> Any:
    """Make one."""
    from minirt.engine.networks import create as make

    body = request.json()
    with reading():
        return Created(Id=make(body)["Id"], Warning="")


@route("POST", "/networks/prune")
def prune(request: Request) -> Any:
    """Remove those that nobody is in."""
    from minirt.engine.networks import prune as sweep

    return {"NetworksDeleted": sweep(request.filters())}


@route("GET", "/networks/{name}")
def inspect(request: Request, name: str) -> Any:
    """Tell all about one."""
    from minirt.engine.networks import inspect as look

    return look(name)


@route("DELETE", "/networks/{name}")
def remove(request: Request, name: str) -> None:
    """Remove one."""
    from minirt.engine.networks import remove as drop

    drop(name)


@route("POST", "/networks/{name}/connect")
def connect(request: Request, name: str) -> int:
    """Connect a container to one."""
    from minirt.engine.networks import connect as lead
    from minirt.network.connect import Attachment

    body = request.json()
    with reading():
        end = body.get("EndpointConfig") or {}
        ipam = end.get("IPAMConfig") or {}
        wanted = Attachment(name, list(end.get("Aliases") or ()), ipam.get("IPv4Address") or "", ipam.get("IPv6Address") or "",
                            end.get("MacAddress") or "")  # fmt: skip
    lead(name, by_name(str(body.get("Container") or "")), wanted)
    return 200


@route("POST", "/networks/{name}/disconnect")
def disconnect(request: Request, name: str) -> int:
    """Take a container out of one."""
    from minirt.engine.networks import disconnect as out
    from minirt.network.store import NoNetwork

    body = request.json()
    try:
        out(name, by_name(str(body.get("Container") or "")))
    except NoNetwork:
        if not body.get("Force"):
            raise
    return 200
