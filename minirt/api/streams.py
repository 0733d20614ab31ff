"""What goes on for as long as a container does: attach, logs, wait."""

from __future__ import annotations

import json
import os
import time

from minirt.api.containers import by_name
from minirt.api.errors import ApiError
from minirt.api.router import DONE, route
from minirt.engine.container import UNSEEN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minirt.api.http import Request
    from minirt.api.waiting import Waiter
    from minirt.engine.container import Container

CONDITIONS = ("not-running", "next-exit", "removed")
LOOK = 0.2  # s between two looks whether the client is still there
STREAMS = {"stdout": 1, "stderr": 2}


@route("POST", "/containers/{name}/attach")
def attach(request: Request, name: str) -> Any:
    """Be at one's streams or terminal, from its start on where it has not begun."""
    from minirt.api.pump import Pump, farewell
    from minirt.api.waiting import connected
    from minirt.engine.asked import load_options
    from minirt.engine.inspect import is_ending, status_of
    from minirt.terminal.detach_keys import parse_detach_keys

    container = by_name(name)
    options = load_options(container)
    if (status := status_of(container)) in ("paused", "restarting"):
        raise ApiError(409, f"Container {name} is {status}, wait until it runs")
    keys = parse_detach_keys(request.text("detachKeys") or options.detach_keys) if options.tty else b""
    streams = {number for name, number in STREAMS.items() if request.flag(name)}
    with connected(container) as waiter:
        client = request.hijack(request.stream_kind(options.tty))
        if request.flag("logs"):
            for line in log_lines(container, streams, options.tty):
                request.connection.write(line)
        wanted = request.flag("stream") and not is_ending(container)
        monitor = waiter.wait(request.gone) if wanted else None
        if monitor is not None:
            stdin = request.flag("stdin") and options.interactive
            Pump(client, monitor, tty=options.tty, stdin=stdin, streams=streams, keys=keys).run()
    farewell(client[0])
    return DONE


def log_lines(container: Container, streams: set[int], tty: bool, **which: Any) -> Any:
    """Yield what a container wrote, as the stream has it; which: as `logs.lines`, and whether with `timestamps` and `more`."""
    from minirt.engine.logs import details, lines
    from minirt.engine.monitor import frame

    timestamps, more = which.pop("timestamps", False), f"{details(container)} " if which.pop("more", False) else ""
    for line in lines(container, **which):
        number = STREAMS[line.stream]
        if number in streams:
            data = (f"{line.time} {more}{line.text}" if timestamps else more + line.text).encode()
            yield data if tty else frame(number, data)


@route("POST", "/containers/{name}/resize")
def resize(request: Request, name: str) -> int:
    """Give one's terminal a size."""
    from minirt.engine.attach import resize as change

    change(by_name(name).path, request.number("h") or 0, request.number("w") or 0)
    return 200


@route("GET", "/containers/{name}/logs")
def logs(request: Request, name: str) -> Any:
    """Tell what one wrote, and what it writes."""
    from minirt.engine.asked import load_options
    from minirt.engine.logs import check_kept
    from minirt.engine.moments import moment

    container = by_name(name)
    streams = {number for name, number in STREAMS.items() if request.flag(name)}
    if not streams:
        raise ApiError(400, "Bad parameters: you must choose at least one stream")
    tty = load_options(container).tty
    tail = request.number("tail") if request.text("tail", "all") != "all" else None
    since, until = (moment(text if (text := request.text(name)) != "0" else "") for name in ("since", "until"))
    check_kept(container)  # while there is a status to be given
    with request.stream(request.stream_kind(tty)) as write:
        for data in log_lines(
            container, streams, tty, timestamps=request.flag("timestamps"), tail=tail if tail is None or tail >= 0 else None,
            more=request.flag("details"), since=since, until=until, follow=request.flag("follow"),
            wanted=lambda: not request.gone(),
        ):  # fmt: skip
            write(data)
    return DONE


@route("POST", "/containers/{name}/wait")
def wait(request: Request, name: str) -> Any:
    """Tell how one ends. The head goes first: the client starts the container when it has that."""
    from minirt.api.waiting import connected
    from minirt.engine.control import settle
    from minirt.engine.inspect import is_ending

    condition = request.text("condition") or CONDITIONS[0]
    if condition not in CONDITIONS:
        raise ApiError(400, f"invalid condition: {condition!r}: there are {', '.join(CONDITIONS)}")
    container = by_name(name)
    with connected(container) as waiter, request.stream() as write:
        if is_ending(container):
            settle(container)
        code, problem = as_written_down(container)
        if condition != CONDITIONS[0] or container.running or container.state.get("status") == "restarting":
            code, problem = how_it_ends(container, waiter, request.gone)
        while condition == "removed" and os.path.isdir(container.path) and not request.gone():
            time.sleep(LOOK)
        write(json.dumps({"StatusCode": code, **({"Error": {"Message": problem}} if problem else {})}).encode() + b"\n")
    return DONE


def how_it_ends(container: Container, waiter: Waiter, gone: Callable[[], bool]) -> tuple[int, str]:
    """Wait for a container's end, and until all is tidied up; return its exit code, and what was wrong if that is not known."""
    from minirt.engine.attach import status_alone
    from minirt.engine.control import settle
    from minirt.engine.exits import exit_code
    from minirt.engine.gc import mend

    monitor = waiter.wait(gone)
    status = status_alone(monitor, lambda: not gone()) if monitor is not None else None
    if gone() or (monitor is None and not os.path.isdir(container.path)) or (status is None and waiter.start_failed()):
        return 0, ""  # nobody waits any more, or it was removed before it began, or could not begin
    while status is None and container.running and not gone():  # its monitor was killed, and it was not
        time.sleep(LOOK)
    settle(container)
    mend(container)
    if status is not None:
        return exit_code(status), ""
    return as_written_down(container)  # its monitor had no time for us any more


def as_written_down(container: Container) -> tuple[int, str]:
    """Return the exit code that is known, and what was wrong if nobody saw it."""
    unseen = container.state.get("exit_code") is None and container.exit_code == UNSEEN
    return container.exit_code, "the container's monitor was killed, and nobody saw how it ended" if unseen else ""
