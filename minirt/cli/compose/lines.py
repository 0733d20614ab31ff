"""What several containers write, as it comes, each line with its container's name."""

from __future__ import annotations

import sys
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from minirt.engine.container import Container

__all__ = ["Lines", "follow"]


class Lines:
    """The lines of several containers, each read by a thread, printed by one.

    Args:
        prefix: print each container's name before its lines.
        tail, since, until: as minirt.engine.logs.lines has them; more: its `follow`.
        timestamps: print when each line was written.
    """

    def __init__(
        self, *, prefix: bool = True, tail: int | None = None, since: str = "", until: str = "", more: bool = True,
        timestamps: bool = False,
    ) -> None:  # fmt: skip
        import queue

        self.prefix = prefix
        self.tail = tail
        self.since = since
        self.until = until
        self.more = more
        self.timestamps = timestamps
        self.width = 0  # of the longest name
        self.waiting: queue.Queue[tuple[str, str] | None] = queue.Queue(1000)
        self.left = 0  # containers whose end has not been met when printing
        self.read: dict[str, tuple[float, str]] = {}  # of each container: which of its lives, and when its last line was written
        self.reading: set[str] = set()
        self.broken = False  # nobody takes what is printed

    def add(self, found: Sequence[Container]) -> None:
        """Read what these write, too; of one that was read to its end what it writes since it was started again."""
        self.width = max([self.width, *(len(container.label) for container in found)])
        for container in found:
            life, last = container.state.get("started") or 0.0, ""
            if container.id in self.read:
                before, last = self.read[container.id]
                if container.id in self.reading or life == before:
                    continue
            self.read[container.id] = (life, last)
            self.reading.add(container.id)
            self.left += 1
            threading.Thread(target=self._read, args=(container, life, last), daemon=True).start()

    def _read(self, container: Container, life: float, last: str) -> None:
        from minirt.engine.logs import lines
        from minirt.errors import MinirtError

        try:
            for line in lines(container, self.tail, max(self.since, last), self.until, self.more):
                if not last or line.time > last:
                    self.waiting.put((container.label, f"{line.time} {line.text}" if self.timestamps else line.text))
                    last = line.time
        except MinirtError as error:  # such as of one that keeps no log
            print(f"minirt: {error}", file=sys.stderr)
        finally:
            self.read[container.id] = (life, last)
            self.reading.discard(container.id)
            self.waiting.put(None)

    def show(self) -> None:
        """Print them until all containers have ended."""
        while self.left:
            self._next()

    def show_beside(self) -> None:
        """Print them in a thread, whatever containers come and go, until nobody takes it (`broken`)."""

        def show() -> None:
            try:
                while True:
                    self._next()
            except OSError:
                self.broken = True

        threading.Thread(target=show, daemon=True).start()

    def _next(self) -> None:
        line = self.waiting.get()
        if line is None:
            self.left -= 1
            return
        text = line[1] if line[1].endswith("\n") else f"{line[1]}\n"
        sys.stdout.write(f"{line[0].ljust(self.width)}  | {text}" if self.prefix else text)
        sys.stdout.flush()


def follow(
    found: Sequence[Container], *, prefix: bool = True, tail: int | None = None, since: str = "", until: str = "",
    more: bool = True, timestamps: bool = False,
) -> None:  # fmt: skip
    """Print the lines of several containers as they come, each with its container's name."""
    lines = Lines(prefix=prefix, tail=tail, since=since, until=until, more=more, timestamps=timestamps)
    lines.add(found)
    lines.show()
