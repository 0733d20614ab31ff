"""A blob on its way from another registry: written once, sent to all who wait for it meanwhile.

What has come is sent on at once, but for the last byte: that one waits until the digest was right. So who got a whole
answer got the right bytes, and what turns out wrong ends as a broken connection, as it would have without us.
"""

from __future__ import annotations

import asyncio
import os

import aiohttp
from aiohttp import web

from minirt.registry.errors import Refusal
from minirt.registry.service import work
from minirt.registry.upstream import Offline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.registry.registry import Registry
    from minirt.registry.repository import Repository
    from minirt.registry.upstream import Upstream

__all__ = ["Download"]

PIECE = 1 << 18  # bytes
ATTEMPTS = 4


class Download:
    """One blob. `start` before all else; the attributes are right after it."""

    def __init__(self, registry: Registry, upstream: Upstream, repository: Repository, digest: str) -> None:
        self._registry = registry
        self._upstream = upstream
        self._repository = repository
        self.digest = digest
        self.total = -1  # bytes, or -1 where the other registry does not say
        self.size = 0  # bytes that have come
        self._ended = False  # right or wrong
        self._news = asyncio.Condition()
        self.task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Ask for the blob. Raises Refusal: Offline, BLOB_UNKNOWN, DENIED."""
        response = await self._ask(0)
        self.total = -1 if response.content_length is None else response.content_length
        name = await work(self._registry.uploads.begin, self._repository)
        self._upload = self._registry.uploads.open(self._repository, name)
        self._upload.expect(self.digest)
        self._fd = os.open(f"{self._repository.path}/_uploads/{name}", os.O_RDONLY | os.O_CLOEXEC)  # for those who follow
        self.task = asyncio.create_task(self._run(response))

    async def _ask(self, offset: int) -> aiohttp.ClientResponse:
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        response = await self._upstream.ask("GET", self._repository.name, f"blobs/{self.digest}", headers=headers)
        if response.status not in (200, 206):
            response.release()
            raise Refusal("BLOB_UNKNOWN", f"{self._upstream.url} has no blob {self.digest} in {self._repository.name!r}")
        return response

    async def _run(self, response: aiohttp.ClientResponse) -> None:
        try:
            await self._receive(response)
            await work(self._commit)
        except BaseException:
            await work(self._upload.discard)
            raise
        finally:
            await work(self._upload.close)
            self._ended = True
            async with self._news:
                self._news.notify_all()

    async def _receive(self, response: aiohttp.ClientResponse) -> None:
        """Write what comes; where it breaks off, ask for the rest."""
        for attempt in range(ATTEMPTS):
            try:
                await self._append(response)
                if self.size == self.total or self.total < 0:
                    return
            except (aiohttp.ClientError, TimeoutError, Offline) as error:
                if attempt + 1 == ATTEMPTS:
                    raise Offline(f"{self._upstream.url}: {error}") from None
            await asyncio.sleep(0.2 * 2**attempt)
            response = await self._ask(self.size)
        raise Offline(f"{self._upstream.url} sent {self.size} bytes of {self.total}")

    async def _append(self, response: aiohttp.ClientResponse) -> None:
        skip = self.size if response.status == 200 else 0  # it does not know ranges, and begins again
        async with response:
            async for data in response.content.iter_any():
                fresh = data[skip:]
                skip -= len(data) - len(fresh)
                if fresh:
                    await work(self._upload.append, fresh)
                    self.size += len(fresh)
                    async with self._news:
                        self._news.notify_all()

    def _commit(self) -> None:
        with self._registry.adding():
            self._upload.commit(self.digest)

    async def follow(self, request: web.Request) -> web.StreamResponse:
        """Answer with the blob, as it comes."""
        answer = web.StreamResponse(headers={"Docker-Content-Digest": self.digest, "Content-Type": "application/octet-stream"})
        answer.content_length = self.total
        await answer.prepare(request)
        fd, sent = os.dup(self._fd), 0
        try:
            while sent < self.total:
                until = await self._more(sent)
                piece = os.pread(fd, min(PIECE, until - sent), sent)
                if not piece:  # found wrong while we were behind, and removed
                    raise Offline(f"{self._upstream.url} sent something else than {self.digest}")
                await answer.write(piece)
                sent += len(piece)
        except Refusal:
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError("the other registry broke off") from None
        finally:
            os.close(fd)
        await answer.write_eof()
        return answer

    async def _more(self, sent: int) -> int:
        """Wait until more than `sent` bytes may be sent. Returns how many may. Raises Refusal."""
        assert self.task is not None
        async with self._news:
            await self._news.wait_for(lambda: self.size - 1 > sent or self._ended)
        if self._ended:
            await asyncio.shield(self.task)
            return self.size
        return self.size - 1

    def close(self) -> None:
        """Give back the descriptor for those who follow; who follows has its own."""
        os.close(self._fd)
