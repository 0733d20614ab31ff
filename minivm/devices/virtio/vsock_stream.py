"""One connection of virtio-vsock: a stream between a program of the guest and a socket of the host (VIRTIO 1.2, 5.10.6).

    packet    | source cid (8) | destination cid (8) | source port (4) | destination port (4) | length (4) | type (2) | op (2) |
              | flags (4) | buf_alloc (4) | fwd_cnt (4) |  and so many bytes

Neither side may send more than the other has room for: each packet says how large its sender's buffer is (buf_alloc) and how
many bytes it has passed on in all (fwd_cnt, modulo 2^32). So one may send

    credit = peer's buf_alloc - (bytes sent - peer's fwd_cnt)
"""

from __future__ import annotations

from struct import Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from socket import socket

__all__ = ["HEADER", "OPS", "Stream"]

HEADER = Struct("<QQIIIHHIII")
OPS = REQUEST, RESPONSE, RST, SHUTDOWN, RW, CREDIT_UPDATE, CREDIT_REQUEST = range(1, 8)
STREAM = 1  # type
NO_RECEIVE, NO_SEND = 1, 2  # flags of SHUTDOWN
BUFFER = 256 << 10  # bytes of the guest that we keep for a program of the host that does not read
ASKING, OPEN = "asking", "open"


class Stream:
    """A connection.

    Args:
        end: the host's socket, not blocking.
        port: its port on the host's side.
        peer: the guest's port.
        state: ASKING until the guest has answered our request, then OPEN.
    """

    def __init__(self, end: socket, port: int, peer: int, state: str) -> None:
        self.end, self.port, self.peer, self.state = end, port, peer, state
        self.sent = self.passed_on = self.told = 0  # modulo 2^32: to the guest; to the host; what the guest knows of that
        self.peer_buffer = self.peer_passed_on = 0
        self.waiting = b""  # of the guest, which the host's socket did not take yet
        self.guest_done = self.guest_deaf = self.host_done = False

    @property
    def credit(self) -> int:
        """How many bytes the guest has room for; never more than its buffer, whatever it says."""
        return max(0, self.peer_buffer - (self.sent - self.peer_passed_on & 0xFFFF_FFFF))

    @property
    def must_tell(self) -> bool:
        """Whether the guest may be waiting to hear that there is room again."""
        return (self.passed_on - self.told & 0xFFFF_FFFF) >= BUFFER // 4

    def hear(self, buffer: int, passed_on: int) -> None:
        """Take what a packet of the guest says of its buffer."""
        self.peer_buffer, self.peer_passed_on = buffer, passed_on

    def take(self, parts: list[memoryview]) -> bool:
        """Pass on bytes of the guest, or keep them. Returns False where it has sent more than there is room for.

        Raises OSError where the host's end is gone.
        """
        length = sum(map(len, parts))
        if length + len(self.waiting) > BUFFER:
            return False
        done = 0
        if not self.waiting and parts:
            try:
                done = self.end.sendmsg(parts)
            except BlockingIOError:
                pass
        self.passed_on = self.passed_on + done & 0xFFFF_FFFF
        if done < length:
            self.waiting += b"".join(parts)[done:]
        return True

    def flush(self) -> None:
        """Pass on what waits. Raises OSError where the host's end is gone."""
        try:
            while self.waiting:
                done = self.end.send(self.waiting)
                self.waiting = self.waiting[done:]
                self.passed_on = self.passed_on + done & 0xFFFF_FFFF
        except BlockingIOError:
            return
        if self.guest_done:
            import socket

            self.end.shutdown(socket.SHUT_WR)

    def header(self, guest: int, op: int, length: int = 0, flags: int = 0) -> bytes:
        """Return the header of a packet to the guest, which thereby learns how much was passed on."""
        self.told = self.passed_on
        return HEADER.pack(HOST, guest, self.port, self.peer, length, STREAM, op, flags, BUFFER, self.passed_on)


HOST = 2  # VMADDR_CID_HOST
