"""Health checks: a command that is run in a container now and then, and what its exit status says of it.

    image's HEALTHCHECK, --health-* ─check_of─▶ Check ─orders─▶ the monitor's clock ─▶ probe.py, once a check ─▶ record

The monitor has the clock, as it is there anyway; each check is a command of its own, as an interpreter that waits for the next
would cost ten times what the monitor does. No event is told of a check but of the change that follows from it (health_status):
docker tells three of each.

Source: Docker's Engine API, HealthConfig and Health; Dockerfile reference, HEALTHCHECK
"""

from __future__ import annotations

import json

from minirt.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.engine.container import Container
    from minirt.engine.options import RunOptions

__all__ = ["Check", "begin", "check_of", "merged", "record", "told"]

INTERVAL, TIMEOUT, START_INTERVAL, RETRIES = 30.0, 30.0, 5.0, 3  # docker's defaults, in s; the start period is 0
LEAST = 10**6  # ns: docker refuses less than a millisecond
KEPT = 5  # results
OUTPUT = 4096  # bytes of each


class Check:
    """How a container is checked, from an object as Docker's Engine API has it (HealthConfig).

    Args:
        config: Test, Interval, Timeout, StartPeriod, StartInterval (ns), Retries; what is missing or 0 has its default.
        shell: the image's, for CMD-SHELL.
    """

    def __init__(self, config: dict[str, Any], shell: list[str] | None = None) -> None:
        kind, *words = config["Test"]
        self.command: list[str] = [*(shell or ["/bin/sh", "-c"]), *words] if kind == "CMD-SHELL" else words
        self.interval: float = config.get("Interval", 0) / 1e9 or INTERVAL
        self.timeout: float = config.get("Timeout", 0) / 1e9 or TIMEOUT
        self.start_period: float = config.get("StartPeriod", 0) / 1e9
        self.start_interval: float = config.get("StartInterval", 0) / 1e9 or START_INTERVAL
        self.retries: int = config.get("Retries", 0) or RETRIES


def merged(own: dict[str, Any] | None, image: dict[str, Any]) -> dict[str, Any] | None:
    """Return a container's HealthConfig: what it was asked for, and the image's where that says nothing. None where it has none.

    Args: own, the container's; image, the image's `config` object. Raises: UsageError.
    """
    chosen = {**(image.get("Healthcheck") or {}), **{key: value for key, value in (own or {}).items() if value}}
    test = chosen.get("Test") or ()
    if not test or test[0] == "NONE":
        return None
    if test[0] not in ("CMD", "CMD-SHELL") or len(test) < 2:
        raise UsageError(f"health check {json.dumps(test)}: it begins with NONE, CMD or CMD-SHELL, and a command follows")
    for key in ("Interval", "Timeout", "StartPeriod", "StartInterval"):
        if 0 != chosen.get(key, 0) < LEAST:
            raise UsageError(f"health check: {key} is {chosen[key]} ns; the least is a millisecond")
    if chosen.get("Retries", 0) < 0:
        raise UsageError("--health-retries: it cannot be negative")
    return chosen


def check_of(options: RunOptions, image: dict[str, Any]) -> Check | None:
    """Return how a container is checked, None where it is not. Args: image, the image's `config` object. Raises: UsageError."""
    config = merged(options.healthcheck, image)
    return None if config is None else Check(config, image.get("Shell"))


def begin(container: Container, check: Check | None) -> dict[str, Any]:
    """Forget the failures of the life before. Returns what to write down when it starts."""
    if check is None:
        return {"health": ""}
    from minirt.state.schema import State

    with State() as base:
        base.execute("INSERT INTO health (container) VALUES (?) ON CONFLICT DO UPDATE SET streak = 0", (container.id,))
    return {"health": "starting"}


def record(container: Container, check: Check, began: float, ended: float, code: int, output: str) -> str:
    """Write down how a check came out, and what follows from it; nothing if the container has ended or started anew meanwhile.

    Args:
        container: as it was when the check began.
        check: which.
        began, ended: s since 1970.
        code: exit status; 0 is healthy, -1 is one that took too long.
        output: what it wrote.

    Returns: the container's health.
    """
    from minirt.engine.inspect import moment
    from minirt.state.containers import change, one
    from minirt.state.schema import State

    with State() as base:
        state = one(base, container.id)
        row = base.execute("SELECT streak, log FROM health WHERE container = ?", (container.id,)).fetchone()
        if state is None or row is None or state["status"] != "running" or state["started"] != container.state["started"]:
            return ""
        streak, status = row["streak"], state["health"]
        if code == 0:
            streak, status = 0, "healthy"
        elif status != "starting" or began - state["started"] >= check.start_period:
            streak += 1
            status = "unhealthy" if streak >= check.retries else status
        entry = {"Start": moment(began), "End": moment(ended), "ExitCode": code, "Output": output}
        log = [*json.loads(row["log"]), entry][-KEPT:]
        base.execute("UPDATE health SET streak = ?, log = ? WHERE container = ?", (streak, json.dumps(log), container.id))
        if status != state["health"]:
            change(base, container.id, {"health": status})
            container.note(base, [(f"health_status: {status}", {})])
    return str(status)


def told(container: Container) -> dict[str, Any] | None:
    """Return the Health object of `inspect`, None for a container without a check."""
    from minirt.state.schema import State

    if not container.state["health"]:
        return None
    with State(look=True) as base:
        row = base.execute("SELECT streak, log FROM health WHERE container = ?", (container.id,)).fetchone()
    streak, log = (row["streak"], json.loads(row["log"])) if row else (0, [])
    return {"Status": container.state["health"], "FailingStreak": streak, "Log": log}
