"""How a process that has a monitor has ended, as the monitor wrote it down: a status of wait(2), and when."""

from __future__ import annotations

import os

from minirt.errors import MinirtError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.engine.container import Container
    from minirt.engine.execs import Exec

__all__ = ["exit_code", "read_exit"]


def read_exit(container: Container | Exec) -> tuple[int, float] | None:
    """Return the exit code and when it was (s since 1970), as the monitor wrote them down; None while it runs."""
    try:
        with open(f"{container.path}/exit", encoding="ascii") as file:
            status, when = file.read().split()
    except FileNotFoundError:
        return None
    return exit_code(int(status)), float(when)


def exit_code(status: int) -> int:
    """Return docker's exit code for a status of wait(2)."""
    try:
        code = os.waitstatus_to_exitcode(status)
    except ValueError as error:
        raise MinirtError(f"no status of wait(2): {status}") from error
    return code if code >= 0 else 128 - code
