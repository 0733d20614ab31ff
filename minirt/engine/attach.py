"""Attach to a container that has a monitor: its streams or its terminal become ours as well."""

from __future__ import annotations

import os
from contextlib import closing

from minirt.engine import monitor
from minirt.engine.asked import load_options
from minirt.engine.container import Conflict, Container, ContainerError
from minirt.engine.control import settle
from minirt.engine.exits import exit_code, read_exit
from minirt.engine.removal import running
from minirt.engine.start import create, run_detached, start
from minirt.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Collection

    from minirt.engine.options import RunOptions
    from minirt.image.store import Image
    from minirt.terminal.wait import Signals

__all__ = ["attach", "connect", "resize", "resize_by", "run_attached", "start_attached", "status_alone", "stay"]

LOOK = 0.2  # s between two looks whether anybody still waits


def connect(container: Container) -> socket.socket:
    """Return a connection to a container's monitor. Raises: ContainerError."""
    try:
        return monitor.connect(f"{container.path}/attach")
    except OSError:
        raise ContainerError(f"container {container.label} has no monitor: it does not run, or was run in the foreground") from None


def run_attached(options: RunOptions, image: Image | None = None) -> int:
    """Make a container, start it and stay with it: one that can be detached from, and attached to again.

    With --restart we stay for its first life, as docker does; the others are its monitor's.

    Returns: its exit code, 0 if the user detached. Raises: MinirtError; none is left then.
    """
    at = {stream.lower() for stream in options.attach} or {"stdin", "stdout", "stderr"}
    options.interactive = options.interactive and (options.tty or "stdin" in at)  # else nobody would ever end its input
    container = create(options, image)
    shown = {fd for fd, stream in ((1, "stdout"), (2, "stderr")) if stream in at}
    status = start_attached(container, options.interactive, sig_proxy=options.sig_proxy, begin=run_detached, shown=shown)
    if options.restart == "no" and not container.running:
        settle(container)  # with --rm it is gone when we are
    return status


def start_attached(
    container: Container, stdin: bool, keys: str = "", sig_proxy: bool = True, begin: Callable[..., Container] = start,
    shown: Collection[int] = (1, 2),
) -> int:  # fmt: skip
    """Start a container and stay with it. Returns its exit code, 0 if the user detached. Raises: MinirtError.

    We are attached before its program begins, so that nothing is missed.
    """
    from minirt.terminal.wait import Signals

    clients: list[socket.socket] = []
    with Signals(sig_proxy) as signals:  # those that come meanwhile are for its program
        begin(container, before=lambda: clients.append(connect(container)))
        try:
            pidfd = running(container)
        except Conflict:
            pidfd = -1  # it has ended already
        try:
            with closing(clients[0] if clients else connect(container)) as client:
                return stay(container, client, pidfd, stdin, keys, signals, shown) or 0
        finally:
            if pidfd >= 0:
                os.close(pidfd)


def attach(container: Container, *, stdin: bool = True, keys: str = "", sig_proxy: bool = True) -> int | None:
    """Attach to a container that runs. Returns its exit code, None if the user detached. Raises: ContainerError."""
    from minirt.terminal.wait import Signals

    pidfd = running(container)
    try:
        with closing(connect(container)) as client, Signals(sig_proxy) as signals:
            return stay(container, client, pidfd, stdin, keys, signals)
    finally:
        os.close(pidfd)


def stay(
    container: Container, client: socket.socket, pidfd: int, stdin: bool, keys: str, signals: Signals,
    shown: Collection[int] = (1, 2),
) -> int | None:  # fmt: skip
    """Stay with a container whose monitor we are connected to. Returns as `attach`. Args: shown, outputs that are ours."""
    from minirt.terminal.client import Client
    from minirt.terminal.detach_keys import parse_detach_keys

    container.tell("attach")
    options = load_options(container)
    detach = parse_detach_keys(keys or options.detach_keys) if options.tty else b""
    status = Client(client, pidfd, options.tty, detach, stdin and options.interactive, shown).stay(signals)
    if status is not None:
        return exit_code(status)
    ended = read_exit(container) if not container.running else None
    if ended is None:
        container.tell("detach")
    return ended[0] if ended else None


def status_alone(client: socket.socket, wanted: Callable[[], bool]) -> int | None:
    """Wait for a container's end, and take none of its output.

    Args:
        client: a connection to its monitor.
        wanted: asked now and then whether anybody still waits.

    Returns: the status as wait(2) gives it; None where the monitor has died, or nobody waits any more.
    """
    from contextlib import suppress

    client.settimeout(LOOK)
    coming = bytearray()
    try:
        client.sendall(monitor.frame(monitor.QUIET, b""))
        while wanted():
            with suppress(TimeoutError):
                if not (data := client.recv(65536)):
                    return None
                coming += data
            while len(coming) >= 8 and len(coming) >= 8 + (size := int.from_bytes(coming[4:8], "big")):
                if coming[0] == monitor.STATUS:
                    return int.from_bytes(coming[8 : 8 + size], "big")
                del coming[: 8 + size]
    except OSError:  # it has died
        pass
    return None


def resize(path: str, rows: int, columns: int) -> None:
    """Give a terminal a size. Args: path, the directory that its monitor has. Raises: Conflict where it has none now."""
    try:
        with closing(monitor.connect(f"{path}/attach")) as client:
            resize_by(client, rows, columns)
    except OSError:
        raise Conflict("it has no terminal now: it is not running") from None


def resize_by(client: socket.socket, rows: int, columns: int) -> None:
    """Give a terminal a size, by a connection to its monitor. Raises: UsageError, OSError."""
    if not (0 < rows < 1 << 16 and 0 < columns < 1 << 16):
        raise UsageError(f"a terminal of {rows} rows and {columns} columns: from 1 to 65535")
    client.sendall(monitor.frame(monitor.SIZE, rows.to_bytes(2, "big") + columns.to_bytes(2, "big")))
