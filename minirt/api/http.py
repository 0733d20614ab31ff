"""One connection of a client: requests in, answers out (RFC 9112, by h11), until one of them takes it over.

    for request in Connection(socket).requests():
        request.answer(200, {"Id": "…"})                     # whole
        with request.stream() as write: ...                  # in pieces, as they come
        socket, already = request.hijack("application/…")    # from here on the connection is bytes both ways

A connection has a thread of its own, so all of this may wait. To be taken over (`Upgrade: tcp` asks for it) is why h11 is
used: servers with frameworks do not give the socket away.
"""

from __future__ import annotations

import json
import select
import socket as _socket
from contextlib import contextmanager
from urllib.parse import parse_qsl, unquote, urlsplit

import h11

from minirt.api.errors import ApiError
from minirt.errors import MinirtError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO, Any

__all__ = ["Connection", "Gone", "Request"]

PIECE = 65536  # bytes read at once
HEAD = 256 << 10  # bytes of a request's head: X-Registry-Config of a build may tell of many registries
BODY = 16 << 20  # bytes of a body that is JSON
RAW, MULTIPLEXED = "application/vnd.docker.raw-stream", "application/vnd.docker.multiplexed-stream"


class Gone(MinirtError):
    """The client is not there any more: nobody is left to be told anything."""

    exit_code = 1


class Connection:
    """A client's connection. Args: socket, connected; who made it closes it."""

    def __init__(self, socket: _socket.socket) -> None:
        self.socket = socket
        self.protocol = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD)
        self.taken = False  # by a request that was hijacked

    def requests(self) -> Iterator[Request]:
        """Yield each request, the next when the one before was answered. Raises: Gone, h11.RemoteProtocolError."""
        while isinstance(head := self.receive(), h11.Request):
            request = Request(self, head)
            yield request
            if self.taken:
                return
            for _ in request.pieces():  # what nobody wanted, so that the next can be read
                pass
            if self.protocol.our_state is not h11.DONE or self.protocol.their_state is not h11.DONE:
                return  # `Connection: close`, or HTTP/1.0
            self.protocol.start_next_cycle()

    def receive(self) -> Any:
        """Return what comes next from the client. Raises: Gone, h11.RemoteProtocolError."""
        while (event := self.protocol.next_event()) is h11.NEED_DATA:
            if self.protocol.they_are_waiting_for_100_continue:
                self.send(h11.InformationalResponse(status_code=100, headers=[]))
            try:
                self.protocol.receive_data(self.socket.recv(PIECE))
            except OSError as error:
                raise Gone from error
        return event

    def send(self, event: Any) -> None:
        """Send a part of an answer. Raises: Gone."""
        self.write(self.protocol.send(event) or b"")

    def write(self, data: bytes) -> None:
        """Send bytes as they are. Raises: Gone."""
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise Gone from error

    def gone(self) -> bool:
        """Say whether the client has hung up (man 2 poll)."""
        ends = select.POLLHUP | select.POLLERR
        if self.socket.family != _socket.AF_UNIX:  # there a client that hangs up looks like one that has only said all
            ends |= select.POLLRDHUP
        poll = select.poll()
        poll.register(self.socket, ends)
        return bool(poll.poll(0))


