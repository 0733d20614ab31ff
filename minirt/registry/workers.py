"""Several processes that accept from one socket, so that a registry has more than one processor.

An interpreter runs Python on one processor at a time. What the processes share is the registry's directory, which is
made for it; what one of them remembers (hashes of uploads that go on, passwords that were right) only saves time.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time

from minirt.errors import MinirtError
from minirt.registry.errors import ServeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BACKLOG", "default_count", "listen", "run"]

BACKLOG = 1024  # connections that wait to be accepted
_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}
_SOON = 2  # seconds: who ends so soon after its start would do so again


def default_count() -> int:
    """Return how many processes are worth it here: one a processor, four at most, as disks and networks end there."""
    return min(4, len(os.sched_getaffinity(0)))


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens. Raises ServeError."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise ServeError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None


def run(count: int, serve: Callable[[int], None]) -> int:
    """Run a function in so many processes, until SIGTERM or SIGINT; one that dies is replaced.

    Args: serve, called with a descriptor that has no more to read once this process is gone.
    Returns 0, or 1 where they die at once.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    gone, held = os.pipe()
    children: dict[int, float] = {}  # process -> when it began

    def begin() -> None:
        pid = os.fork()
        if pid == 0:
            os.close(held)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            _in_child(serve, gone)
        children[pid] = time.monotonic()

    for _ in range(count):
        begin()
    code, stopping = 0, False
    while children:
        if signal.sigwait(_SIGNALS) != signal.SIGCHLD:
            stopping = True
        for began in _ended(children):
            if not stopping and time.monotonic() - began < _SOON:
                code, stopping = 1, True
            elif not stopping:
                begin()
        if stopping:
            for pid in children:
                os.kill(pid, signal.SIGTERM)
    return code


def _in_child(serve: Callable[[int], None], gone: int) -> None:
    code = 1
    try:
        serve(gone)
        code = 0
    except MinirtError as error:
        print(f"minirt: {error}", file=sys.stderr)
    finally:
        os._exit(code)


def _ended(children: dict[int, float]) -> list[float]:
    """Take the processes that have ended out of a table. Returns when they began."""
    found = []
    while children:
        pid, _ = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            break
        found.append(children.pop(pid))
    return found
