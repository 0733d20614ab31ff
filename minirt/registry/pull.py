"""Blobs and manifests to those who ask (distribution-spec spec.md#pull). HEAD is GET without the body."""

from __future__ import annotations

import re

from aiohttp import web

from minirt.image.digest import is_digest
from minirt.image.index import IMAGES, INDEXES
from minirt.registry.errors import Refusal
from minirt.registry.names import check_digest
from minirt.registry.sendfile import ContentResponse
from minirt.registry.service import repository_of, service_of, work

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.image.blobs import Descriptor
    from minirt.registry.repository import Repository

__all__ = ["routes"]

SMALL = 1 << 16  # bytes of a manifest that is read at once


async def base(request: web.Request) -> web.Response:
    """Say that this is a registry (end-1)."""
    return web.json_response({})


async def get_blob(request: web.Request) -> web.StreamResponse:
    """Send a blob, or a range of it (end-2)."""
    service, repository = service_of(request), repository_of(request)
    digest = check_digest(request.match_info["digest"])
    if repository.blob_size(digest) < 0:
        if service.proxy is not None:
            return await service.proxy.blob(request, repository, digest)
        raise Refusal("BLOB_UNKNOWN", f"{repository.name!r} has no blob {digest}")
    if digest in repository.blobs and not service.read_only:
        repository.blobs.touch(digest)  # who was told that it is here builds on it: gc leaves it for a while
    try:
        return ContentResponse(service.registry.blobs.path(digest), digest)
    except FileNotFoundError:  # removed just now
        raise Refusal("BLOB_UNKNOWN", f"{repository.name!r} has no blob {digest}") from None


async def get_manifest(request: web.Request) -> web.Response:
    """Send a manifest (end-3)."""
    service, repository = service_of(request), repository_of(request)
    reference = request.match_info["reference"]
    if ":" in reference and not is_digest(reference):
        check_digest(reference)
    if service.proxy is not None:
        await service.proxy.refresh(repository, reference)
    descriptor = repository.find(reference)
    if ":" not in reference:
        descriptor = negotiate(repository, descriptor, request.headers.getall("Accept", []))
    # Most are of some hundred bytes: a thread would cost more, and could be waiting for a lock with all the others.
    small = descriptor["size"] <= SMALL
    answer = web.Response(
        body=repository.read(descriptor) if small else await work(repository.read, descriptor),
        headers={
            "Content-Type": descriptor["mediaType"],
            "Docker-Content-Digest": descriptor["digest"],
            "ETag": f'"{descriptor["digest"]}"',
        },
    )
    if request.if_none_match and any(tag.value == descriptor["digest"] for tag in request.if_none_match):
        answer.set_status(304)
        answer.body = b""
    return answer


def negotiate(repository: Repository, descriptor: Descriptor, accept: list[str]) -> Descriptor:
    """Return the manifest to send for a tag, of those that the client can read.

    A client older than indexes gets the image for linux/amd64 out of one, as from distribution. Who says nothing, or
    takes JSON or anything, gets what is there.
    Raises Refusal (MANIFEST_UNKNOWN) where nothing suits.
    """
    wanted = {word.partition(";")[0].strip().lower() for line in accept for word in line.split(",")} - {""}
    if not wanted or wanted & {descriptor["mediaType"], "*/*", "application/*", "application/json"}:
        return descriptor
    if descriptor["mediaType"] in INDEXES and wanted & set(IMAGES):
        import json

        for item in json.loads(repository.read(descriptor))["manifests"]:
            platform = item.get("platform") or {}
            if (platform.get("os"), platform.get("architecture")) == ("linux", "amd64") and item["mediaType"] in wanted:
                return repository.find(item["digest"])
    if not any(re.search(r"manifest|index", word) for word in wanted):
        return descriptor  # a browser: it shows what it can
    raise Refusal("MANIFEST_UNKNOWN", f"it is {descriptor['mediaType']}, which is not in Accept")


def routes() -> list[web.RouteDef]:
    """Return what this file answers."""
    return [
        web.get("/v2/", base),
        web.get("/v2", base),
        web.get("/v2/{name:.+}/blobs/{digest:[^/]+}", get_blob),
        web.get("/v2/{name:.+}/manifests/{reference:[^/]+}", get_manifest),
    ]
