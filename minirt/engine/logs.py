"""What a detached container wrote: which lines of its log, from the end or as they come."""

from __future__ import annotations

import os
import time

from minirt.engine.moments import moment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from minirt.engine.container import Container
    from minirt.engine.log_reader import Line

__all__ = ["check_kept", "details", "lines"]

LOOK = 0.05  # s between two looks whether there is more


def lines(
    container: Container, tail: int | None = None, since: str = "", until: str = "", follow: bool = False,
    wanted: Callable[[], bool] = lambda: True,
) -> Iterator[Line]:  # fmt: skip
    """Yield the lines of a container's log.

    Raises: ContainerError where it is kept nowhere.

    Args:
        container: whose.
        tail: only so many from the end, and what comes after them.
        since, until: only those of this time and later, before this time; as `moment` gives them.
        follow: wait for more until the container has ended.
        wanted: asked meanwhile whether anybody is still there to read them.
    """
    from minirt.engine.log_reader import Reader

    def chosen(line: Line) -> bool:
        return line.time >= since and (not until or line.time < until)

    check_kept(container)
    reader = Reader(container.path)
    yield from filter(chosen, reader.read()) if tail is None else reader.tail(tail, chosen)
    while follow and not reader.ended and wanted():
        over = not still_written(container)  # asked before: what was written until then is read now
        over = over or bool(until and until <= moment(str(time.time())))
        for line in reader.read():
            if until and line.time >= until:
                return
            if line.time >= since:
                yield line
        if over:
            return
        time.sleep(LOOK)


def check_kept(container: Container) -> None:
    """Refuse a container whose output nobody keeps. Raises: ContainerError."""
    from minirt.engine.asked import load_options
    from minirt.engine.container import ContainerError

    try:
        driver = load_options(container).log_driver
    except ContainerError:
        raise ContainerError(f"container {container.label} was run in the foreground: its output went there") from None
    if driver == "none":
        raise ContainerError(f"container {container.label} keeps no log (--log-driver none)")


def details(container: Container) -> str:
    """Return what `logs --details` says of each line: the labels and variables that --log-opt labels=... and env=... name."""
    from minirt.engine.asked import load_options
    from minirt.engine.inspect import load

    process = load(f"{container.path}/config.json").get("process") or {}
    environment = dict(item.partition("=")[::2] for item in process.get("env", ()))
    found: dict[str, str] = {}
    for text in load_options(container).log_opt:
        key, _, names = text.partition("=")
        source = {"labels": container.state["labels"], "env": environment}.get(key, {})
        found |= {name: source[name] for name in names.split(",") if name in source}
    return ",".join(f"{name}={value}" for name, value in sorted(found.items()))


def still_written(container: Container) -> bool:
    """Say whether a monitor is with the container: also while it waits to start it anew."""
    from minirt.engine import owner

    fd = owner.take(container.path)
    if fd >= 0:
        os.close(fd)
    return fd < 0 and os.path.isdir(container.path)
