"""A file as an answer: the kernel copies it from the page cache to the socket (man 2 sendfile), whole or a range of it.

aiohttp's own FileResponse looks for compressed neighbours of the file and makes an ETag of its time. Content has a
digest, which is a better one, and never changes, so that a client may keep it for ever.
"""

from __future__ import annotations

import asyncio
import io
import os

from aiohttp import web

TYPE_CHECKING = False
if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.web_request import BaseRequest

__all__ = ["ContentResponse"]

PIECE = 1 << 18  # bytes at a time where the kernel cannot send a file, as under TLS


class ContentResponse(web.StreamResponse):
    """Content by its digest.

    Args: path of the file; digest; media_type.
    Raises FileNotFoundError. The file is open from here on: its removal does not stop the answer.
    """

    def __init__(self, path: str, digest: str, media_type: str = "application/octet-stream") -> None:
        super().__init__()
        self._file = open(path, "rb", buffering=0)
        self._total = os.fstat(self._file.fileno()).st_size  # bytes
        self.content_type = media_type
        self.headers["Docker-Content-Digest"] = digest
        self.headers["Accept-Ranges"] = "bytes"
        self.headers["Cache-Control"] = "max-age=31536000"
        self.etag = digest

    async def prepare(self, request: BaseRequest) -> AbstractStreamWriter | None:
        """Send the answer."""
        with self._file:
            offset, count = self._choose(request)
            self.content_length = count
            writer = await super().prepare(request)
            if count and request.method != "HEAD" and self.status < 300:
                await self._send(request, offset, count)
            return writer

    def _choose(self, request: BaseRequest) -> tuple[int, int]:
        """Decide the status. Returns which bytes to send: offset and count (RFC 9110 sections 13 and 14)."""
        if request.if_none_match and any(tag.value in (self.etag.value, "*") for tag in request.if_none_match):  # type: ignore[union-attr]
            self.set_status(304)
            return 0, 0
        wanted = request.headers.get("If-Range", "").strip('"')
        if "Range" not in request.headers or wanted not in ("", self.headers["Docker-Content-Digest"]):
            return 0, self._total
        found = _range(request, self._total)
        if found is None:
            return 0, self._total  # several ranges, or another unit: a server may send all
        begin, end = found
        if begin >= end:
            self.headers["Content-Range"] = f"bytes */{self._total}"
            self.set_status(416)
            return 0, 0
        self.headers["Content-Range"] = f"bytes {begin}-{end - 1}/{self._total}"
        self.set_status(206)
        return begin, end - begin

    async def _send(self, request: BaseRequest, offset: int, count: int) -> None:
        loop = asyncio.get_running_loop()
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client has gone")
        if transport.get_extra_info("sslcontext") is None:
            # Simplified: where the file is not in the page cache, the loop waits for the disk; a server for many
            # disks would have threads read ahead.
            await loop.sendfile(transport, io.BufferedReader(self._file), offset, count)
            return
        self._file.seek(offset)
        while count:
            piece = await loop.run_in_executor(None, self._file.read, min(PIECE, count))
            if not piece:
                raise ConnectionResetError("the file is shorter than it was")
            await self.write(piece)
            count -= len(piece)


def _range(request: BaseRequest, total: int) -> tuple[int, int] | None:
    """Return the first byte and the one after the last that a Range header asks for, or None where it is none of ours."""
    try:
        wanted = request.http_range
    except ValueError:
        return None
    if wanted.start is None:
        return None
    if wanted.start < 0:  # the last so many
        return max(0, total + wanted.start), total
    return wanted.start, min(total if wanted.stop is None else wanted.stop, total)
