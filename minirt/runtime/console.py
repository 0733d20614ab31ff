"""Where a container's terminal goes: its master to a console socket (an engine's), or it is copied to ours."""

from __future__ import annotations

import os

from minirt.runtime.container import RuntimeFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["check_terminal", "send_fd", "set_size", "stay"]

SUN_PATH = 108  # sizeof(sockaddr_un.sun_path), man 7 unix


def check_terminal(terminal: bool, detach: bool, socket: str) -> None:
    """Refuse what cannot be: a terminal that nobody holds, a socket with nothing to send. Raises: RuntimeFailure."""
    if socket and not (detach and terminal):
        raise RuntimeFailure("cannot use console socket if runc will not detach or allocate tty")
    if terminal and detach and not socket:
        raise RuntimeFailure("cannot allocate tty if runc will detach without setting console socket: give --console-socket")


def send_fd(path: str, message: bytes, fd: int, flag: str = "--console-socket") -> None:
    """Send a descriptor over a unix socket (man 7 unix, SCM_RIGHTS).

    `_socket` is the C half of `socket`, whose other half costs 10 ms of start-up.

    Args:
        path: of the listening socket; may be longer than a socket's address.
        message: bytes that go along: engines want at least one.
        fd: the descriptor; it stays the caller's.
        flag: what the path came from, for the error.

    Raises: RuntimeFailure.
    """
    import _socket

    folder = -1
    address = path
    if len(path.encode(errors="surrogateescape")) >= SUN_PATH:
        folder = os.open(os.path.dirname(path), os.O_PATH | os.O_CLOEXEC)
        address = f"/proc/self/fd/{folder}/{os.path.basename(path)}"
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        sock.connect(address)
        sock.sendmsg([message], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fd.to_bytes(4, "little"))])
    except OSError as error:
        raise RuntimeFailure(f"{flag} {path}: {error.strerror or error}") from None
    finally:
        sock.close()
        if folder >= 0:
            os.close(folder)


def set_size(master: int, process: dict[str, Any], ours: bool) -> None:
    """Give a terminal its size before the program sees it: process.consoleSize, or else that of the caller's terminal.

    Args:
        master: of the container's terminal.
        process: of config.json.
        ours: whether it will be copied to the caller's terminal; else an engine sets the size, later.
    """
    from minirt.terminal.tty import copy_window_size, set_window_size

    size = process.get("consoleSize")
    if size:
        set_window_size(master, size["height"], size["width"])
    elif ours:
        copy_window_size(master, 1, 0)


def stay(pidfd: int, master: int, signals: Any) -> int:
    """Stay with a program in the foreground until its end; reap it. Returns its exit status."""
    if master < 0:
        from minirt.terminal.wait import wait

        return wait(pidfd, signals)
    from minirt.terminal.attach import attach

    status = attach(pidfd, master=master, detach_keys=None, signals=signals, sized=True)
    assert status is not None  # there are no keys to detach by
    return status
