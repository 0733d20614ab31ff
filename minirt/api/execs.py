"""exec: one more process in a container, made by one request, begun by the next."""

from __future__ import annotations

from contextlib import closing

from minirt.api.containers import by_name
from minirt.api.errors import ApiError, message_of, reading
from minirt.api.router import DONE, Created, route
from minirt.errors import MinirtError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.api.http import Request
    from minirt.engine.execs import Exec


def by_id(id: str) -> Exec:
    """Return one by its id. Raises: ApiError."""
    from minirt.engine.container import NoContainer
    from minirt.engine.execs import find

    try:
        return find(id)
    except NoContainer:
        raise ApiError(404, f"No such exec instance: {id}") from None


@route("POST", "/containers/{name}/exec")
def create(request: Request, name: str) -> Any:
    """Make one."""
    from minirt.api.create import checked
    from minirt.engine.execs import create as make
    from minirt.engine.inspect import status_of
    from minirt.engine.options import RunOptions

    container, body = by_name(name), request.json()
    command = body.get("Cmd") or []
    if not command or not all(isinstance(word, str) for word in command):
        raise ApiError(400, "No exec command specified")
    if status_of(container) == "paused":
        raise ApiError(409, f"Container {name} is paused, unpause the container before exec")
    with reading():
        options = checked(RunOptions(
            str(container.state.get("image")), command, user=body.get("User") or "", workdir=body.get("WorkingDir") or "",
            env=[item for item in body.get("Env") or () if "=" in item], tty=bool(body.get("Tty")),
            interactive=bool(body.get("AttachStdin")), privileged=bool(body.get("Privileged")),
            detach_keys=body.get("DetachKeys") or "",
        ))  # fmt: skip
    return Created(Id=make(container, options).id)


@route("POST", "/exec/{id}/start")
def start(request: Request, id: str) -> Any:
    """Begin it, and be at its streams unless it is to be detached."""
    import socket

    from minirt.api.create import size_of
    from minirt.api.pump import Pump, farewell
    from minirt.engine import monitor
    from minirt.engine.exec_start import start as begin
    from minirt.terminal.detach_keys import parse_detach_keys

    exec, body = by_id(id), request.json()
    options = exec.options
    if exec.begun:
        raise ApiError(409, f"exec {id} was started already")
    if not exec.container.running:
        raise ApiError(409, f"container {exec.container.id} is not running")
    if body.get("Detach"):
        begin(exec, lambda: None)
        return 200
    clients: list[socket.socket] = []
    client = request.hijack(request.stream_kind(options.tty))
    try:
        begin(exec, lambda: clients.append(monitor.connect(f"{exec.path}/attach")), size_of(body))
        with closing(clients[0]) as connection:
            keys = parse_detach_keys(options.detach_keys or "ctrl-p,ctrl-q") if options.tty else b""
            Pump(client, connection, tty=options.tty, stdin=options.interactive, streams={1, 2}, keys=keys).run()
    except MinirtError as error:  # docker says it in the stream, where the program's own words would be
        text = f"minirt exec failed: {message_of(error)}\r\n".encode()
        request.connection.write(text if options.tty else monitor.frame(monitor.ERROR, text))
    farewell(client[0])
    return DONE


@route("POST", "/exec/{id}/resize")
def resize(request: Request, id: str) -> int:
    """Give its terminal a size."""
    from minirt.engine.attach import resize as change

    exec = by_id(id)
    change(exec.path, request.number("h") or 0, request.number("w") or 0)
    return 200


@route("GET", "/exec/{id}/json")
def inspect(request: Request, id: str) -> Any:
    """Tell all about it."""
    exec = by_id(id)
    options = exec.options
    return {
        "ID": exec.id,
        "Running": bool(exec.process),
        "ExitCode": exec.exit_code,
        "ProcessConfig": {
            "entrypoint": options.command[0], "arguments": options.command[1:], "tty": options.tty,
            "privileged": options.privileged, "user": options.user,
        },
        "OpenStdin": options.interactive,
        "OpenStdout": True,
        "OpenStderr": True,
        "CanRemove": exec.exit_code is not None,
        "ContainerID": exec.container.id,
        "DetachKeys": options.detach_keys,
        "Pid": exec.process,
    }  # fmt: skip
