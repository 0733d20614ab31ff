"""Print events for a person: the step and its reason, then each call decoded, with its time.

`Explainer` is a sink for `minirt.trace.Event`; minivm uses the same one for its ioctls and exits.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from minirt.trace import Event

__all__ = ["Explainer", "use_color"]

BOLD, DIM, RED, GREEN, CYAN, RESET = "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[36m", "\x1b[0m"


def use_color(stream: TextIO) -> bool:
    """Say whether to colour: on a terminal, unless NO_COLOR is set (https://no-color.org)."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and stream.isatty()


class Explainer:
    """A sink that writes each event as it comes: a heading for each new step, then the call.

    Args:
        stream: where to write, usually sys.stderr.
        color: whether to use ANSI colours; by default as `use_color` says.
    """

    def __init__(self, stream: TextIO, color: bool | None = None) -> None:
        self.stream = stream
        self.color = use_color(stream) if color is None else color
        self._heading: tuple[str, str] | None = None

    def paint(self, code: str, text: str) -> str:
        """Return the text in a colour, or as it is where colours are off."""
        return f"{code}{text}{RESET}" if self.color and text else text

    def __call__(self, event: Event) -> None:
        heading = (event.side, event.step)
        if heading != self._heading:
            self._heading = heading
            self.stream.write(self.paint(BOLD, f"{event.step or '-'}") + self.paint(DIM, f"  [{event.side}]") + "\n")
        call = f"  {event.call}({', '.join(event.args)}) = {self.outcome(event)}"
        took = self.paint(DIM, f"  {event.duration / 1000:.0f} us") if event.duration else ""
        self.stream.write(call + took + "\n")
        if event.why:
            self.stream.write(self.paint(CYAN, f"      {event.why}") + "\n")
        for line in event.change:
            self.stream.write(self.paint(GREEN, f"      > {line}") + "\n")
        self.stream.flush()

    def outcome(self, event: Event) -> str:
        """Return the result as strace writes it: a number, `?`, or -1 and the errno's name."""
        if event.errno:
            import errno

            name = errno.errorcode.get(event.errno, str(event.errno))
            return self.paint(RED, f"-1 {name} ({os.strerror(event.errno)})")
        return "?" if event.result is None else str(event.result)
