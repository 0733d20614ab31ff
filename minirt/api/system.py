"""The server itself: ping, version, info."""

from __future__ import annotations

import json
import os
import platform

from minirt import __version__
from minirt.api.errors import ApiError
from minirt.api.router import DONE, NEWEST, OLDEST, route

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.api.http import Request

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
NAME = f"minirt/{__version__} (linux)"


def dotted(version: tuple[int, int]) -> str:
    """Return a version of the API as text."""
    return ".".join(map(str, version))


def headers() -> dict[str, str]:
    """Return what every answer says of the server."""
    return {"Api-Version": dotted(NEWEST), "Docker-Experimental": "false", "Ostype": "linux", "Server": NAME}


@route("GET", "/_ping")
@route("HEAD", "/_ping")
def ping(request: Request) -> Any:
    """Say that the server is there, and what it speaks."""
    never = {"Cache-Control": "no-cache, no-store, must-revalidate", "Pragma": "no-cache"}
    request.answer(200, b"OK", "text/plain; charset=utf-8", {"Builder-Version": "1", "Swarm": "inactive", **never})
    return DONE


@route("GET", "/version")
def version(request: Request) -> Any:
    """Tell versions."""
    uname = os.uname()
    own = {
        "ApiVersion": dotted(NEWEST), "MinAPIVersion": dotted(OLDEST), "Os": "linux", "KernelVersion": uname.release,
        "Arch": ARCHITECTURES.get(uname.machine, uname.machine), "GitCommit": "",
        "GoVersion": f"Python {platform.python_version()}", "BuildTime": "",
    }  # fmt: skip
    engine = {"Name": "Engine", "Version": __version__, "Details": {**own, "Experimental": "false"}}
    return {"Platform": {"Name": "minirt"}, "Version": __version__, "Components": [engine], **own}


@route("GET", "/info")
def info(request: Request) -> Any:
    """Tell of the engine and its host."""
    from minirt.engine.host_info import info as look

    return look()


@route("GET", "/system/df")
def disk_usage(request: Request) -> Any:
    """Tell what everything takes on the disk."""
    from minirt.engine.disk import Disk
    from minirt.engine.disk_view import described

    return described(Disk(), set(request.query.get("type", [])))


@route("POST", "/auth")
def auth(request: Request) -> Any:
    """Try a name and a password at a registry; the client keeps them."""
    from minirt.api.images import trusted
    from minirt.image.remote.credentials import Credentials
    from minirt.image.remote.errors import Denied
    from minirt.image.remote.login import check

    body = request.json()
    host = str(body.get("serveraddress") or "docker.io")
    host = host.partition("://")[2].partition("/")[0] if "://" in host else host.partition("/")[0]
    host = "docker.io" if host == "index.docker.io" else host
    try:
        check(host, Credentials(body.get("username") or "", body.get("password") or ""), verify=trusted(f"{host}/x"))
    except Denied as error:
        raise ApiError(401, str(error)) from None
    return {"Status": "Login Succeeded", "IdentityToken": ""}


@route("POST", "/session")
def session(request: Request) -> Any:
    """Refuse BuildKit's sessions: a client goes on with the classic builder, or says what is missing."""
    raise ApiError(501, "not implemented: sessions, which are BuildKit's: set DOCKER_BUILDKIT=0")


@route("GET", "/plugins")
def plugins(request: Request) -> Any:
    """List plugins: there are none."""
    return []


@route("GET", "/events")
def events(request: Request) -> Any:
    """Tell what happens."""
    from minirt.engine.events import events as look
    from minirt.engine.filters import Filters

    since, until = (second(request, name) for name in ("since", "until"))
    found = look(since, until, Filters(request.filters()), wanted=lambda: not request.gone())
    with request.stream() as write:
        for event in found:
            write(json.dumps(event.as_dict()).encode() + b"\n")
    return DONE


def second(request: Request, name: str) -> float | None:
    """Return a moment of the query, in s since 1970."""
    from minirt.engine.moments import seconds

    text = request.text(name)
    return seconds(text) if text else None