class Request:
    """One request.

    Attributes: method; path, with its version, and written, as it came: without characters that end a line; version, as (1, 50);
    query; headers, by their names in lower case.
    """

    def __init__(self, connection: Connection, head: h11.Request) -> None:
        self.connection = connection
        self.method = head.method.decode("ascii")
        target = urlsplit(head.target.decode("ascii", "replace"))
        self.written = target.path
        self.path = unquote(target.path)
        self.version = (1, 50)
        self.query: dict[str, list[str]] = {}
        for name, value in parse_qsl(target.query, keep_blank_values=True):
            self.query.setdefault(name, []).append(value)
        self.headers = {name.decode("ascii").lower(): value.decode("latin-1") for name, value in head.headers}
        self.read = False  # to the end of the body
        self.answered = False  # at least the head of an answer is sent
        self.extra: dict[str, str] = {}  # headers of any answer

    # -- what is asked -----------------------------------------------------------------------------------------------

    def text(self, name: str, default: str = "") -> str:
        """Return a word of the query."""
        return self.query.get(name, [default])[0]

    def flag(self, name: str, default: bool = False) -> bool:
        """Return a truth of the query: all is true that is not one of docker's words for no."""
        value = self.text(name).strip().lower()
        return value not in ("0", "no", "false", "none") if value else default

    def number(self, name: str) -> int | None:
        """Return a number of the query, None where there is none. Raises: ApiError."""
        text = self.text(name)
        try:
            return int(text) if text else None
        except ValueError:
            raise ApiError(400, f"{name}: {text!r} is no number") from None

    def filters(self) -> dict[str, list[str]]:
        """Return the filters of the query: `{"label": ["a=b"]}`, or as before 1.22 `{"label": {"a=b": true}}`. Raises: ApiError."""
        text = self.text("filters")
        try:
            found = json.loads(text) if text else {}
            lists = {key: [v for v in value if not isinstance(value, dict) or value[v]] for key, value in found.items()}
        except (ValueError, TypeError, AttributeError):
            lists = {"": [None]}
        if not all(isinstance(v, str) for values in lists.values() for v in values):
            raise ApiError(400, f"invalid filter {text!r}: write an object of lists of texts")
        return lists

    def pieces(self) -> Iterator[bytes]:
        """Yield the body, or what is left of it. Raises: Gone."""
        while not self.read:
            event = self.connection.receive()
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            else:  # its end, or the connection's
                self.read = True

    def body(self) -> bytes:
        """Return the whole body. Raises: ApiError where it is too large for one that is JSON."""
        data = bytearray()
        for piece in self.pieces():
            data += piece
            if len(data) > BODY:
                raise ApiError(413, f"the body has more than {BODY} bytes")
        return bytes(data)

    @contextmanager
    def spooled(self) -> Iterator[IO[bytes]]:
        """Give the body as a file without a name: an archive, which may be large, and is read before anything is answered."""
        from minirt.image.store import Store
        from minirt.paths import data_root

        with open(Store(f"{data_root()}/image").nameless(), "r+b") as file:
            file.writelines(self.pieces())
            file.seek(0)
            yield file

    def json(self) -> dict[str, Any]:
        """Return the body's object, an empty one where there is no body. Raises: ApiError."""
        data = self.body()
        try:
            found = json.loads(data) if data.strip() else {}
        except ValueError as error:
            raise ApiError(400, f"the body is not JSON: {error}") from None
        if found is not None and not isinstance(found, dict):
            raise ApiError(400, "the body is not a JSON object")
        return found or {}

    # -- what is answered --------------------------------------------------------------------------------------------

    def answer(self, status: int, value: Any = None, kind: str = "application/json", headers: dict[str, str] | None = None) -> None:
        """Answer as a whole.

        Args: status, of HTTP; value, bytes, or what becomes JSON; None: no body; kind, its media type; headers, more of them.
        """
        data = b"" if value is None else value if isinstance(value, bytes) else json.dumps(value).encode() + b"\n"
        described = {} if status in (204, 304) else {"Content-Length": str(len(data))}
        if value is not None:
            described["Content-Type"] = kind
        self.begin(status, {**(headers or {}), **described})
        if data and self.method != "HEAD":
            self.connection.send(h11.Data(data=data))
        self.connection.send(h11.EndOfMessage())

    def begin(self, status: int, headers: dict[str, str]) -> None:
        """Send an answer's head."""
        self.answered = True
        self.connection.send(h11.Response(status_code=status, headers=list({**self.extra, **headers}.items())))

    @contextmanager
    def stream(self, kind: str = "application/json", headers: dict[str, str] | None = None) -> Iterator[Callable[[bytes], None]]:
        """Answer in pieces, each sent as it is written; the head at once."""
        self.begin(200, {**(headers or {}), "Content-Type": kind})
        yield lambda data: self.connection.send(h11.Data(data=data)) if data else None
        self.connection.send(h11.EndOfMessage())

    def hijack(self, kind: str) -> tuple[_socket.socket, bytes]:
        """Take the connection over. Args: kind, the media type of what follows. Returns: the socket, and what has come on it."""
        for _ in self.pieces():
            pass
        connection = self.connection
        self.answered = connection.taken = True
        if "upgrade" in self.headers:
            head = f"HTTP/1.1 101 UPGRADED\r\nContent-Type: {kind}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
        else:  # older clients: bytes follow the head of what looks like an ordinary answer
            head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n\r\n"
        connection.write(head.encode("ascii"))
        return connection.socket, connection.protocol.trailing_data[0]

    def stream_kind(self, tty: bool) -> str:
        """Return the media type of a container's streams; those without a terminal have one of their own since 1.42."""
        return MULTIPLEXED if not tty and self.version >= (1, 42) else RAW

    def gone(self) -> bool:
        """Say whether the client has hung up."""
        return self.connection.gone()
