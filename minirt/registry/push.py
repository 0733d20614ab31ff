"""Blobs and manifests from those who push (distribution-spec spec.md#push)."""

from __future__ import annotations

import asyncio
import re

from aiohttp import web

from minirt.registry.errors import Refusal
from minirt.registry.names import check_digest
from minirt.registry.service import must_be_writable, repository_of, service_of, work

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.registry.repository import Repository
    from minirt.registry.uploads import Upload

__all__ = ["routes"]

_RANGE = re.compile(r"(?:bytes[ =])?([0-9]{1,18})-([0-9]{1,18})(?:/.*)?")  # the specification's form, and HTTP's own


async def begin(request: web.Request) -> web.Response:
    """Begin an upload (end-4a), or take a whole blob at once (end-4b), or one of another repository (end-11)."""
    must_be_writable(request)
    service, repository = service_of(request), repository_of(request)
    if "mount" in request.query:
        mounted = await work(_mount, request, repository)
        if mounted:
            return _created(repository, mounted)
    digest = check_digest(request.query["digest"]) if "digest" in request.query else ""
    name = await work(service.registry.uploads.begin, repository)
    if not digest:
        return _standing(repository, name, 0)
    return await _finish(request, repository, name, digest)


def _mount(request: web.Request, repository: Repository) -> str:
    """Link to a blob of another repository. Returns its digest, or "" where the client has to send it."""
    service = service_of(request)
    digest = check_digest(request.query["mount"])
    name = request.query.get("from", "")
    if not name or not service.access.may(request, "pull", name):
        return ""  # as if it were not there: who may not read it learns nothing
    with service.registry.adding():
        if service.registry.repository(name).blob_size(digest) < 0:
            return ""
        repository.blobs.touch(digest)
    return digest


async def status(request: web.Request) -> web.Response:
    """Say how far an upload is (end-13)."""
    repository, name = repository_of(request), request.match_info["upload"]
    return _standing(repository, name, service_of(request).registry.uploads.size(repository, name), 204)


async def chunk(request: web.Request) -> web.Response:
    """Take a piece of a blob (end-5)."""
    must_be_writable(request)
    repository, name = repository_of(request), request.match_info["upload"]
    upload = await _open(request, repository, name)
    try:
        await _receive(request, upload)
        return _standing(repository, name, upload.size)
    finally:
        await work(upload.close)


async def finish(request: web.Request) -> web.Response:
    """Take the last piece of a blob, and its digest (end-6)."""
    must_be_writable(request)
    if "digest" not in request.query:
        raise Refusal("DIGEST_INVALID", "the query has no digest")
    digest = check_digest(request.query["digest"])
    return await _finish(request, repository_of(request), request.match_info["upload"], digest)


async def _finish(request: web.Request, repository: Repository, name: str, digest: str) -> web.Response:
    upload = await _open(request, repository, name)
    try:
        upload.expect(digest)
        await _receive(request, upload)
        await work(_commit, request, upload, digest)
    finally:
        await work(upload.close)
    return _created(repository, digest)


def _commit(request: web.Request, upload: Upload, digest: str) -> None:
    with service_of(request).registry.adding():
        upload.commit(digest)


async def _open(request: web.Request, repository: Repository, name: str) -> Upload:
    """Take an upload; a request whose connection broke may hold it for a moment longer."""
    uploads = service_of(request).registry.uploads
    for _ in range(20):
        try:
            return uploads.open(repository, name)
        except Refusal as error:
            if error.status != 409:
                raise
        await asyncio.sleep(0.1)
    return uploads.open(repository, name)


async def _receive(request: web.Request, upload: Upload) -> None:
    """Append the body of a request, while a thread writes and hashes what came before.

    Raises Refusal: 416 where it does not begin where the upload stands, SIZE_INVALID where it is not as long as
    it said. A body that breaks off leaves what has arrived.
    """
    begin = upload.size
    length = _announced(request, upload)
    writing = None
    try:
        while data := await request.content.readany():
            if writing is not None:
                await writing
            writing = asyncio.ensure_future(work(upload.append, data))
    finally:
        if writing is not None:
            await writing
    if length >= 0 and upload.size - begin != length:
        came = upload.size - begin
        await work(upload.cut, begin)
        raise Refusal("SIZE_INVALID", f"Content-Range says {length} bytes, {came} came")


def _announced(request: web.Request, upload: Upload) -> int:
    """Return how many bytes Content-Range says, or -1."""
    text = request.headers.get("Content-Range", "")
    if not text:
        return -1
    match = _RANGE.fullmatch(text)
    if match is None or int(match[2]) + 1 < int(match[1]):
        raise Refusal("BLOB_UPLOAD_INVALID", f"Content-Range {text[:60]!r} is not FIRST-LAST")
    if int(match[1]) != upload.size:
        where = f"the upload has {upload.size} bytes; this piece begins at {match[1]}"
        raise Refusal("BLOB_UPLOAD_INVALID", where, status=416, headers=_headers(request.path, upload.name, upload.size))
    length = int(match[2]) + 1 - int(match[1])
    if request.content_length is not None and request.content_length != length:
        raise Refusal("SIZE_INVALID", f"Content-Range says {length} bytes, Content-Length {request.content_length}")
    return length


async def cancel(request: web.Request) -> web.Response:
    """Forget an upload (end-14)."""
    must_be_writable(request)
    await work(service_of(request).registry.uploads.cancel, repository_of(request), request.match_info["upload"])
    return web.Response(status=204)


def _created(repository: Repository, digest: str) -> web.Response:
    location = f"/v2/{repository.name}/blobs/{digest}"
    return web.Response(status=201, headers={"Location": location, "Docker-Content-Digest": digest})


def _standing(repository: Repository, name: str, size: int, status: int = 202) -> web.Response:
    return web.Response(status=status, headers=_headers(f"/v2/{repository.name}/blobs/uploads/{name}", name, size))


def _headers(location: str, name: str, size: int) -> dict[str, str]:
    """Return where an upload goes on. Nothing yet is `0-0` too: the form has no word for it, and distribution says this."""
    return {"Location": location, "Range": f"0-{max(0, size - 1)}", "Docker-Upload-UUID": name}


def routes() -> list[web.RouteDef]:
    """Return what this file answers."""
    upload = "/v2/{name:.+}/blobs/uploads/{upload:[^/]+}"
    return [
        web.post("/v2/{name:.+}/blobs/uploads/", begin),
        web.post("/v2/{name:.+}/blobs/uploads", begin),
        web.get(upload, status),
        web.patch(upload, chunk),
        web.put(upload, finish),
        web.delete(upload, cancel),
    ]
