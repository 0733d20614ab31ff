"""A manifest that is pushed, by tag or by digest (distribution-spec spec.md#pushing-manifests)."""

from __future__ import annotations

from aiohttp import web

from minirt.image import digest as digests
from minirt.image.blobs import DOCUMENT_LIMIT
from minirt.registry.errors import Refusal
from minirt.registry.manifest import Manifest
from minirt.registry.names import check_digest, is_tag
from minirt.registry.service import must_be_writable, repository_of, service_of, work

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.registry.repository import Repository

__all__ = ["routes"]


async def put_manifest(request: web.Request) -> web.Response:
    """Keep a manifest (end-7)."""
    must_be_writable(request)
    repository, reference = repository_of(request), request.match_info["reference"]
    if ":" not in reference and not is_tag(reference):
        raise Refusal("MANIFEST_INVALID", f"{reference[:200]!r} is neither a tag nor a digest")
    algorithm = check_digest(reference).partition(":")[0] if ":" in reference else "sha256"
    manifest = Manifest(await _body(request), request.headers.get("Content-Type", ""))
    digest = digests.of(manifest.data, algorithm)
    if ":" in reference and digest != reference:
        raise Refusal("DIGEST_INVALID", f"the manifest is {digest}, not {reference}")
    await work(_put, request, repository, manifest, digest)
    headers = {"Location": f"/v2/{repository.name}/manifests/{digest}", "Docker-Content-Digest": digest}
    if manifest.subject is not None:
        headers["OCI-Subject"] = manifest.subject["digest"]  # "the list of referrers is my work, not yours"
    return web.Response(status=201, headers=headers)


async def _body(request: web.Request) -> bytes:
    """Return the body. Raises Refusal with status 413 where it is longer than a manifest may be."""
    data = bytearray()
    while piece := await request.content.readany():
        data += piece
        if len(data) > DOCUMENT_LIMIT:
            raise Refusal("MANIFEST_INVALID", f"longer than {DOCUMENT_LIMIT} bytes", status=413)
    return bytes(data)


def _put(request: web.Request, repository: Repository, manifest: Manifest, digest: str) -> None:
    reference = request.match_info["reference"]
    with service_of(request).registry.adding(), repository.lock():
        _compare(request, repository, reference)
        repository.put(manifest, digest, "" if ":" in reference else reference)


def _compare(request: web.Request, repository: Repository, reference: str) -> None:
    """Raise with status 412 unless the tag is what the client believes: two who change it cannot undo each other's work."""
    have = reference if ":" in reference else repository.tags.digest(reference)
    have = have if have in repository.manifests or not have else ""
    wanted, unwanted = request.if_match, request.if_none_match
    if (wanted and not (have and any(tag.value in (have, "*") for tag in wanted))) or (
        unwanted and have and any(tag.value in (have, "*") for tag in unwanted)
    ):
        raise Refusal("DENIED", f"{reference!r} is {have or 'not there'} by now", status=412)


def routes() -> list[web.RouteDef]:
    """Return what this file answers."""
    return [web.put("/v2/{name:.+}/manifests/{reference:[^/]+}", put_manifest)]
