"""The console on a terminal: raw mode while the guest runs, and keys to get out."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["HELP", "Escape", "Terminal"]

CTRL_A = 1
HELP = b"\r\nctrl-a x  end the machine\r\nctrl-a a  send ctrl-a to the guest\r\nctrl-a h  this help\r\n"


class Terminal:
    """The console's input; where it is a terminal, raw from __enter__ to __exit__.

    Raw: no echo, no line editing, and keys such as ctrl-C go to the guest rather than become signals; output
    is left as it is. man 3 termios.

    Args:
        fd: file descriptor, or None for no input.
    """

    def __init__(self, fd: int | None) -> None:
        self.fd = fd
        self.raw = False
        self._before: Any = None

    def __enter__(self) -> Terminal:
        if self.fd is not None and os.isatty(self.fd):
            import termios

            self._before = termios.tcgetattr(self.fd)
            mode = termios.tcgetattr(self.fd)
            mode[0] &= ~(termios.BRKINT | termios.ICRNL | termios.INPCK | termios.ISTRIP | termios.IXON)
            mode[3] &= ~(termios.ECHO | termios.ICANON | termios.IEXTEN | termios.ISIG)
            mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
            termios.tcsetattr(self.fd, termios.TCSANOW, mode)
            self.raw = True
        return self

    def __exit__(self, *_: object) -> None:
        if self.raw and self.fd is not None:
            import termios

            try:
                termios.tcsetattr(self.fd, termios.TCSADRAIN, self._before)
            except termios.error:
                pass  # the terminal has gone away
            self.raw = False


class Escape:
    """Watches what is typed for ctrl-a and the key after it, as QEMU does."""

    def __init__(self) -> None:
        self._pending = False

    def filter(self, data: bytes) -> bytes | None:
        """Return what the guest is to get of the bytes typed, or None where they say to end the machine."""
        out = bytearray()
        for byte in data:
            if not self._pending:
                self._pending = byte == CTRL_A
                if not self._pending:
                    out.append(byte)
                continue
            self._pending = False
            if byte in b"xX":
                return None
            if byte in b"hH":
                os.write(2, HELP)
            elif byte in (CTRL_A, *b"aA"):
                out.append(CTRL_A)
            else:
                out += bytes((CTRL_A, byte))
        return bytes(out)
