"""Fold runs of like exits into one event, so that a line of console output reads as a line."""

from __future__ import annotations

from minirt.plan.events import Event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.plan.events import Sink

__all__ = ["Fold"]

POLLED = 5  # the UART's line status, read before each byte is written


class Fold:
    """A sink that passes events on to another, with the exits of a device that follow each other made one.

    The one lists how many exits it stands for and the bytes that went each way. Other events pass unchanged.
    A trace is not folded.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._first: Event | None = None
        self._count = self._time = 0
        self._written = bytearray()
        self._read = bytearray()

    def __call__(self, event: Event) -> None:
        """Take an event."""
        data = event.data or {}
        if event.call != "KVM_EXIT_IO" or data.get("size") != 1 or "uart" not in event.args:
            self.flush()
            self._sink(event)
            return
        self._first = self._first or event
        self._count += 1
        self._time += event.duration
        value = bytes.fromhex(data["value"])
        if data["port"] & 7 == 0:
            (self._written if data["direction"] == "out" else self._read).extend(value)
        if value == b"\n" or (data["port"] & 7 not in (0, POLLED)):
            self.flush()

    def flush(self) -> None:
        """Pass on what has been folded."""
        first, self._first = self._first, None
        if first is None:
            return
        if self._count > 1:
            args: tuple[str, ...] = (f"{self._count} exits", "uart")
            args += (f"sent {bytes(self._written)!r}",) if self._written else ()
            args += (f"received {bytes(self._read)!r}",) if self._read else ()
            self._sink(Event(first.call, args, side=first.side, step=first.step, why=first.why, duration=self._time))
        else:
            self._sink(first)
        self._count = self._time = 0
        self._written.clear()
        self._read.clear()
