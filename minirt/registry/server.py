"""The server: an aiohttp application, its gate and its answers when something is wrong.

aiohttp was chosen among the well-kept servers for what a registry does most: its parser is C, it streams bodies in
either direction with back pressure, and it lets the kernel send files (asyncio's loop.sendfile), which no ASGI server
does. h11, which is Python, took twice the time for each request. bench/registry.py compares with docker-registry.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import signal

from aiohttp import web

from minirt.errors import MinirtError
from minirt.registry import discover, manage, pages, pull, push, push_manifest, search
from minirt.registry.errors import Refusal, ServeError
from minirt.registry.service import SERVICE, service_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    from minirt.registry.service import Service

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

__all__ = ["application", "serve"]

LOG = logging.getLogger("minirt.registry")
_FULL = (errno.ENOSPC, errno.EDQUOT)


def application(service: Service) -> web.Application:
    """Return the application: what each URL does. The order counts where two patterns match the same path."""
    app = web.Application(middlewares=[_answer_errors, _gate], client_max_size=1 << 20)  # of forms; bodies are streamed
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
    host: str,
    port: int,
    *,
    tls: ssl.SSLContext | None = None,
    access_log: logging.Logger | None = None,
    ready: Callable[[str, int], None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT comes; then answer what has begun, for ten seconds at most.

    Args: host, an address or a name; port, 0 for any that is free; tls, for HTTPS; access_log, for a line a request;
    ready, called with the address and port once clients may connect.
    Raises ServeError.
    """
    runner = web.AppRunner(application(service), access_log=access_log, read_bufsize=1 << 20, shutdown_timeout=10)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, ssl_context=tls, backlog=1024)
        await site.start()
        if ready is not None:
            ready(*runner.addresses[0][:2])
        await _until_told()
    except OSError as error:
        raise ServeError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
    finally:
        if service.proxy is not None:
            await service.proxy.close()
        await runner.cleanup()


async def _until_told() -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()
