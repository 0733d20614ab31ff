"""A pull-through cache: what is not here is fetched from another registry, kept, and here from then on.

A tag is asked for each time, by HEAD, which costs the other registry little; its content only if it changed. Where the
other registry does not answer, what is here is served. Nothing can be pushed to a cache.
"""

from __future__ import annotations

import asyncio

from aiohttp import web

from minirt.image import digest as digests
from minirt.image.blobs import DOCUMENT_LIMIT
from minirt.image.index import IMAGES, INDEXES
from minirt.registry.download import Download
from minirt.registry.errors import Refusal
from minirt.registry.manifest import Manifest
from minirt.registry.sendfile import ContentResponse
from minirt.registry.service import work
from minirt.registry.upstream import Offline, body

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.registry.registry import Registry
    from minirt.registry.repository import Repository
    from minirt.registry.upstream import Upstream

__all__ = ["Proxy"]

_ACCEPT = {"Accept": ", ".join(INDEXES + IMAGES)}


class Proxy:
    """The cache of one other registry."""

    def __init__(self, registry: Registry, upstream: Upstream) -> None:
        self._registry = registry
        self._upstream = upstream
        self._downloads: dict[str, Download] = {}
        self._starting = asyncio.Lock()

    async def refresh(self, repository: Repository, reference: str) -> None:
        """See to it that a manifest is here, and that a tag means what it means there.

        Raises Refusal where it is neither here nor there.
        """
        known = reference if ":" in reference else repository.tags.digest(reference)
        here = known != "" and known in repository.manifests
        if here and known == reference:
            return
        try:
            if not (here and await self._current(repository, reference) == known):
                await self._fetch(repository, reference)
        except Offline:
            if not here:
                raise

    async def _current(self, repository: Repository, tag: str) -> str:
        response = await self._upstream.ask("HEAD", repository.name, f"manifests/{tag}", headers=_ACCEPT)
        response.release()
        return response.headers.get("Docker-Content-Digest", "")

    async def _fetch(self, repository: Repository, reference: str) -> None:
        tag = "" if ":" in reference else reference
        response = await self._upstream.ask("GET", repository.name, f"manifests/{reference}", headers=_ACCEPT)
        async with response:
            if response.status != 200:
                if tag and response.status == 404:
                    await work(repository.tags.remove, tag)
                raise Refusal("MANIFEST_UNKNOWN", f"{self._upstream.url} answered {response.status}")
            manifest = Manifest(await body(response, DOCUMENT_LIMIT), response.headers.get("Content-Type", ""))
        announced = reference if not tag else response.headers.get("Docker-Content-Digest", "")
        digest = digests.of(manifest.data, announced.partition(":")[0] if digests.is_digest(announced) else "sha256")
        if announced and digest != announced:
            raise _lies(f"{self._upstream.url} sent {digest} for {announced}")
        await work(self._put, repository, manifest, digest, tag)

    def _put(self, repository: Repository, manifest: Manifest, digest: str, tag: str) -> None:
        with self._registry.adding(), repository.lock():
            repository.put(manifest, digest, tag, complete=False)  # what it leads to comes when somebody asks for it

    async def blob(self, request: web.Request, repository: Repository, digest: str) -> web.StreamResponse:
        """Answer a request for a blob that is not here."""
        if request.method == "HEAD":
            return await self._head(repository, digest)
        download = await self._download(repository, digest)
        if download.total < 0 or "Range" in request.headers:
            # Simplified: a range waits for the whole; a larger cache would fetch ranges by themselves.
            assert download.task is not None
            await asyncio.shield(download.task)
            return ContentResponse(self._registry.blobs.path(digest), digest)
        return await download.follow(request)

    async def _head(self, repository: Repository, digest: str) -> web.StreamResponse:
        response = await self._upstream.ask("HEAD", repository.name, f"blobs/{digest}")
        response.release()
        if response.status != 200:
            raise Refusal("BLOB_UNKNOWN", f"{self._upstream.url} has no blob {digest} in {repository.name!r}")
        headers = {"Content-Length": response.headers.get("Content-Length", "0"), "Content-Type": "application/octet-stream"}
        return web.Response(headers={**headers, "Docker-Content-Digest": digest})

    async def _download(self, repository: Repository, digest: str) -> Download:
        """Return the download of a blob, begun if nobody has."""
        key = f"{repository.name}@{digest}"
        async with self._starting:
            if key not in self._downloads:
                download = Download(self._registry, self._upstream, repository, digest)
                await download.start()
                assert download.task is not None
                self._downloads[key] = download
                download.task.add_done_callback(lambda task: self._done(key))
            return self._downloads[key]

    def _done(self, key: str) -> None:
        download = self._downloads.pop(key)
        download.close()
        if download.task is not None and not download.task.cancelled():
            download.task.exception()  # seen: those who follow tell their clients

    async def ask(self, request: web.Request, repository: Repository, path: str) -> web.Response | None:
        """Pass a question for a list on, with its query. Returns the answer, or None where nobody answers."""
        try:
            response = await self._upstream.ask("GET", repository.name, path, params=dict(request.query))
        except Offline:
            return None
        async with response:
            names = ("Content-Type", "Link", "OCI-Filters-Applied")
            headers = {name: response.headers[name] for name in names if name in response.headers}
            return web.Response(body=await body(response, DOCUMENT_LIMIT), status=response.status, headers=headers)

    async def close(self) -> None:
        """Break off what is under way."""
        tasks = [download.task for download in self._downloads.values() if download.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._upstream.close()


def _lies(reason: str) -> Refusal:
    return Refusal("UNKNOWN", reason, status=502)
