"""A process of a network's, known by a file that it has locked, with its process id in it: who has the lock is alive.

The lock is taken by who starts it and is left to it as a descriptor, so it is somebody's from the first moment on; the kernel gives
it back however the process ends (man 2 flock). So nobody needs to watch over it.
"""

from __future__ import annotations

import os
import signal
import sys

from minirt.paths import state_root

__all__ = ["LOCK", "Held", "environment"]

LOCK = 3  # the lock's descriptor in a process of ours; others follow

ENDING = 30.0  # s that it has to begin in, and the kernel to end it


class Held:
    """Such a process, which may or may not be there. Args: name, of the file."""

    def __init__(self, name: str) -> None:
        self.path = os.path.join(state_root(), "network", name)

    def try_lock(self) -> int:
        """Return a descriptor that holds the lock, -1 where the process has it."""
        import fcntl

        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return -1
        return fd

    def spawn(self, module: str, lock: int, words: list[str], given: dict[str, int]) -> None:
        """Start it, as nobody's child: sh ends at once, so who waits for children need not know of it.

        Args:
            module: of this package, which is run.
            lock: descriptor that holds the lock: it is 3 there.
            words: that it is run with.
            given: more descriptors by name; each becomes a word NAME=NUMBER, with the number that it has there.
        """
        import fcntl

        os.ftruncate(lock, 0)  # the number of one before, which may be another process's by now
        above = LOCK + 1 + len(given)  # so that no dup2 hits another
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for fd in (lock, *given.values())]
        numbers = range(LOCK, LOCK + len(high))
        named = [f"{name}={number}" for name, number in zip(given, numbers[1:], strict=True)]
        command = [sys.executable, "-m", f"minirt.network.{module}", *words, *named]
        script = 'cd /; "$@" </dev/null >/dev/null 2>&1 &'
        try:
            actions = [(os.POSIX_SPAWN_DUP2, fd, number) for fd, number in zip(high, numbers, strict=True)]
            pid = os.posix_spawn("/bin/sh", ["sh", "-c", script, "sh", *command], environment(), file_actions=actions, setsid=True)
            os.waitpid(pid, 0)
        finally:
            for fd in high:
                os.close(fd)

    @property
    def is_there(self) -> bool:
        """Whether it is, or was and nobody has ended it."""
        return os.path.exists(self.path)

    @property
    def is_alive(self) -> bool:
        """Whether it is."""
        fd = self.try_lock() if self.is_there else -2
        if fd >= 0:
            os.close(fd)
        return fd == -1

    @property
    def pid(self) -> int:
        """The process id that stands in the file, 0 where none does."""
        try:
            with open(self.path, encoding="ascii") as file:
                return int(file.read() or 0)
        except (OSError, ValueError):
            return 0

    def wait_for_pid(self) -> int:
        """Return the process id of one that may only just have begun."""
        import time

        until = time.monotonic() + ENDING
        while not (pid := self.pid) and self.is_alive and time.monotonic() < until:
            time.sleep(0.005)
        return pid

    def end(self) -> None:
        """End it, if it is there, and wait until it has ended."""
        import select

        if self.is_alive:
            try:
                pidfd = os.pidfd_open(self.wait_for_pid())
            except OSError:
                pidfd = -1
            if pidfd >= 0:
                if self.is_alive:  # still: so the number is its own
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                    select.select([pidfd], [], [], ENDING)
                os.close(pidfd)
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            pass

    def wake(self) -> None:
        """Send it SIGHUP; one that is only just beginning looks by itself."""
        pid = self.pid
        if pid and self.is_alive:
            try:
                os.kill(pid, signal.SIGHUP)
            except ProcessLookupError:
                pass


def environment() -> dict[str, str]:
    """Return the environment of such a process: ours, with whole paths, as it works in another directory."""
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    whole = {"PYTHONPATH": ":".join(filter(None, [package, os.environ.get("PYTHONPATH")]))}
    if root := os.environ.get("MINIRT_ROOT"):
        whole["MINIRT_ROOT"] = os.path.abspath(root)
    return {**os.environ, **whole}
