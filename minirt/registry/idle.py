"""Connections that nobody moves, ended: else a client that sends half a request and then nothing has its place for ever.

How much a connection moved is asked of the kernel (TCP_INFO, man 7 tcp), which sees it whether we read, write or send a file.
It has to move so much in each span of time, as nothing else tells a byte a minute from a slow line. While it is we who keep
the client waiting, it owes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time

from aiohttp import web

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

__all__ = ["Idle", "Spans"]

RATE = 100  # bytes a second: less moves no image
_BYTES = struct.Struct("=120xQQ")  # struct tcp_info, linux/tcp.h: tcpi_bytes_acked, tcpi_bytes_received


class Spans:
    """How much has moved by when. Args: limit, the length of a span in seconds."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._begun: dict[object, tuple[int, float]] = {}  # bytes and time at the beginning of its span

    def late(self, key: object, moved: int, now: float) -> bool:
        """Return whether something moved too little in a span that is over. Args: moved, bytes, since ever; now, seconds."""
        before, since = self._begun.setdefault(key, (moved, now))
        if moved - before >= RATE * self._limit:
            self._begun[key] = (moved, now)
            return False
        return now - since >= self._limit

    def forgive(self, key: object) -> None:
        """Begin a new span."""
        self._begun.pop(key, None)

    def keep(self, keys: set[object]) -> None:
        """Forget all others."""
        self._begun = {key: begun for key, begun in self._begun.items() if key in keys}


class Idle:
    """Ends the connections of one server. Args: limit, seconds."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._spans = Spans(limit)
        self._requests: dict[asyncio.BaseTransport, web.Request] = {}  # those that a handler is busy with
        self._task: asyncio.Task[None] | None = None

    @web.middleware
    async def note(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Know what is being worked on. A request that was read to its end has earned a new span."""
        transport = request.transport
        if transport is None:
            return await handler(request)
        self._requests[transport] = request
        try:
            return await handler(request)
        finally:
            del self._requests[transport]
            self._spans.forgive(transport)

    def begin(self, server: web.Server) -> None:
        """Watch a server's connections, until its loop ends."""
        self._task = asyncio.create_task(self._watch(server))

    async def _watch(self, server: web.Server) -> None:
        while True:
            await asyncio.sleep(self._limit / 4)
            transports = {one.transport for one in server.connections if one.transport is not None}
            self._spans.keep(set(transports))
            for transport in transports:
                with contextlib.suppress(OSError):  # it ended just now
                    self._look(transport)

    def _look(self, transport: asyncio.Transport) -> None:
        if self._is_ours_to_move(transport):
            self._spans.forgive(transport)
        elif self._spans.late(transport, _moved(transport), time.monotonic()):
            _end(transport)

    def _is_ours_to_move(self, transport: asyncio.Transport) -> bool:
        """Return whether the client waits for us: it has sent its request, or more of it than we can write; it has what we sent."""
        request = self._requests.get(transport)
        if request is None or transport.get_write_buffer_size():
            return False
        return request.content.is_eof() or not transport.is_reading()


def _end(transport: asyncio.Transport) -> None:
    """Hang up. Who reads hears an end, who writes or sends a file an error: to close it under them they would never notice."""
    found = transport.get_extra_info("socket")
    found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # the kernel keeps nothing to be sent
    found.shutdown(socket.SHUT_RDWR)


def _moved(transport: asyncio.Transport) -> int:
    """Return how many bytes have come, and were sent and acknowledged."""
    found = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES.size)
    return sum(_BYTES.unpack(found))
