"""A terminal's settings: its size, raw mode, and whether there is one at all. Loaded only with -t.

Nothing here copies: see attach.py.
"""

from __future__ import annotations

import os

from minirt.errors import MinirtError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["NotATerminal", "RawTerminal", "copy_window_size", "require_terminal", "set_window_size", "window_size"]


class NotATerminal(MinirtError):
    """-i and -t, and standard input is not a terminal."""

    exit_code = 1  # docker's

    def __init__(self) -> None:
        super().__init__("the input device is not a TTY: leave out -t, or give it a terminal as standard input")


def require_terminal(stdin: int = 0) -> None:
    """Refuse `-i -t` with a file or a pipe as input: the end of a file has no meaning on a terminal.

    Raises: NotATerminal.
    """
    if not os.isatty(stdin):
        raise NotATerminal


def window_size(fd: int) -> tuple[int, int] | None:
    """Return a terminal's (rows, columns), or None where fd is no terminal (man 2 ioctl_tty, TIOCGWINSZ)."""
    try:
        columns, rows = os.get_terminal_size(fd)
    except OSError:
        return None
    return rows, columns


def set_window_size(master: int, rows: int, columns: int) -> None:
    """Set the size of a pty; if it changed, the kernel sends SIGWINCH to the pty's foreground process group.

    Args:
        master: the pty's master.
        rows, columns: in characters, unsigned short.

    Raises: OSError (man 2 ioctl_tty, TIOCSWINSZ).
    """
    from fcntl import ioctl
    from termios import TIOCSWINSZ

    pixels = bytes(4)  # struct winsize: rows, columns, and the size in pixels, which nobody knows
    ioctl(master, TIOCSWINSZ, rows.to_bytes(2, "little") + columns.to_bytes(2, "little") + pixels)


def copy_window_size(master: int, *screens: int) -> None:
    """Give a pty the size of the first of these descriptors that is a terminal; of none, leave it as it is."""
    for fd in screens:
        size = window_size(fd)
        if size is not None:
            return set_window_size(master, *size)
    return None


class RawTerminal:
    """While entered, a terminal hands over each byte as typed and changes nothing (man 3 termios, cfmakeraw).

    Args:
        fd: the terminal; -1: do nothing.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __enter__(self) -> RawTerminal:
        if self.fd >= 0:
            from termios import tcgetattr

            self.before: list[Any] = tcgetattr(self.fd)
            self.apply()
        return self

    def apply(self) -> None:
        """Make it raw; also after we were stopped, as the shell has then set what it likes.

        In the background this stops us (SIGTTOU) until we are in the foreground: no other program's
        terminal is touched. TCSANOW: TCSAFLUSH, tty.setraw's default, would lose what was typed ahead.
        """
        if self.fd < 0:
            return
        import termios as t

        iflag, oflag, cflag, lflag, ispeed, ospeed, cc = self.before
        iflag &= ~(t.IGNBRK | t.BRKINT | t.PARMRK | t.ISTRIP | t.INLCR | t.IGNCR | t.ICRNL | t.IXON)
        oflag &= ~t.OPOST
        lflag &= ~(t.ECHO | t.ECHONL | t.ICANON | t.ISIG | t.IEXTEN)
        cflag = cflag & ~(t.CSIZE | t.PARENB) | t.CS8
        cc = [*cc]
        cc[t.VMIN], cc[t.VTIME] = 1, 0
        t.tcsetattr(self.fd, t.TCSANOW, [iflag, oflag, cflag, lflag, ispeed, ospeed, cc])

    def __exit__(self, *_: object) -> None:
        if self.fd >= 0:
            import termios as t

            try:
                t.tcsetattr(self.fd, t.TCSANOW, self.before)
            except t.error:
                pass  # the terminal has gone
