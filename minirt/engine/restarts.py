"""--restart: which policies there are, and when a container that has ended is started again."""

from __future__ import annotations

import os

from minirt.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.engine.container import Container

__all__ = ["FIRST", "MOST", "STEADY", "is_stopped", "next_start", "restart_policy"]

FIRST, MOST = 0.1, 60.0  # seconds before the first start anew, doubled each time up to the most
STEADY = 10.0  # after so many seconds of life it begins anew with FIRST


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


def is_stopped(container: Container) -> bool:
    """Say whether somebody wants it to have ended."""
    return os.path.exists(f"{container.path}/stop")
