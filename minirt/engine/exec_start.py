"""One more process in a container, begun as the child of a monitor of its own, and left to that."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack

from minirt.engine import monitor as m
from minirt.engine.container import Conflict
from minirt.engine.exec import Joining, make_context
from minirt.engine.left import hand_over_terminal, place, streams
from minirt.engine.removal import running, while_running
from minirt.errors import MinirtError
from minirt.linux.process import start_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minirt.engine.container import Container
    from minirt.engine.execs import Exec
    from minirt.engine.options import RunOptions
    from minirt.plan.birth import Birth

__all__ = ["start"]


def start(exec: Exec, before: Callable[[], object], console_size: list[int] | None = None) -> None:
    """Start one, and leave it to its monitor.

    Args:
        exec: which.
        before: called when that listens, before the program begins.
        console_size: rows and columns of its terminal.

    Raises: Conflict, MinirtError.
    """
    with while_running(exec.container):  # its directory goes with the container
        begin(exec, before, console_size)


def begin(exec: Exec, before: Callable[[], object], console_size: list[int] | None) -> None:
    """Start one, if nobody else has, in a container that runs."""
    try:
        os.close(os.open(f"{exec.path}/begun", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        raise Conflict(f"exec {exec.id[:12]} was started already") from None
    options, container = exec.options, exec.container
    options.console_size = console_size or []
    with ExitStack() as undo:
        os.close(running(container))
        monitor = undo.enter_context(m.Monitor())
        place(monitor, exec.path)
        monitor.order(m.EXIT, text=m.words(*m.interpreter("minirt.engine.exec_ended", f"{container.id}/{exec.id}")))
        before()
        try:
            Left(options, make_context(container, options), container, undo, monitor).begin(exec)
        except MinirtError as error:
            exec.note("exit", f"{error.exit_code << 8} {time.time()}")  # as the monitor would write it
            exec.tell("exec_die")
            raise


class Left(Joining):
    """The birth of a process that joins, and is left to a monitor."""

    def __init__(self, options: RunOptions, context: Any, container: Container, undo: ExitStack, monitor: m.Monitor) -> None:
        super().__init__(options, context, container, undo)
        self.monitor = monitor

    def begin(self, exec: Exec) -> None:
        """Give birth to it, and leave it. Raises: MinirtError, with docker's 126 and 127."""
        birth = self.bear(streams(self.monitor, self.options, self.undo), self.monitor)
        exec.note("process", f"{birth.pid} {start_time(birth.pid)}")
        exec.tell("exec_start")  # before its end can be told
        self.monitor.order(m.GO)
        birth.reaped()

    def stand(self, name: str, birth: Birth) -> None:
        """Tell the monitor whose parent it is, and do what a barrier is for."""
        self.monitor.order(m.CHILD, birth.pid)
        super().stand(name, birth)

    def console(self, birth: Birth) -> None:
        """Hand the terminal's master on."""
        hand_over_terminal(self.monitor, birth, self.options)
