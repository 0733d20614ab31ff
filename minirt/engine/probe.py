"""One health check, which the monitor has begun: the command is run in the container, and how it came out is written down.

    probe ID

Its own exit status is for the monitor's clock: 0 if the container is healthy.
"""

from __future__ import annotations

import os
import select
import time
from contextlib import ExitStack

from minirt.engine.container import Container
from minirt.engine.exec import Joining, make_context
from minirt.engine.health import OUTPUT, Check, check_of, record
from minirt.errors import MinirtError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.plan.birth import Birth

__all__ = ["main", "probe"]

GRACE = 10.0  # s that the kernel has for a killed command


def probe(container: Container, check: Check) -> tuple[int, str]:
    """Run a check's command. Returns its exit status, -1 where it took too long, and what it wrote, at most OUTPUT bytes."""
    from minirt.engine.options import RunOptions

    options = RunOptions(container.state["image"], check.command)
    with ExitStack() as undo:
        context = make_context(container, options)
        reader, writer = os.pipe2(os.O_CLOEXEC)
        undo.callback(os.close, reader)
        stdin = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        undo.callback(os.close, stdin)
        try:
            birth = Joining(options, context, container, undo).bear((stdin, writer, writer))
        finally:
            os.close(writer)
        return stay(birth, reader, check.timeout)


def stay(birth: Birth, reader: int, seconds: float) -> tuple[int, str]:
    """Take what the command writes until its end, and kill it when its time is over. Returns as `probe`."""
    import signal

    poll, end, written, over = select.poll(), time.monotonic() + seconds, b"", False
    poll.register(birth.pidfd, select.POLLIN)
    poll.register(reader, select.POLLIN)
    os.set_blocking(reader, False)
    while True:
        ready = dict(poll.poll(max(0.0, end - time.monotonic()) * 1000))
        while reader in ready and (data := read(reader)) is not None:
            written = (written + data)[:OUTPUT]
            if not data:  # its end: from now on the command's own is waited for
                poll.unregister(reader)
                break
        if birth.pidfd in ready:
            while (data := read(reader)):
                written = (written + data)[:OUTPUT]
            break
        if not ready and not over:
            over, end = True, time.monotonic() + GRACE
            signal.pidfd_send_signal(birth.pidfd, signal.SIGKILL)
        elif not ready:
            break
    if over:
        return -1, f"Health check exceeded timeout ({seconds:g}s)"
    return birth.wait(), written.decode(errors="replace")


def read(fd: int) -> bytes | None:
    """Return what there is to be read, nothing at the end, None where there is nothing yet."""
    try:
        return os.read(fd, 65536)
    except BlockingIOError:
        return None


def main(id: str) -> int:
    """Do one check of the container with this id."""
    from minirt.engine.asked import load_options
    from minirt.image.store import Store
    from minirt.paths import data_root

    container = Container.load(id)
    if container is None or not container.running:
        return 1
    if container.paused:
        return 1  # paused: there is nothing to be seen
    image = Store(os.path.join(data_root(), "image")).held(id)
    check = check_of(load_options(container), image.config.get("config") or {})
    if check is None:
        return 1
    began = time.time()
    try:
        code, output = probe(container, check)
    except MinirtError as error:
        code, output = error.exit_code, str(error)
    return 0 if record(container, check, began, time.time(), code, output) == "healthy" else 1
