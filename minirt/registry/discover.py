"""What there is: tags, repositories, referrers (distribution-spec spec.md#content-discovery)."""

from __future__ import annotations

import json

from aiohttp import web

from minirt.image.index import MEDIA_INDEX
from minirt.registry.names import check_digest
from minirt.registry.paging import Page, next_link
from minirt.registry.service import repository_of, service_of, work

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.image.blobs import Descriptor

__all__ = ["routes"]

REFERRERS_LIMIT = 4 << 20  # bytes of descriptors in one answer: clients need not take longer manifests


async def tags(request: web.Request) -> web.Response:
    """List the tags of a repository (end-8a, end-8b)."""
    repository, proxy = repository_of(request), service_of(request).proxy
    if proxy is not None and (answer := await proxy.ask(request, repository, "tags/list")) is not None:
        return answer
    repository.must_exist()
    page = Page(request.query, limit=10_000)
    found, more = page.of(await work(repository.tags.all))
    headers = {"Link": next_link(request.path, found[-1], n=page.size)} if more else {}
    return web.json_response({"name": repository.name, "tags": found}, headers=headers)


async def catalog(request: web.Request) -> web.Response:
    """List the repositories that the client may read (distribution's API, not the specification's)."""
    service = service_of(request)
    names = [name for name in await work(service.registry.names) if service.access.may(request, "pull", name)]
    page = Page(request.query)
    found, more = page.of(names)
    headers = {"Link": next_link(request.path, found[-1], n=page.size)} if more else {}
    return web.json_response({"repositories": found}, headers=headers)


async def referrers(request: web.Request) -> web.Response:
    """List what has a manifest as its subject (end-12a, end-12b). A subject that nobody refers to has an empty list."""
    repository = repository_of(request)
    subject, proxy = check_digest(request.match_info["digest"]), service_of(request).proxy
    if proxy is not None and (answer := await proxy.ask(request, repository, f"referrers/{subject}")) is not None:
        return answer
    wanted = request.query.get("artifactType", "")
    found = [item for item in await work(repository.referrers, subject) if wanted in ("", item.get("artifactType"))]
    page, more = _page(found, request.query.get("last", ""))
    headers = {"OCI-Filters-Applied": "artifactType"} if wanted else {}
    if more:
        query = {"artifactType": wanted} if wanted else {}
        headers["Link"] = next_link(request.path, page[-1]["digest"], **query)
    body = {"schemaVersion": 2, "mediaType": MEDIA_INDEX, "manifests": page}
    return web.Response(body=json.dumps(body).encode(), headers={"Content-Type": MEDIA_INDEX, **headers})


def _page(items: list[Descriptor], last: str) -> tuple[list[Descriptor], bool]:
    """Return the descriptors after one, as many as an answer holds, and whether more follow."""
    rest = sorted((item for item in items if item["digest"] > last), key=lambda item: str(item["digest"]))
    size = 0
    for count, item in enumerate(rest):
        size += len(json.dumps(item))
        if size > REFERRERS_LIMIT and count:
            return rest[:count], True
    return rest, False


def routes() -> list[web.RouteDef]:
    """Return what this file answers."""
    return [
        web.get("/v2/_catalog", catalog),
        web.get("/v2/{name:.+}/tags/list", tags),
        web.get("/v2/{name:.+}/referrers/{digest:[^/]+}", referrers),
    ]
