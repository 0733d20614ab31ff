"""What the monitor runs when a container has ended: tidy up, write down how it was, start it again where that is wanted.

    ended ID        with the lock that makes the container ours as descriptor 3

It is a command of its own because a monitor lives as long as a container, and an interpreter should not.
"""

from __future__ import annotations

import os
import time

from minirt.engine.container import Container, died_attributes
from minirt.engine.gc import clear
from minirt.errors import MinirtError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.engine.execs import Exec

__all__ = ["end", "exit_code", "main", "next_start", "read_exit", "restart_policy"]

LOCK = 3
FIRST, MOST = 0.1, 60.0  # seconds before the first start anew, doubled each time up to the most
STEADY = 10.0  # after so many seconds of life it begins anew with FIRST
LOOK = 0.05  # s between two looks whether its end is wanted


def read_exit(container: Container | Exec) -> tuple[int, float] | None:
    """Return the exit code and when it was (s since 1970), as the monitor wrote them down; None while it runs."""
    try:
        with open(f"{container.path}/exit", encoding="ascii") as file:
            status, when = file.read().split()
    except FileNotFoundError:
        return None
    return exit_code(int(status)), float(when)


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


def restart_policy(text: str) -> tuple[str, int]:
    """Return --restart's policy, and the most tries (0: any number). Raises: UsageError."""
    policy, colon, most = text.partition(":")
    if policy not in ("no", "always", "unless-stopped", "on-failure") or (colon and (policy != "on-failure" or not most.isdigit())):
        raise UsageError(f"--restart {text}: there are no, always, unless-stopped, on-failure[:TIMES]")
    return policy, int(most or 0)


def next_start(policy: str, code: int | None, restarts: int, tries: int, wanted: bool) -> float | None:
    """Return after how many seconds a container is started again, None where it is not.

    The n-th time in a row after FIRST * 2**n seconds, at most MOST, as docker does; on-failure:N counts all times.

    Args:
        policy: --restart.
        code: its exit code.
        restarts: how often it was started again since somebody started it.
        tries: how often in a row, with no life of STEADY between.
        wanted: whether somebody ended it (minirt stop).
    """
    name, most = restart_policy(policy)
    if wanted or name == "no" or (name == "on-failure" and (code == 0 or (most and restarts >= most))):
        return None
    return min(FIRST * float(2 ** min(tries, 20)), MOST)


def exit_code(status: int) -> int:
    """Return docker's exit code for a status of wait(2)."""
    try:
        code = os.waitstatus_to_exitcode(status)
    except ValueError as error:
        raise MinirtError(f"no status of wait(2): {status}") from error
    return code if code >= 0 else 128 - code


def wait_unless_stopped(container: Container, seconds: float) -> bool:
    """Wait, and say whether it may be started then: not if somebody wants it ended, or --restart is another by then."""
    end = time.monotonic() + seconds
    while not is_stopped(container) and time.monotonic() < end:
        time.sleep(LOOK)
    fresh = Container.load(container.id)
    return not is_stopped(container) and fresh is not None and restart_policy(fresh.state["restart"])[0] != "no"


def is_stopped(container: Container) -> bool:
    """Say whether somebody wants it to have ended."""
    return os.path.exists(f"{container.path}/stop")


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
