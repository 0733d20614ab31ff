"""What the monitor runs when a container has ended: tidy up, write down how it was, start it again where that is wanted.

    ended ID        with the lock that makes the container ours as descriptor 3

It is a command of its own because a monitor lives as long as a container, and an interpreter should not.
"""

from __future__ import annotations

import os
import time

from minirt.engine.container import Container, died_attributes
from minirt.engine.exits import read_exit
from minirt.engine.gc import clear
from minirt.engine.restarts import STEADY, is_stopped, next_start, restart_policy
from minirt.errors import MinirtError

__all__ = ["end", "main"]

LOCK = 3
LOOK = 0.05  # s between two looks whether its end is wanted


def end(container: Container) -> float | None:
    """Remove what the container needed to run, and write down how it ended. The caller owns it.

    Returns: after how many seconds it is started again, None if it is not.
    """
    state = container.state
    code, when = read_exit(container) or (None, time.time())
    killed = oom_killed(container)
    clear(container.id, keep=True)
    lived = when - (state["started"] or when)
    tries = state["tries"] if lived < STEADY else 0
    delay = next_start(state["restart"], code, state["restarts"], tries, is_stopped(container))
    again = {} if delay is None else {"tries": tries + 1, "restarts": state["restarts"] + 1}
    happened = [*([("oom", {})] if killed else []), ("die", died_attributes(code, lived))]
    status = "exited" if delay is None else "restarting"
    container.save(happened, status=status, pid=0, exit_code=code, finished=when, oom_killed=killed, **again)
    return delay


def oom_killed(container: Container) -> bool:
    """Say whether the kernel's out-of-memory killer ended a process of it, which its cgroup has counted."""
    from minirt.engine.gc import groups
    from minirt.linux.cgroup_group import Cgroup

    return any(Cgroup.open(group).oom_kills() for group in groups(container.id))


def wait_unless_stopped(container: Container, seconds: float) -> bool:
    """Wait, and say whether it may be started then: not if somebody wants it ended, or --restart is another by then."""
    end = time.monotonic() + seconds
    while not is_stopped(container) and time.monotonic() < end:
        time.sleep(LOOK)
    fresh = Container.load(container.id)
    return not is_stopped(container) and fresh is not None and restart_policy(fresh.state["restart"])[0] != "no"


def main(id: str) -> int:
    """Do all of that for the container with this id."""
    container = Container.load(id)
    if container is None:
        return 0
    container.owner = LOCK
    os.set_inheritable(LOCK, False)
    delay = end(container)
    if container.state["rm"]:
        container.remove()
        return 0
    if delay is None:
        return 0
    if not wait_unless_stopped(container, delay):
        container.save(status="exited")
        return 0
    from minirt.engine.start import start

    try:
        start(container, owned=True)
    except MinirtError as error:
        container.save(status="exited", error=str(error))
        return 1
    return 0
