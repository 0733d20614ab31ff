"""The server: an aiohttp application, its gate and its answers when something is wrong.

aiohttp was chosen among the well-kept servers: it streams bodies in either direction with back pressure, it lets the
kernel send files (asyncio's loop.sendfile), which no ASGI server does, and it has routes, conditions, ranges, TLS and a
client, all of which a registry needs. Measured beside h11 on asyncio, which has only the protocol: 0.6 of the processor
time for a small request, as its parser is C; 1.4 times for a byte of an upload. bench/registry.py compares with docker-registry.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import sys

from aiohttp import web

from minirt.errors import MinirtError
from minirt.registry import discover, manage, pages, pull, push, push_manifest, search
from minirt.registry.errors import Refusal
from minirt.registry.idle import Idle
from minirt.registry.service import SERVICE, service_of
from minirt.registry.workers import BACKLOG

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Awaitable, Callable

    from minirt.registry.service import Service

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

__all__ = ["application", "serve"]

LOG = logging.getLogger("minirt.registry")
_FULL = (errno.ENOSPC, errno.EDQUOT)


def application(service: Service, idle: Idle | None = None) -> web.Application:
    """Return the application: what each URL does. The order counts where two patterns match the same path."""
    middlewares = [*([idle.note] if idle else []), _answer_errors, _gate]
    app = web.Application(middlewares=middlewares, client_max_size=1 << 20)  # of forms; bodies are streamed
    app[SERVICE] = service
    for module in (push, push_manifest, pull, discover, manage, search, pages):
        app.add_routes(module.routes())
    app.add_routes(service.access.routes())
    app.on_response_prepare.append(_name_the_api)
    return app


async def _name_the_api(request: web.Request, response: web.StreamResponse) -> None:
    if request.path.startswith("/v2"):
        response.headers["Docker-Distribution-API-Version"] = "registry/2.0"


@web.middleware
async def _gate(request: web.Request, handler: Handler) -> web.StreamResponse:
    await service_of(request).access.enter(request)
    return await handler(request)


@web.middleware
async def _answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn what is raised into the specification's JSON. A connection whose request was not read to its end is closed."""
    try:
        return await handler(request)
    except Refusal as error:
        answer = error
    except web.HTTPNotFound:
        answer = Refusal("NAME_UNKNOWN" if request.path.startswith("/v2/") else "UNSUPPORTED", "no such page", status=404)
    except web.HTTPMethodNotAllowed as error:
        answer = Refusal("UNSUPPORTED", f"{request.method} does nothing here", headers={"Allow": error.headers["Allow"]})
    except web.HTTPException:
        raise
    except OSError as error:
        if isinstance(error, ConnectionError):
            raise
        answer = Refusal("UNKNOWN", f"{error.strerror}", status=507 if error.errno in _FULL else 500)
        LOG.error("%s %s: %s", request.method, request.path, error)
    except MinirtError as error:
        answer = Refusal("UNKNOWN", str(error))
        LOG.error("%s %s: %s", request.method, request.path, error)
    response = web.json_response(answer.document(), status=answer.status, headers=answer.headers)
    if not request.content.is_eof():
        response.force_close()
    return response


async def serve(
    service: Service,
    listener: socket.socket,
    *,
    tls: ssl.SSLContext | None = None,
    access_log: logging.Logger | None = None,
    parent: int = -1,
    limit: float = 0,
) -> None:
    """Serve until SIGTERM or SIGINT comes; then answer what has begun, for ten seconds at most.

    Args: listener, a socket that listens, which other processes may share; tls, for HTTPS; access_log, for a line a
    request; parent, a descriptor that has no more to read once the process is gone with which this one is to die; limit,
    seconds after which a connection that nobody moves is ended, 0 for never.
    """
    # A thread that has written a piece of an upload waits for the interpreter's lock, by default up to 5 ms while the
    # loop is busy: more than the writing took.
    sys.setswitchinterval(0.0005)
    _take_descriptors()
    if parent >= 0:
        asyncio.get_running_loop().add_reader(parent, os._exit, 1)
    idle = Idle(limit) if limit else None
    runner = web.AppRunner(application(service, idle), access_log=access_log, read_bufsize=1 << 20, shutdown_timeout=10)
    await runner.setup()
    try:
        # asyncio accepts as many connections at once as its backlog says: few, so that the other processes get theirs.
        await web.SockSite(runner, listener, ssl_context=tls, backlog=4).start()
        listener.listen(BACKLOG)
        if idle is not None and runner.server is not None:
            idle.begin(runner.server)
        await _until_told()
    finally:
        if service.proxy is not None:
            await service.proxy.close()
        await runner.cleanup()


def _take_descriptors() -> None:
    """Let this process have as many descriptors as it may: a connection is one, and each that is idle keeps another out."""
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _until_told() -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()
