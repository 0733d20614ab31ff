"""Between the user's terminal and the container's pty, until the container ends or the user detaches.

    keyboard ─▶ user's tty, raw ─▶ stdin ──copy──▶ master ═▶ container's pty ─▶ program
    screen   ◀─ user's tty      ◀─ stdout ◀─copy── master ◀═ (line discipline) ◀─ program

Two terminals in a row, so one of them must do nothing: ours is made raw, and echo, line editing and Ctrl-C happen in
the container's pty, where the program's own settings apply (man 3 termios, man 7 pty). The user's terminal is given
back as it was whatever happens here.

    require_terminal(0)                       # tty.py. -i -t < file: refused, as docker does
    copy_window_size(master, 1, 0)            # tty.py. Before the program looks
    status = attach(pidfd, master=master)     # None: detached, and the container goes on
"""

from __future__ import annotations

import os
import select

from minirt.terminal.detach_keys import DEFAULT_DETACH_KEYS, DetachKeys
from minirt.terminal.tty import RawTerminal, copy_window_size
from minirt.terminal.wait import ENDING, Signals, exit_status, wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
else:
    import _signal

__all__ = ["attach"]

CHUNK = 4096  # a pty gives no more at once; a pipe that polls as writable takes so much without blocking
ROOM = 65536  # held for a side that does not take it; then the other side has to wait
REOPENED = 100  # ms between looks whether the container has opened its terminal again


class Link:
    """The two copies, and what waits in them.

    `master` does not block. `stdin` and `stdout` may be shared with a shell, so their flags are not ours
    to change: they are only touched when poll says that they are ready.
    Simplified: a terminal that is ready may have room for less than CHUNK; then all waits until it is written.
    """

    def __init__(self, master: int, stdin: int, stdout: int, keys: DetachKeys) -> None:
        self.master = master
        self.stdin = stdin  # -1: nothing (more) to read
        self.stdout = stdout
        self.keys = keys
        self.typed = bytearray()  # for the container
        self.shown = bytearray()  # for the screen
        self.hung_up = False  # no process has the container's terminal open; one may open it again
        self.gone = False  # nobody looks at our output any more

    def interest(self) -> dict[int, int]:
        """Return what to poll for: descriptor -> events."""
        events: dict[int, int] = {}
        if self.stdin >= 0 and len(self.typed) < ROOM:
            events[self.stdin] = select.POLLIN
        if self.shown:
            events[self.stdout] = events.get(self.stdout, 0) | select.POLLOUT  # one socket may be both
        if not self.hung_up and not self.gone:
            wanted = (select.POLLIN if len(self.shown) < ROOM else 0) | (select.POLLOUT if self.typed else 0)
            if wanted:
                events[self.master] = wanted
        return events

    def turn(self, ready: dict[int, int]) -> None:
        """Copy what is ready."""
        if ready.get(self.stdin, 0) & ~select.POLLOUT:
            self.listen()
        if self.typed:
            self.give()
        if (self.hung_up or self.master in ready) and len(self.shown) < ROOM:
            self.look()
        elif ready.get(self.master, 0) & select.POLLHUP:
            self.hung_up = True
        if self.shown and ready.get(self.stdout, 0) & ~select.POLLIN:
            self.show()

    def listen(self) -> None:
        """Take what was typed."""
        try:
            data = os.read(self.stdin, CHUNK)
        except BlockingIOError:
            return
        except OSError:  # EIO: the user's terminal has hung up
            data = b""
        if not data:
            self.stdin = -1
        self.typed += self.keys.feed(data)

    def give(self) -> None:
        """Type it to the container, as much as it takes now."""
        try:
            del self.typed[: os.write(self.master, self.typed)]
        except BlockingIOError:
            pass
        except OSError:  # EIO: nobody has the terminal open
            self.typed.clear()

    def look(self) -> bool:
        """Take what the container shows; False if there is no more for now.

        EAGAIN and EIO (the other end is closed) both come only after all output: for both the kernel first
        moves what is on its way (drivers/tty/n_tty.c, n_tty_read).
        """
        try:
            data = os.read(self.master, CHUNK)
        except BlockingIOError:
            self.hung_up = False
            return False
        except OSError:
            self.hung_up = True
            return False
        self.hung_up = False
        if not self.gone:
            self.shown += data
        return bool(data)

    def show(self) -> None:
        """Write to the screen what it takes at once."""
        try:
            del self.shown[: os.write(self.stdout, self.shown[:CHUNK])]
        except BlockingIOError:
            pass
        except OSError:  # EPIPE, EIO: our reader has gone
            self.hang_up()

    def hang_up(self) -> None:
        """Do what closing a terminal's window does: the session gets SIGHUP, later writes EIO (man 7 pty).

        `run -t IMAGE yes | head -1` ends by this. The master's number stays, as it is the caller's to close.
        """
        self.gone = True
        self.shown.clear()
        nowhere = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        os.dup2(nowhere, self.master, inheritable=False)
        os.close(nowhere)


