"""A container's files: what is at a path, its tar out and in; what has changed; all of it."""

from __future__ import annotations

import base64
import json

from minirt.api.containers import by_name
from minirt.api.errors import ApiError
from minirt.api.router import DONE, route

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from minirt.api.http import Request

KINDS = {"C": 0, "A": 1, "D": 2}


class Body:
    """A body to be read like a file. Args: pieces, of it."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, at most so many; none at the end."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = piece
        if size < 0:
            size = len(self._rest)
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


def stat_header(stat: dict[str, Any]) -> dict[str, str]:
    """Return what is at a path as the header that docker cp reads."""
    return {"X-Docker-Container-Path-Stat": base64.b64encode(json.dumps(stat).encode()).decode("ascii")}


@route("HEAD", "/containers/{name}/archive")
def look(request: Request, name: str) -> Any:
    """Tell what is at a path."""
    from minirt.engine.files.copy import archive_stat

    request.answer(200, headers=stat_header(archive_stat(by_name(name), path_of(request))))
    return DONE


@route("GET", "/containers/{name}/archive")
def get(request: Request, name: str) -> Any:
    """Give what is at a path as a tar."""
    from minirt.engine.files.copy import archive_get

    with (
        archive_get(by_name(name), path_of(request)) as (stat, pieces),
        request.stream("application/x-tar", stat_header(stat)) as write,
    ):  # fmt: skip
        for piece in pieces:
            write(piece)
    return DONE


@route("PUT", "/containers/{name}/archive")
def put(request: Request, name: str) -> int:
    """Unpack a tar into a directory."""
    from minirt.engine.files.copy import archive_put

    archive_put(
        by_name(name), path_of(request), Body(request.pieces()), keep_kinds=request.flag("noOverwriteDirNonDir"),
        keep_owners=request.flag("copyUIDGID"),
    )  # fmt: skip
    return 200


def path_of(request: Request) -> str:
    """Return the path that is meant. Raises: ApiError."""
    path = request.text("path")
    if not path:
        raise ApiError(400, "no path is named: path is missing")
    return path


@route("GET", "/containers/{name}/changes")
def changes(request: Request, name: str) -> Any:
    """Tell what was added, changed and deleted."""
    from minirt.engine.changes import changes as look

    return [{"Path": path, "Kind": KINDS[kind]} for kind, path in look(by_name(name))]


@route("GET", "/containers/{name}/export")
def export(request: Request, name: str) -> Any:
    """Give all files as a tar."""
    from minirt.engine.changes import files

    container = by_name(name)
    with request.stream("application/x-tar") as write:
        for piece in files(container):
            write(piece)
    return DONE
