"""Containers: made, listed, told of, begun and ended."""

from __future__ import annotations

from signal import SIGKILL

from minirt.api.errors import ApiError
from minirt.api.router import Created, route

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.api.http import Request
    from minirt.engine.container import Container

__all__ = ["by_name"]

UNCHANGED = 304


def by_name(name: str) -> Container:
    """Return a container by name or the beginning of its id. Raises: ApiError."""
    from minirt.engine.container import NoContainer, find
    from minirt.engine.gc import mend

    try:
        container = find(name.removeprefix("/"))
    except NoContainer:
        container = None
    if container is None or not mend(container):
        raise ApiError(404, f"No such container: {name}")
    return container


@route("GET", "/containers/json")
def list_all(request: Request) -> Any:
    """List them."""
    from minirt.engine.container_view import chosen, listed
    from minirt.engine.filters import Filters

    last = request.number("limit")
    found = chosen(Filters(request.filters()), request.flag("all"), last if last and last > 0 else 0)
    return [listed(container, request.flag("size")) for container in found]


@route("POST", "/containers/create")
def create(request: Request) -> Any:
    """Make one."""
    from minirt.api.create import options_of
    from minirt.engine.images import find_image
    from minirt.engine.start import create as make
    from minirt.image.errors import UnknownImage

    options = options_of(request.json(), request.text("name").removeprefix("/"))
    try:
        image = find_image(options.image)
    except UnknownImage:
        raise ApiError(404, f"No such image: {options.image}") from None
    return Created(Id=make(options, image).id, Warnings=[])


@route("POST", "/containers/{name}/start")
def start(request: Request, name: str) -> int | None:
    """Start one; who waits for that is let in."""
    from minirt.api.waiting import starting
    from minirt.engine.start import run_detached
    from minirt.engine.start import start as begin

    container = by_name(name)
    if container.running:
        return UNCHANGED
    with starting(container) as let_in:
        (run_detached if container.state.get("rm") else begin)(container, before=let_in)
    return None


@route("POST", "/containers/{name}/stop")
def stop(request: Request, name: str) -> int | None:
    """End one."""
    from minirt.engine.control import signal_number
    from minirt.engine.control import stop as end

    container, signal = by_name(name), request.text("signal")
    was_running = container.running
    end(container, request.number("t"), signal_number(signal) if signal else None)
    return None if was_running else UNCHANGED


@route("POST", "/containers/{name}/restart")
def restart(request: Request, name: str) -> None:
    """End one, and start it."""
    from minirt.engine.control import restart as again

    again(by_name(name), request.number("t"))


@route("POST", "/containers/{name}/kill")
def kill(request: Request, name: str) -> None:
    """Send one a signal."""
    from minirt.engine.control import kill as send
    from minirt.engine.control import settle, signal_number

    container, number = by_name(name), signal_number(request.text("signal") or "KILL")
    send(container, number)
    if number == SIGKILL:
        settle(container)  # as docker does: it has ended then


@route("POST", "/containers/{name}/pause")
def pause(request: Request, name: str) -> None:
    """Hold one still."""
    from minirt.engine.control import pause as hold

    hold(by_name(name))


@route("POST", "/containers/{name}/unpause")
def unpause(request: Request, name: str) -> None:
    """Let one go on."""
    from minirt.engine.control import unpause as release

    release(by_name(name))


@route("POST", "/containers/{name}/rename")
def rename(request: Request, name: str) -> None:
    """Give one another name."""
    from minirt.engine.control import rename as change

    change(by_name(name), request.text("name").removeprefix("/"))


@route("POST", "/containers/{name}/update")
def update(request: Request, name: str) -> Any:
    """Change one's limits and restart policy."""
    from minirt.api.create import changes_of
    from minirt.engine.update import update as change

    change(by_name(name), changes_of(request.json()))
    return {"Warnings": None}


@route("DELETE", "/containers/{name}")
def remove(request: Request, name: str) -> None:
    """Remove one."""
    from minirt.engine.removal import remove as drop

    drop(by_name(name), request.flag("force"), request.flag("v"))


@route("GET", "/containers/{name}/json")
def inspect(request: Request, name: str) -> Any:
    """Tell all about one."""
    from minirt.engine.inspect import inspect as look

    return look(by_name(name))
