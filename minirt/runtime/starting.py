"""start: a byte into the FIFO at which a created container waits; its process becomes the program."""

from __future__ import annotations

import os

from minirt.errors import MinirtError
from minirt.plan.layout import last_result
from minirt.runtime import hooks
from minirt.runtime.container import Container, RuntimeFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable
else:
    import _signal  # the C half: see minirt.terminal.wait

__all__ = ["start"]


def start(root: str, id: str, warn: Callable[[str], None]) -> int:
    """Start a created container. Raises: RuntimeFailure."""
    container = Container(root, id).load(lock=True)
    status = container.status()
    if status == "stopped":
        raise RuntimeFailure("cannot start a container that has stopped")
    if status == "running":
        raise RuntimeFailure("cannot start an already running container")
    if status != "created":
        raise RuntimeFailure(f"cannot start a container in the {status} state")
    config = container.config
    try:
        state = container.oci_state("created")
        hooks.run_inside("startContainer", hooks.of(config, "startContainer"), state, container.pid)
        release(container)
        hooks.run_outside("poststart", hooks.of(config, "poststart"), container.oci_state("running"))
    except MinirtError:
        kill_first(container)
        raise
    return 0  # nothing is to be written down: that it runs is told by the FIFO, which is gone (`Container.status`)


def release(container: Container) -> None:
    """Write the byte, and see whether the program started. Raises: RuntimeFailure.

    Its end of the FIFO is close-on-exec: when nobody reads any more (POLLERR), it has become the program, or has died.
    """
    import select

    try:
        fd = os.open(container.fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.write(fd, b"0")
    except OSError:
        raise RuntimeFailure("container process is already dead") from None
    poll = select.poll()
    poll.register(fd, 0)
    poll.poll()
    os.close(fd)
    os.unlink(container.fifo)
    result = last_result(f"{container.path}/plan")
    if -4096 < result < 0:
        args = (container.config.get("process") or {}).get("args") or [""]
        raise RuntimeFailure(f'exec: "{args[0]}": {os.strerror(-result).lower()}')


def kill_first(container: Container) -> None:
    """Kill a container's first process."""
    try:
        fd = container.pidfd()
    except RuntimeFailure:
        return
    _signal.pidfd_send_signal(fd, _signal.SIGKILL)
    os.close(fd)
