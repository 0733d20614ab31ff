"""Which function answers a request: `@route("GET", "/containers/{name}/json")` stands above it.

A function gets the request and what the path names, and returns what is answered as JSON with 200; None is 204; or a
number, which is a status without a body. One that has answered by itself (a stream) returns `DONE`.
"""

from __future__ import annotations

import re

from minirt.api.errors import ApiError, message_of, status_of
from minirt.api.http import Gone
from minirt.errors import MinirtError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minirt.api.http import Request

    Handler = Callable[..., Any]

__all__ = ["DONE", "NEWEST", "OLDEST", "Created", "answer", "route"]

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


def answer(request: Request) -> None:
    """Answer one request, also where something goes wrong. Raises: Gone."""
    from minirt.api import routes

    request.extra = routes.headers()
    try:
        handler, parts = find(request)
        value = handler(request, **parts)
        if value is None:
            request.answer(204)
        elif isinstance(value, int):
            request.answer(value)
        elif value is not DONE:
            request.answer(201 if isinstance(value, Created) else 200, value)
    except Gone:
        raise
    except MinirtError as error:
        refuse(request, status_of(error), message_of(error))
    except Exception as error:
        refuse(request, 500, f"{type(error).__name__}: {error}")
        raise


def refuse(request: Request, status: int, message: str) -> None:
    """Answer with an error. Raises: Gone where an answer has begun: then breaking off is all that is left."""
    if request.answered:
        raise Gone(message)
    request.answer(status, {"message": message.replace("\n", " ")})


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
