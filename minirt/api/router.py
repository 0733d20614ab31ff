"""Which function answers a request: `@route("GET", "/containers/{name}/json")` stands above it.

A function gets the request and what the path names, and returns what is answered as JSON with 200; None is 204; or a
number, which is a status without a body. One that has answered by itself (a stream) returns `DONE`.
"""

from __future__ import annotations

import re

from minirt.api.errors import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minirt.api.http import Request

    Handler = Callable[..., Any]

__all__ = ["DONE", "NEWEST", "OLDEST", "Created", "find", "route"]

OLDEST, NEWEST = (1, 40), (1, 50)  # versions of the API
DONE = object()
ROUTES: list[tuple[str, re.Pattern[str], Handler]] = []
VERSION = re.compile(r"/v(\d{1,4})\.(\d{1,4})(/.*)")


class Created(dict[str, object]):
    """What is answered with 201."""


def route(method: str, pattern: str) -> Callable[[Handler], Handler]:
    """Note that the function below answers these requests.

    Args: method; pattern, of the path without its version: `{name}` is one part of it, `{name...}` any number.
    """
    expression = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", re.sub(r"\{(\w+)\.\.\.\}", r"(?P<\1>.+)", pattern))

    def note(function: Handler) -> Handler:
        ROUTES.append((method, re.compile(expression), function))
        return function

    return note


def find(request: Request) -> tuple[Handler, dict[str, str]]:
    """Return who answers, and with what parts of the path. Raises: ApiError."""
    path = request.path
    if "\0" in path or any("\0" in value for values in request.query.values() for value in values):
        raise ApiError(400, "a NUL is no part of a name or a path")
    if match := VERSION.fullmatch(path):
        request.version = int(match[1]), int(match[2])
        path = match[3]
        check_version(request.version)
    others = set()
    for method, pattern, handler in ROUTES:
        if match := pattern.fullmatch(path):
            if method == request.method:
                return handler, match.groupdict()
            others.add(method)
    if others:
        raise ApiError(405, f"{path}: there is {' and '.join(sorted(others))} for it")
    raise ApiError(404, "page not found")


def check_version(version: tuple[int, int]) -> None:
    """Refuse a version of the API that is not spoken here. Raises: ApiError."""
    text = ".".join(map(str, version))
    if version < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise ApiError(400, f"client version {text} is too old. Minimum supported API version is {oldest}: take a newer client")
    if version > NEWEST:
        newest = ".".join(map(str, NEWEST))
        raise ApiError(400, f"client version {text} is too new. Maximum supported API version is {newest}")
