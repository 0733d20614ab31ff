"""Stay with a container until it ends: signals that come to us are passed on to it, its end gives our exit status.

    with Signals() as signals:        # from here on no signal is lost, and none ends this process
        ... make the container ...
        status = wait(pidfd, signals)

Ctrl-C in a terminal is a signal to the terminal's foreground process group: to us, not to the container, which is in
a session of its own (the caller's duty; else it gets each one twice). So we pass it on. A container's pid 1 gets
only what it has a handler for (man 7 pid_namespaces): `sleep` ignores Ctrl-C, with docker too, and `--init` helps.
As nobody else looks after the container, the third SIGINT or SIGTERM within 3 s kills it.

`_signal` is the C half of `signal`, whose other half (names as enums) costs more than the rest of this together:
6.4 ms of start-up against 0.1.
"""

from __future__ import annotations

import os
import sys
import time

from minirt.errors import MinirtError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from types import FrameType
    from typing import Any
else:
    import _signal

__all__ = ["Interrupted", "Signals", "exit_status", "wait"]

PLEAS = 3  # SIGINT or SIGTERM, this often
PATIENCE = 3.0  # within so many seconds: the container is killed

# Not caught: about our own life rather than the container's.
OURS = frozenset((
    _signal.SIGKILL, _signal.SIGSTOP,  # cannot be
    _signal.SIGCHLD, _signal.SIGPIPE, _signal.SIGURG,  # docker's exceptions
    _signal.SIGTTIN, _signal.SIGTTOU,  # our place in our terminal: they stop us, as they should
    _signal.SIGSEGV, _signal.SIGBUS, _signal.SIGFPE, _signal.SIGILL,  # a fault in us would repeat for ever
))  # fmt: skip
ENDING = frozenset((_signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGTERM))
# Caught, not passed on: our terminal's size. (httpd takes SIGWINCH as "finish", and ends when a window is resized.)
SIZE = _signal.SIGWINCH


class Interrupted(MinirtError):
    """A signal ended our stay with the container (no --sig-proxy); the container goes on."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by signal {number}; the container goes on")
        self.exit_code = 128 + number


class Signals:
    """While entered: signals are bytes to be read from a pipe, not handlers that run in the middle of something.

    Signals are the main thread's (Python insists): entered in another, it takes none, and containers may be made by
    several threads. What was ignored before stays ignored, as nohup and shells without job control mean it. At the end
    everything is as it was.

    Args:
        proxy: pass signals on to the container; else SIGHUP, SIGINT, SIGQUIT and SIGTERM raise Interrupted.
    """

    def __init__(self, proxy: bool = True) -> None:
        self.proxy = proxy
        self.reader = -1  # poll this
        self.killed = False  # they lost patience
        self.pleas: list[float] = []  # when
        self.previous: dict[int, Any] = {}
        self.wakeup: int | None = None  # what was there before; None: this is not the main thread

    def __enter__(self) -> Signals:
        self.reader, self.writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            self.wakeup = _signal.set_wakeup_fd(self.writer, warn_on_full_buffer=False)
        except ValueError:
            return self
        wanted = _signal.valid_signals() - OURS if self.proxy else {*ENDING, _signal.SIGCONT, SIZE}
        for number in wanted:
            before = _signal.getsignal(number)
            if before is not _signal.SIG_IGN and before is not None:  # None: a handler of C's, faulthandler's say
                self.previous[number] = _signal.signal(number, _noted)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.previous.items():
            _signal.signal(number, handler)
        if self.wakeup is not None:
            _signal.set_wakeup_fd(self.wakeup)
        os.close(self.reader)
        os.close(self.writer)

    def take(self, pidfd: int) -> bytes:
        """Read the signals that have come, pass on to the container what is for it, and return their numbers.

        Args:
            pidfd: the container's pid 1; one that has ended is no error; -1: there is none any more.

        Raises: Interrupted.
        """
        try:
            numbers = os.read(self.reader, 4096)
        except BlockingIOError:
            return b""
        for number in numbers:
            if number in ENDING and not self.proxy:
                raise Interrupted(number)
            if self.proxy and number != SIZE and pidfd >= 0:
                self.send(pidfd, number)
        return numbers

    def send(self, pidfd: int, number: int) -> None:
        """Send the container's pid 1 a signal (man 2 pidfd_send_signal); SIGKILL if it has been asked often enough."""
        if number in (_signal.SIGINT, _signal.SIGTERM):
            now = time.monotonic()
            self.pleas = [*(then for then in self.pleas if now - then < PATIENCE), now]
            if len(self.pleas) >= PLEAS:
                self.killed = True
                number = _signal.SIGKILL
        try:
            _signal.pidfd_send_signal(pidfd, number)
        except ProcessLookupError:
            pass

    def tell(self) -> None:
        """Say on standard error, once, that the container was killed, if it was."""
        if self.killed:
            self.killed = False
            print(f"minirt: killed the container: asked to end {PLEAS} times, it did not", file=sys.stderr)


def _noted(number: int, frame: FrameType | None) -> None:
    """Do nothing: the interpreter has already written the signal's number to the pipe."""


def exit_status(pidfd: int) -> int:
    """Wait for a child to end, and reap it.

    Args:
        pidfd: of a child of this process.

    Returns: its exit status, 0 to 255; 128+n where signal n ended it, as shells and docker count.
    Raises: ChildProcessError where it is no child, or was waited for already (man 2 waitid).
    """
    result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    assert result is not None  # only with WNOHANG
    return result.si_status if result.si_code == os.CLD_EXITED else 128 + result.si_status


def wait(pidfd: int, signals: Signals) -> int:
    """Stay with a container that has its standard streams itself (no pty), until it ends; reap it.

    Args:
        pidfd: the container's pid 1, a child of this process (man 2 pidfd_open).
        signals: entered; those that came before the container was there are passed on now.

    Returns: exit status, as `exit_status`.
    Raises: Interrupted.
    """
    import select  # while the container is at work, there is time for that

    poll = select.poll()
    poll.register(signals.reader, select.POLLIN)
    poll.register(pidfd, select.POLLIN)  # readable once it has ended
    while True:
        ready = [fd for fd, _ in poll.poll()]
        if signals.reader in ready:
            signals.take(pidfd)
        if pidfd in ready:
            signals.tell()
            return exit_status(pidfd)
