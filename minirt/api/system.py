"""The server itself: ping, version, info."""

from __future__ import annotations

import os
import platform

from minirt import __version__
from minirt.api.router import DONE, NEWEST, OLDEST, route

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.api.http import Request

NAME = f"minirt/{__version__} (linux)"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


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
