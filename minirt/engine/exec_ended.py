"""What the monitor of an exec runs when that has ended: its end is told, whoever waits for it.

    exec_ended CONTAINER/EXEC
"""

from __future__ import annotations

from minirt.engine.container import Container
from minirt.engine.execs import Exec

__all__ = ["main"]


def main(name: str) -> int:
    """Tell that this one has ended, and how."""
    id, _, exec = name.partition("/")
    container = Container.load(id)
    if container is not None:
        Exec(container, exec).tell("exec_die")
    return 0
