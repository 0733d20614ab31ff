"""Removal of tags, manifests and blobs (distribution-spec spec.md#content-management).

A repository forgets at once. The bytes stay until `minirt registry gc`, as other repositories may link to them.
"""

from __future__ import annotations

from aiohttp import web

from minirt.registry.errors import Refusal
from minirt.registry.names import check_digest
from minirt.registry.service import must_be_writable, repository_of, work

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.registry.repository import Repository

__all__ = ["routes"]


async def delete_manifest(request: web.Request) -> web.Response:
    """Remove a tag, or a manifest with the tags that mean it (end-9)."""
    must_be_writable(request)
    repository, reference = repository_of(request).must_exist(), request.match_info["reference"]
    if ":" in reference:
        check_digest(reference)
    await work(_delete, repository, reference)
    return web.Response(status=202)


def _delete(repository: Repository, reference: str) -> None:
    with repository.lock():
        if ":" in reference:
            repository.delete(reference)
        elif not repository.tags.remove(reference):
            raise Refusal("MANIFEST_UNKNOWN", f"{repository.name!r} has no tag {reference[:200]!r}")


async def delete_blob(request: web.Request) -> web.Response:
    """Remove a blob from a repository (end-10)."""
    must_be_writable(request)
    repository, digest = repository_of(request), check_digest(request.match_info["digest"])
    if not repository.blobs.remove(digest):
        raise Refusal("BLOB_UNKNOWN", f"{repository.name!r} has no blob {digest}")
    return web.Response(status=202)


def routes() -> list[web.RouteDef]:
    """Return what this file answers."""
    return [
        web.delete("/v2/{name:.+}/manifests/{reference:[^/]+}", delete_manifest),
        web.delete("/v2/{name:.+}/blobs/{digest:[^/]+}", delete_blob),
    ]
