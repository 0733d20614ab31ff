"""Search, as `docker search HOST/TERM` asks for it: /v1/search, all that is left of the first registry's API.

The answer's form is that of github.com/moby/moby/api/types/registry (SearchResults).
"""

from __future__ import annotations

from aiohttp import web

from minirt.registry.describe import summary
from minirt.registry.errors import Refusal
from minirt.registry.service import service_of, work

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.registry.registry import Registry

__all__ = ["find", "routes"]

SIZE = 25  # results where the client does not say how many
LIMIT = 100


def find(registry: Registry, term: str, names: list[str]) -> list[dict[str, Any]]:
    """Return summaries of the repositories, out of some, that have all words of a term in their name or description.

    The best come first: who is called so, who begins so, whose name has it, whose description has it.
    """
    words = term.lower().split()
    found = []
    for name in names:
        about = summary(registry, registry.repository(name))
        text = f"{name} {about['description']}".lower()
        if all(word in text for word in words):
            found.append((_rank(name, words), name, about))
    return [about for _, _, about in sorted(found, key=lambda item: item[:2])]


def _rank(name: str, words: list[str]) -> int:
    last = name.rpartition("/")[2]
    if not words or words[0] in (name, last):
        return 0
    if name.startswith(words[0]) or last.startswith(words[0]):
        return 1
    return 2 if words[0] in name else 3


def visible(request: web.Request) -> list[str]:
    """Return the names of the repositories that the sender of a request may read."""
    service = service_of(request)
    return [name for name in service.registry.names() if service.access.may(request, "pull", name)]


async def search(request: web.Request) -> web.Response:
    """Answer `docker search`."""
    term = request.query.get("q", "")
    size, page = _number(request, "n", SIZE), max(1, _number(request, "page", 1))
    size = min(max(1, size), LIMIT)
    found = await work(lambda: find(service_of(request).registry, term, visible(request)))
    results = [
        {"name": about["name"], "description": about["description"], "star_count": 0, "is_official": False, "is_automated": False}
        for about in found[(page - 1) * size : page * size]
    ]
    pages = -(-len(found) // size)
    return web.json_response(
        {"query": term, "num_results": len(found), "num_pages": pages, "page": page, "page_size": size, "results": results}
    )


def _number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name, "")
    if text and not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Refusal("UNSUPPORTED", f"{name}={text[:40]!r} is not a number", status=400)
    return int(text) if text else default


async def ping(request: web.Request) -> web.Response:
    """Say that the first API is here, as dockerd asks before it searches."""
    return web.json_response(True, headers={"X-Docker-Registry-Standalone": "true"})


def routes() -> list[web.RouteDef]:
    """Return what this file answers."""
    return [web.get("/v1/_ping", ping), web.get("/v1/search", search)]
