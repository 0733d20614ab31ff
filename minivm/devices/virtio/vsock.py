"""virtio-vsock: sockets between guest and host without a network (VIRTIO 1.2, 5.10; man 7 vsock).

On the host's side they are AF_UNIX sockets, as Firecracker has them:

    host to guest   connect to PATH, write "CONNECT 52\\n": if a program of the guest listens at port 52, "OK 1073741824\\n"
                    comes back, and then the stream is joined to it
    guest to host   a connection to cid 2, port 52 is one to PATH_52, where a program of the host listens; in a jail, where no
                    path leads there, another process makes it (vsock_call.py)

Queue 0 carries packets to the guest, queue 1 packets from it, queue 2 events (none is sent). Configuration: the guest's cid (8).
Payload goes between the guest's memory and the sockets by sendmsg and recvmsg, without a copy, but each packet is handled
in Python.
"""

from __future__ import annotations

import resource
import select
import socket
from struct import pack

from minivm.devices.virtio.loop import Loop
from minivm.devices.virtio.vsock_call import Call, Calls
from minivm.devices.virtio.vsock_stream import (
    ASKING,
    BUFFER,
    CREDIT_REQUEST,
    CREDIT_UPDATE,
    HEADER,
    HOST,
    NO_RECEIVE,
    NO_SEND,
    OPEN,
    REQUEST,
    RESPONSE,
    RST,
    RW,
    SHUTDOWN,
    STREAM,
    Stream,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minivm.devices.virtio.mmio import Mmio
    from minivm.devices.virtio.queue import Chain

__all__ = ["Vsock"]

RECEIVE, SEND, EVENT = 0, 1, 2
FIRST_PORT = 1 << 30  # of connections that the host begins
MOST = 1023  # connections
MOST_REPLIES = 4096  # that wait for a buffer: a guest that asks and gives none is not answered
LINE = 32  # bytes of the longest "CONNECT ...\n"
PACKET = 64 << 10  # bytes of payload


class Vsock:
    """The device.

    Args:
        cid: the guest's, from 3 on.
        path: where the host's socket is; PATH_PORT are those of the host's programs.
        listener: listens at path; not blocking; stays the caller's.
        connector: leads to the process that makes the guest's connections (machine/connector.py); not blocking; stays the
            caller's. None: they are made here.
    """

    name = "virtio-vsock"
    device_id = 19
    features = 0
    queues = 3
    in_python = frozenset((RECEIVE, SEND, EVENT))

    def __init__(self, cid: int, path: str, listener: socket.socket, connector: socket.socket | None = None) -> None:
        self._cid, self._path, self._listener = cid, path, listener
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        # descriptors of connections: the process has more to do than this
        self.most = MOST if limit == resource.RLIM_INFINITY else min(MOST, limit // 2)
        self.transport: Mmio | None = None
        self._loop = Loop(self, range(self.queues))
        self._loop.watch(listener.fileno(), select.EPOLLIN | select.EPOLLET)
        self._connector, self._calls = connector, Calls(connector)
        if connector is not None:
            self._loop.watch(connector.fileno(), select.EPOLLIN)
        self._new: dict[int, tuple[socket.socket, bytes]] = {}  # by descriptor: who has not said CONNECT yet
        self._streams: dict[tuple[int, int], Stream] = {}  # by (host's port, guest's port)
        self._by_fd: dict[int, Stream] = {}
        self._replies: list[bytes] = []
        self._next = FIRST_PORT

    def config(self) -> bytes:
        """Return what the driver finds behind the registers."""
        return pack("<Q", self._cid)

    def connect(self, registers: Any, interrupt: int) -> list[Loop]:
        """Return the loop that serves it."""
        self._loop.tell = self._tell
        return [self._loop]

    def begin(self, features: int) -> None:
        """The driver begins anew: it knows of no connection of before."""
        with self._loop.lock:
            for stream in list(self._streams.values()):
                self._drop(stream)
            self._calls.cancel_all()
            self._replies.clear()

    def close(self) -> None:
        """Close all connections; nobody serves any more."""
        for end in [stream.end for stream in self._by_fd.values()] + [end for end, _ in self._new.values()]:
            end.close()

    def _tell(self) -> None:
        assert self.transport is not None
        self.transport.after()

    # --- what is served ---

    def serve_queue(self, number: int) -> None:
        """Packets of the guest, or buffers for packets to it."""
        queue = self._loop.given.get(number)
        if number == SEND and queue is not None:
            for chain in queue.chains():
                self._packet(chain)
                queue.push(chain, 0)
        self._deliver()
        if number == RECEIVE:
            for stream in list(self._by_fd.values()):
                self._watch(stream)

    def serve_descriptor(self, fd: int, events: int) -> None:
        """A client, or the host's end of a stream."""
        if fd == self._listener.fileno():
            self._accept()
        elif fd == self._calls.fd:
            self._hear_connector(fd)
        elif fd in self._new:
            self._hear_client(fd)
        elif stream := self._by_fd.get(fd):
            self._move(stream, events)
        self._deliver()

    def _accept(self) -> None:
        """Take in who has connected. Where no descriptor is free they wait for the end of a connection, or for one more of them:
        a guest may use up all descriptors, and a listener that is only ever ready would keep this thread busy."""
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._full:
                client.close()
                continue
            client.setblocking(False)
            self._new[client.fileno()] = client, b""
            self._loop.watch(client.fileno(), select.EPOLLIN)

    @property
    def _full(self) -> bool:
        return len(self._new) + len(self._by_fd) + len(self._calls) >= self.most

    def _hear_client(self, fd: int) -> None:
        """Read a client's line, byte by byte, for what follows is the guest's."""
        client, line = self._new[fd]
        try:
            while not line.endswith(b"\n") and len(line) < LINE:
                byte = client.recv(1)
                if not byte:
                    break
                line += byte
        except BlockingIOError:
            self._new[fd] = client, line
            return
        except OSError:
            line = b""
        del self._new[fd]
        self._loop.forget(fd)
        word, _, port = line.decode("latin-1").rstrip("\n").partition(" ")
        if not line.endswith(b"\n") or word.upper() != "CONNECT" or not (port.isascii() and port.isdigit() and int(port) < 1 << 32):
            client.close()
            self._accept()
            return
        stream = Stream(client, self._free_port(), int(port), ASKING)
        self._add(stream)
        self._reply(stream.header(self._cid, REQUEST))

    def _free_port(self) -> int:
        used = {port for port, _ in (*self._streams, *self._calls.wanted)}
        while self._next in used:
            self._next = self._next + 1 if self._next < 0xFFFF_FFFE else FIRST_PORT
        port, self._next = self._next, self._next + 1 if self._next < 0xFFFF_FFFE else FIRST_PORT
        return port

    def _add(self, stream: Stream) -> None:
        self._streams[stream.port, stream.peer] = stream
        self._by_fd[stream.end.fileno()] = stream
        self._watch(stream)

    def _drop(self, stream: Stream) -> None:
        del self._streams[stream.port, stream.peer], self._by_fd[stream.end.fileno()]
        self._loop.forget(stream.end.fileno())
        stream.end.close()
        self._accept()

    def _reset(self, stream: Stream) -> None:
        """End a connection, and tell the guest."""
        self._reply(stream.header(self._cid, RST))
        self._drop(stream)

    def _watch(self, stream: Stream) -> None:
        """Wait for what can be done about a stream; to read it there must be room in the guest, and a buffer."""
        reads = stream.state == OPEN and stream.credit and not stream.host_done and not stream.guest_deaf and self._has_buffer
        events = (select.EPOLLIN if reads else 0) | (select.EPOLLOUT if stream.waiting else 0)
        if stream.state == ASKING:
            events |= select.EPOLLERR  # and with it a hang-up, which is told unasked: the guest may never answer
        self._loop.watch(stream.end.fileno(), events)

    @property
    def _has_buffer(self) -> bool:
        queue = self._loop.given.get(RECEIVE)
        return queue is not None and queue.waiting

    # --- from the guest ---

    def _packet(self, chain: Chain) -> None:
        """Handle a packet. One that makes no sense is answered by a reset, or not at all (5.10.6.4)."""
        parts = _split(chain.readable)
        if parts is None:
            return
        fields, payload = parts
        source, target, peer, port, length, kind, op, flags, buffer, passed_on = fields
        if source != self._cid or target != HOST:
            return
        if self._calls.cancel(port, peer):  # a guest that waits for an answer has nothing to say but that it waits no more
            if op != RST:
                self._refuse(port, peer)
            return
        stream = self._streams.get((port, peer))
        if kind != STREAM or sum(map(len, payload)) != length or (stream is None and op != REQUEST):
            if op != RST:
                self._refuse(port, peer)
            return
        if stream is None:
            self._request(port, peer, buffer, passed_on)
            return
        stream.hear(buffer, passed_on)
        try:
            self._event(stream, op, flags, payload)
        except OSError:  # the host's end is gone
            self._reset(stream)
            return
        if (port, peer) in self._streams:
            self._watch(stream)

    def _request(self, port: int, peer: int, buffer: int, passed_on: int) -> None:
        """The guest wants to connect to a program of the host."""
        call = Call(port, peer, buffer, passed_on)
        if self._full:
            self._refuse(port, peer)
        elif self._connector is None:
            self._answer(call, self._connected(port))
        elif not self._calls.begin(call):
            self._refuse(port, peer)

    def _answer(self, call: Call, end: socket.socket | None) -> None:
        """Tell the guest what came of it: a socket, or None."""
        if end is None:
            self._refuse(call.port, call.peer)
            return
        stream = Stream(end, call.port, call.peer, OPEN)
        stream.hear(call.buffer, call.passed_on)
        self._add(stream)
        self._reply(stream.header(self._cid, RESPONSE))

    def _hear_connector(self, fd: int) -> None:
        """Take what the connector has answered; a connector that is gone is asked no more."""
        for call, end in self._calls.answers():
            self._answer(call, end)
        if self._calls.fd < 0:
            self._loop.forget(fd)

    def _connected(self, port: int) -> socket.socket | None:
        """Return a socket that a program of the host listens to; None where there is none, or no descriptor free."""
        try:
            end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        except OSError:
            return None
        try:
            end.connect(f"{self._path}_{port}")
        except OSError:
            end.close()
            return None
        return end

    def _refuse(self, port: int, peer: int) -> None:
        """Say that there is no such connection."""
        self._reply(HEADER.pack(HOST, self._cid, port, peer, 0, STREAM, RST, 0, BUFFER, 0))

    def _event(self, stream: Stream, op: int, flags: int, payload: list[memoryview]) -> None:
        """Handle a packet of a connection. Raises OSError where the host's end is gone."""
        if op == RESPONSE and stream.state == ASKING:
            stream.state = OPEN
            stream.end.send(f"OK {stream.port}\n".encode())
        elif op == RST:
            self._drop(stream)
        elif op == RW and stream.state == OPEN and not stream.guest_done:
            if not stream.take(payload):
                self._reset(stream)
            elif stream.must_tell:
                self._reply(stream.header(self._cid, CREDIT_UPDATE))
        elif op == CREDIT_REQUEST:
            self._reply(stream.header(self._cid, CREDIT_UPDATE))
        elif op == SHUTDOWN and stream.state == OPEN:
            self._shut(stream, flags)
        elif op != CREDIT_UPDATE:
            self._reset(stream)

    def _shut(self, stream: Stream, flags: int) -> None:
        """The guest sends no more, or hears no more; after both, the connection ends once all is passed on."""
        stream.guest_done |= bool(flags & NO_SEND)
        stream.guest_deaf |= bool(flags & NO_RECEIVE)
        stream.flush()
        if stream.guest_done and stream.guest_deaf and not stream.waiting:
            self._reset(stream)

    # --- to the guest ---

    def _move(self, stream: Stream, events: int) -> None:
        """The host's end can be written to, or has something to read."""
        try:
            if stream.waiting:
                stream.flush()
                if stream.must_tell:
                    self._reply(stream.header(self._cid, CREDIT_UPDATE))
            if events & (select.EPOLLHUP | select.EPOLLERR) and not self._readable(stream):
                raise ConnectionResetError
            if events & (select.EPOLLIN | select.EPOLLHUP) and self._has_buffer and stream.state == OPEN and stream.credit:
                self._read(stream)
        except OSError:
            self._reset(stream)
            return
        if stream.guest_done and stream.guest_deaf and not stream.waiting:
            self._reset(stream)
            return
        self._watch(stream)

    def _readable(self, stream: Stream) -> bool:
        """Whether there may be something left to read for the guest: a hang-up comes before what was sent is read."""
        return stream.state == OPEN and not stream.host_done and not stream.guest_deaf

    def _read(self, stream: Stream) -> None:
        """Read from the host into a buffer of the guest, behind a header. Raises OSError, QueueError."""
        self._deliver()  # what is to be said comes before data: the guest must hear first that it is connected
        if stream.host_done or self._replies:
            return
        queue = self._loop.given[RECEIVE]
        chain = queue.pop()
        if chain is None or chain.room <= HEADER.size:
            if chain is not None:
                queue.push(chain, 0)
            return
        parts = _behind_header(chain.writable, min(stream.credit, PACKET))
        try:
            done = stream.end.recvmsg_into(parts)[0]
        except BlockingIOError:
            queue.push(chain, chain.write(stream.header(self._cid, CREDIT_UPDATE)))
            return
        except OSError:
            queue.push(chain, chain.write(stream.header(self._cid, CREDIT_UPDATE)))
            raise
        if not done:
            stream.host_done = True
            queue.push(chain, chain.write(stream.header(self._cid, SHUTDOWN, 0, NO_SEND)))
            return
        stream.sent = stream.sent + done & 0xFFFF_FFFF
        queue.push(chain, chain.write(stream.header(self._cid, RW, done)) + done)

    def _reply(self, header: bytes) -> None:
        if len(self._replies) < MOST_REPLIES:
            self._replies.append(header)

    def _deliver(self) -> None:
        """Put what is to be said into the guest's buffers, before any data."""
        queue = self._loop.given.get(RECEIVE)
        while queue is not None and self._replies and (chain := queue.pop()) is not None:
            queue.push(chain, chain.write(self._replies.pop(0)))


def _split(parts: list[memoryview]) -> tuple[tuple[int, ...], list[memoryview]] | None:
    """Return the fields of a packet's header, and the parts of its payload; None where there is no header."""
    head, rest = b"", list(parts)
    while rest and len(head) < HEADER.size:
        piece = rest[0][: HEADER.size - len(head)]
        head += piece
        if len(piece) == len(rest[0]):
            rest.pop(0)
        else:
            rest[0] = rest[0][len(piece) :]
    return (HEADER.unpack(head), rest) if len(head) == HEADER.size else None


def _behind_header(parts: list[memoryview], most: int) -> list[memoryview]:
    """Return where payload goes: at most so many bytes behind the room for a header."""
    skip, found = HEADER.size, []
    for part in parts:
        piece = part[min(skip, len(part)) :][:most]
        skip -= min(skip, len(part))
        most -= len(piece)
        if len(piece):
            found.append(piece)
    return found
