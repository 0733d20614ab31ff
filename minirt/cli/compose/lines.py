"""What several containers write, as it comes, each line with its container's name."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.engine.container import Container

__all__ = ["follow"]


def follow(
    found: list[Container], *, prefix: bool = True, tail: int | None = None, since: str = "", until: str = "", more: bool = True,
    timestamps: bool = False,
) -> None:  # fmt: skip
    """Print the lines of several containers as they come, each with its container's name."""
    import queue
    import threading

    from minirt.engine.logs import lines

    width = max((len(container.label) for container in found), default=0)
    waiting: queue.Queue[tuple[str, str] | None] = queue.Queue(1000)

    def read(container: Container) -> None:
        try:
            for line in lines(container, tail, since, until, more):
                waiting.put((container.label, f"{line.time} {line.text}" if timestamps else line.text))
        finally:
            waiting.put(None)

    for container in found:
        threading.Thread(target=read, args=(container,), daemon=True).start()
    left = len(found)
    while left:
        line = waiting.get()
        if line is None:
            left -= 1
            continue
        text = line[1] if line[1].endswith("\n") else f"{line[1]}\n"
        sys.stdout.write(f"{line[0].ljust(width)}  | {text}" if prefix else text)
        sys.stdout.flush()
