"""Who waits for a container to start: connected to its monitor before its program begins, so nothing is missed.

docker's `run` attaches to a container, and waits for its end, before it starts it.
"""

from __future__ import annotations

import os
import socket
import threading
from contextlib import contextmanager

from minirt.engine import monitor
from minirt.engine.container import Container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Waiter", "connected", "starting"]

PATIENCE = 60.0  # s that a start may take
LOOK = 0.1  # s between two looks whether another process has started it, or removed it
_lock = threading.Lock()
_waiting: dict[str, list[Waiter]] = {}


class Attempt:
    """One start of a container, which may fail when those who wait are connected already."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.failed = False


class Waiter:
    """One who waits for a container's start. Args: container, which is there."""

    def __init__(self, container: Container) -> None:
        self.id = container.id
        self.path = container.path
        self.begun = container.state.get("started")
        self.started = threading.Event()
        self.attempt: Attempt | None = None  # what has let us in, if it was this server's
        self.socket: socket.socket | None = None

    def connect(self) -> bool:
        """Connect to the container's monitor, if it has one now; say whether."""
        if self.socket is None:
            try:
                self.socket = monitor.connect(f"{self.path}/attach")
            except OSError:
                return False
        return True

    def start_failed(self) -> bool:
        """Say whether the start that let us in has failed; who has made it is told why."""
        if self.attempt is None:
            return False
        self.attempt.over.wait(PATIENCE)
        return self.attempt.failed

    def is_over(self) -> bool:
        """Say whether the container has run meanwhile, and ended before anybody was let in: another process began it."""
        fresh = Container.load(self.id)
        return fresh is not None and fresh.state.get("started") != self.begun and fresh.state.get("status") == "exited"

    def wait(self, gone: Callable[[], bool]) -> socket.socket | None:
        """Return a connection to the monitor, as soon as there is one.

        Args: gone, whether nobody is interested any more. Returns: None then, and where the container is removed.
        """
        while not self.started.wait(LOOK):
            with _lock:
                if self.connect():
                    break
            if gone() or not os.path.isdir(self.path) or self.is_over():
                break
        return self.socket


@contextmanager
def connected(container: Container) -> Iterator[Waiter]:
    """Give one who is connected as soon as the container starts, or is now if it runs."""
    waiter = Waiter(container)
    with _lock:
        _waiting.setdefault(container.id, []).append(waiter)
        if container.running and waiter.connect():
            waiter.started.set()
    try:
        yield waiter
    finally:
        with _lock:
            _waiting[container.id].remove(waiter)
            if not _waiting[container.id]:
                del _waiting[container.id]
        if waiter.socket is not None:
            waiter.socket.close()


@contextmanager
def starting(container: Container) -> Iterator[Callable[[], None]]:
    """Give what connects all who wait for a container, to be called when its monitor listens and its program has not begun."""
    attempt = Attempt()

    def let_in() -> None:
        with _lock:
            for waiter in _waiting.get(container.id, ()):
                if waiter.connect():
                    waiter.attempt = attempt
                    waiter.started.set()

    try:
        yield let_in
    except BaseException:
        attempt.failed = True
        raise
    finally:
        attempt.over.set()