def attach(
    pidfd: int,
    *,
    master: int = -1,
    stdin: int = 0,
    stdout: int = 1,
    detach_keys: bytes | None = DEFAULT_DETACH_KEYS,
    interactive: bool = True,
    sig_proxy: bool = True,
    signals: Signals | None = None,
    sized: bool = False,
) -> int | None:
    """Stay with a container in the foreground until it ends, and reap it; or until the user detaches.

    All output is written before this returns. Call it in the main thread.

    Args:
        pidfd: the container's pid 1: a child of this process, in a session of its own.
        master: the master of the container's pty, made non-blocking here; stays the caller's. -1: the container
            has its standard streams itself, and there is nothing to copy.
        stdin, stdout: where to copy from and to; a terminal as stdin is raw meanwhile.
        detach_keys: as `parse_detach_keys` gives them; empty or None: none.
        interactive: copy stdin (-i).
        sig_proxy: pass signals on to the container; said by `signals` where that is given.
        signals: entered already, by who wants no signal lost between making the container and this.
        sized: the container's terminal has its size already, and keeps it until ours changes.

    Returns: exit status, 0 to 255, 128+n where signal n ended it; None if detached: the container goes on, not
        reaped, and the master must be kept open, as closing it hangs up the container's terminal.
    Raises: Interrupted (without sig_proxy), ChildProcessError.
    """
    if signals is None:
        with Signals(sig_proxy) as signals:
            return attach(
                pidfd, master=master, stdin=stdin, stdout=stdout, detach_keys=detach_keys,
                interactive=interactive, signals=signals, sized=sized,
            )  # fmt: skip
    if master < 0:
        return wait(pidfd, signals)
    os.set_blocking(master, False)
    keyboard = stdin if interactive else -1
    link = Link(master, keyboard, stdout, DetachKeys(detach_keys))
    try:
        with RawTerminal(keyboard if keyboard >= 0 and os.isatty(keyboard) else -1) as raw:
            if not sized:
                copy_window_size(master, stdout, stdin)
            ended = _copy_until_end(pidfd, link, raw, signals, (stdout, stdin))
            _write_rest(pidfd, link, signals, ended)
    finally:
        signals.tell()
    return exit_status(pidfd) if ended else None


def _copy_until_end(pidfd: int, link: Link, raw: RawTerminal, signals: Signals, screens: tuple[int, ...]) -> bool:
    """Copy both ways; return True when the container has ended, False when the user has detached."""
    while not link.keys.detached:
        ready = _poll({signals.reader: select.POLLIN, pidfd: select.POLLIN, **link.interest()}, link.hung_up)
        if signals.reader in ready:
            came = signals.take(pidfd)
            if _signal.SIGCONT in came:
                raw.apply()
            if (_signal.SIGCONT in came or _signal.SIGWINCH in came) and not link.gone:
                copy_window_size(link.master, *screens)
        link.turn(ready)
        if pidfd in ready:
            return True
    return False


def _write_rest(pidfd: int, link: Link, signals: Signals, ended: bool) -> None:
    """Write what we have taken (and all, where the container has ended), however slow the reader.

    A signal that asks us to end makes an end of it.
    """
    more = ended
    while more or link.shown:
        more = more and (len(link.shown) >= ROOM or link.look())
        if link.shown:
            ready = _poll({signals.reader: select.POLLIN, link.stdout: select.POLLOUT}, False)
            if signals.reader in ready and not ENDING.isdisjoint(signals.take(pidfd)):
                return
            if link.stdout in ready:
                link.show()


def _poll(interest: dict[int, int], again: bool) -> dict[int, int]:
    """Wait until something is ready, or, to look `again`, for 100 ms (man 2 poll)."""
    poll = select.poll()
    for fd, events in interest.items():
        poll.register(fd, events)
    return dict(poll.poll(REOPENED if again else None))
