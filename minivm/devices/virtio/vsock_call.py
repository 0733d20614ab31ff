"""A connection that another process makes for virtio-vsock: the device's own may not, in a jail (machine/connector.py).

    device       | port (4) |                              connector connects to PATH_port
    connector    | whether it is connected (1) |           with the socket, by SCM_RIGHTS (man 7 unix)

The connector answers one question after the other, so that the first answer is to the first question.
"""

from __future__ import annotations

import socket
from collections import deque
from struct import Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CONNECTED", "PORT", "REFUSED", "Call", "Calls"]

PORT = Struct("<I")
REFUSED, CONNECTED = b"\0", b"\1"


class Call:
    """A guest's request for a connection, until that is made or refused."""

    __slots__ = ("buffer", "passed_on", "peer", "port", "wanted")

    def __init__(self, port: int, peer: int, buffer: int, passed_on: int) -> None:
        self.port, self.peer, self.buffer, self.passed_on = port, peer, buffer, passed_on  # as vsock_stream.Stream's
        self.wanted = True  # the guest has not thought better of it


class Calls:
    """The device's end of the connector.

    Args:
        end: the socket that leads to it; not blocking; stays the caller's. None: there is no connector.
    """

    def __init__(self, end: socket.socket | None) -> None:
        self._end = end
        self._asked: deque[Call] = deque()
        self.wanted: dict[tuple[int, int], Call] = {}  # by (host's port, guest's port)

    def __len__(self) -> int:
        """How many answers are to come: each may bring a descriptor, wanted or not."""
        return len(self._asked)

    @property
    def fd(self) -> int:
        """The descriptor that is ready when there is an answer; -1 where there is no connector (any more)."""
        return self._end.fileno() if self._end is not None else -1

    def begin(self, call: Call) -> bool:
        """Ask for a connection. Returns False where there is nobody to ask, or too much is asked at once."""
        if self._end is None:
            return False
        try:
            self._end.send(PORT.pack(call.port))
        except OSError:  # EAGAIN: as much is on its way as the socket holds, and more is not kept here
            return False
        self._asked.append(call)
        self.wanted[call.port, call.peer] = call
        return True

    def cancel(self, port: int, peer: int) -> bool:
        """Forget what the guest has asked for. Returns whether it had."""
        call = self.wanted.pop((port, peer), None)
        if call is not None:
            call.wanted = False
        return call is not None

    def cancel_all(self) -> None:
        """The same, of all."""
        for key in list(self.wanted):
            self.cancel(*key)

    def answers(self) -> Iterator[tuple[Call, socket.socket | None]]:
        """Give what is wanted still and was answered: with a socket, not blocking and the caller's; or with none, as refused.

        Where the connector is gone all is refused, and `fd` is -1 from then on.
        """
        while self._asked and (answer := self._hear()) is not None:
            call, end = self._asked.popleft(), answer[0]
            if call.wanted:
                del self.wanted[call.port, call.peer]
                yield call, end
            elif end is not None:
                end.close()
        if not self._asked and self._end is not None:
            self._hear()  # nothing is to come, so this can only be the end

    def _hear(self) -> tuple[socket.socket | None] | None:
        """Return an answer; None where there is none yet. Without a descriptor that is free it is a refusal: what was passed is
        closed then (man 7 unix, MSG_CTRUNC)."""
        if self._end is None:
            return (None,)
        try:
            word, fds, _, _ = socket.recv_fds(self._end, len(CONNECTED), 1, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return None
        except OSError:
            word, fds = b"", []
        if not word:
            self._end = None
        if not fds:
            return (None,)
        end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fds[0])
        end.setblocking(False)
        return (end,)
