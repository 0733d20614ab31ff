"""A project's containers found by their labels, and waited for: depends_on's conditions, and `up --wait`."""

from __future__ import annotations

import time

from minirt.compose.project import Project
from minirt.compose.service import NUMBER, ONEOFF, PROJECT, SERVICE
from minirt.compose.text import ComposeError
from minirt.engine.container import Container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["number_of", "of_project", "orphans", "wait_ready"]

LOOK = 0.1  # s between two looks at a container that is waited for


def of_project(name: str, service: str = "", oneoff: bool = False) -> list[Container]:
    """Return a project's containers, those of one service or of all, by service and number. Args: oneoff, those of `run` too."""
    from minirt.engine.container import containers
    from minirt.engine.gc import mend

    def fits(labels: Mapping[str, str]) -> bool:
        wanted = oneoff or labels.get(ONEOFF) != "True"
        return wanted and labels.get(PROJECT) == name and (not service or labels.get(SERVICE) == service)

    found = [c for c in containers() if fits(c.state.get("labels") or {}) and mend(c)]
    return sorted(found, key=lambda c: (c.state["labels"].get(SERVICE, ""), number_of(c)))


def number_of(container: Container) -> int:
    """Return which of its service's containers one is, from 1."""
    text = (container.state.get("labels") or {}).get(NUMBER, "0")
    return int(text) if text.isdecimal() else 0


def orphans(project: Project) -> list[Container]:
    """Return the project's containers of services that its files do not have."""
    return [c for c in of_project(project.name) if c.state["labels"].get(SERVICE) not in project.everything]


def wait_ready(
    project: Project, name: str, condition: str, until: float | None = None,
    say: Callable[[str, str], None] = lambda what, done: None, over: Callable[[], bool] = lambda: False,
) -> bool:  # fmt: skip
    """Wait until a service's containers are as somebody who depends on them needs.

    Args:
        condition: of depends_on.
        until: on the clock of time.monotonic.
        say: told what each is when that changes.
        over: asked whether to wait no longer.

    Returns: whether they are. Raises: ComposeError where they will not be, or not in time.
    """
    told: dict[str, str] = {}
    while True:
        found = [(one, Container.load(one.id)) for one in of_project(project.name, name)]
        verdicts = [verdict(container, condition) for _, container in found]
        for (one, container), text in zip(found, verdicts, strict=True):
            word = "" if container is None else word_for(container, text, condition)
            if word and word != told.get(one.id) and (text == "wait" or one.id in told):  # what need not be waited for is not told
                say(f"Container {one.label}", word)
                told[one.id] = word
        bad = next((text for text in verdicts if text not in ("", "wait")), "")
        if bad:
            raise ComposeError(f"service {name} {bad}")
        if all(text == "" for text in verdicts):
            return True
        if over():
            return False
        if until is not None and time.monotonic() > until:
            raise ComposeError(f"service {name} is not ready in time ({condition.replace('_', ' ')})")
        time.sleep(LOOK)


def word_for(container: Container, text: str, condition: str) -> str:
    """Return what is told of a container that is waited for, by its verdict."""
    if text == "wait":
        if container.state.get("status") == "restarting":
            return f"Restarting ({container.exit_code}): minirt logs {container.label}"
        return "Waiting"
    return {"service_healthy": "Healthy", "service_completed_successfully": "Exited"}.get(condition, "Running") if not text else ""


def verdict(container: Container | None, condition: str) -> str:
    """Say of a container nothing where it is ready, `wait` where it may become so, else why it never will."""
    from minirt.engine.inspect import status_of

    if container is None:
        return "is gone"
    status, code, health = status_of(container), container.state.get("exit_code"), container.state.get("health") or ""
    if condition == "service_completed_successfully":
        if status in ("exited", "dead"):
            return "" if code == 0 else f"ended with exit code {code}: minirt logs {container.label}"
        return "wait"
    if status in ("exited", "dead"):
        return f"ended with exit code {code}: minirt logs {container.label}"
    if condition == "service_healthy":
        if not health:
            return "has no health check, and service_healthy is waited for"
        return "" if health == "healthy" else "wait" if health == "starting" else f"is unhealthy: minirt inspect {container.label}"
    return "" if status in ("running", "paused") else "wait"
