"""Attach to a container that has a monitor: its streams or its terminal become ours as well."""

from __future__ import annotations

import os
from contextlib import closing

from minirt.engine import monitor
from minirt.engine.container import Container, ContainerError
from minirt.engine.control import running
from minirt.engine.ended import read_exit
from minirt.engine.start import exit_code, load_options, start

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

__all__ = ["attach", "connect", "start_attached", "stay"]


def connect(container: Container) -> socket.socket:
    """Return a connection to a container's monitor. Raises: ContainerError."""
    try:
        return monitor.connect(f"{container.path}/attach")
    except OSError:
        raise ContainerError(f"container {container.label} has no monitor: it does not run, or was run in the foreground") from None


def start_attached(container: Container, stdin: bool, keys: str = "") -> int:
    """Start a container and stay with it. Returns its exit code, 0 if the user detached. Raises: MinirtError.

    We are attached before its program begins, so that nothing is missed.
    """
    clients: list[socket.socket] = []
    start(container, before=lambda: clients.append(connect(container)))
    pidfd = os.pidfd_open(container.state["pid"]) if container.running else -1
    try:
        with closing(clients[0] if clients else connect(container)) as client:
            return stay(container, client, pidfd, stdin, keys, True) or 0
    finally:
        if pidfd >= 0:
            os.close(pidfd)


def attach(container: Container, *, stdin: bool = True, keys: str = "", sig_proxy: bool = True) -> int | None:
    """Attach to a container that runs. Returns its exit code, None if the user detached. Raises: ContainerError."""
    pidfd = running(container)
    try:
        with closing(connect(container)) as client:
            return stay(container, client, pidfd, stdin, keys, sig_proxy)
    finally:
        os.close(pidfd)


def stay(container: Container, client: socket.socket, pidfd: int, stdin: bool, keys: str, sig_proxy: bool) -> int | None:
    """Stay with a container whose monitor we are connected to. Returns as `attach`."""
    from minirt.terminal.client import Client
    from minirt.terminal.detach_keys import parse_detach_keys
    from minirt.terminal.wait import Signals

    options = load_options(container)
    detach = parse_detach_keys(keys or options.detach_keys) if options.tty else b""
    with Signals(sig_proxy and not options.tty) as signals:
        status = Client(client, pidfd, options.tty, detach, stdin and options.interactive).stay(signals)
    if status is not None:
        return exit_code(status)
    ended = read_exit(container) if not container.running else None
    return ended[0] if ended else None
