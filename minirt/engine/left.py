"""What a monitor is given of a process that it will stay with: a place for what it writes down, the streams or the terminal."""

from __future__ import annotations

import os
from contextlib import closing, suppress

from minirt.engine import monitor as m

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import ExitStack

    from minirt.engine.options import RunOptions
    from minirt.plan.birth import Birth

__all__ = ["hand_over_terminal", "place", "streams"]

PIPE = 1 << 18  # bytes that a program may be ahead of its monitor


def place(monitor: m.Monitor, path: str) -> None:
    """Give it a directory, for `exit` and the log, and let it listen at `attach` there."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        monitor.order(m.PLACE, fds=[fd])
    finally:
        os.close(fd)
    with closing(m.listen(f"{path}/attach")) as listener:
        monitor.order(m.ATTACH, fds=[listener.fileno()])


def streams(monitor: m.Monitor, options: RunOptions, undo: ExitStack) -> tuple[int, int, int]:
    """Return the program's descriptors 0, 1, 2, which `undo` closes here; the monitor has the other ends."""
    nowhere = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    undo.callback(os.close, nowhere)
    if options.tty:
        return nowhere, nowhere, nowhere
    stdin = nowhere
    if options.interactive:
        stdin, theirs = pipe(undo)
        monitor.order(m.INPUT, int(options.stdin_once), fds=[theirs])
    outputs = []
    for stream in (m.SHOWN, m.ERROR):
        theirs, writer = pipe(undo)
        monitor.order(m.OUTPUT, stream, fds=[theirs])
        outputs.append(writer)
    return stdin, outputs[0], outputs[1]


def pipe(undo: ExitStack) -> tuple[int, int]:
    """Return a pipe's two ends, which are closed here when the program has them.

    It takes more than the usual 64 KiB, so that a program that writes much need not take turns with its monitor so often.
    """
    import fcntl

    ends = os.pipe2(os.O_CLOEXEC)
    with suppress(OSError):  # EPERM where the user's pipes take too much already (man 7 pipe, pipe-user-pages-soft)
        fcntl.fcntl(ends[0], fcntl.F_SETPIPE_SZ, PIPE)
    for fd in ends:
        undo.callback(os.close, fd)
    return ends


def hand_over_terminal(monitor: m.Monitor, birth: Birth, options: RunOptions) -> None:
    """Give it the terminal's master, which has come from the child; with its size, before the program can ask."""
    from minirt.terminal.tty import copy_window_size, set_window_size

    master, birth.received = birth.received, -1
    try:
        rows, columns = options.console_size or (24, 80)  # until a client says how large it is
        set_window_size(master, rows, columns)
        if not options.console_size:
            copy_window_size(master, 1, 0)
        monitor.order(m.TTY, fds=[master])
    finally:
        os.close(master)
