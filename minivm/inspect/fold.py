"""Fold runs of like exits into one event, so that a line of console output reads as a line."""

from __future__ import annotations

from minirt.trace import Event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.trace import Sink

__all__ = ["Fold"]

POLLED = 5  # the UART's line status, read before each byte is written


class Fold:
    """A sink that passes events on to another, with the exits of a device that follow each other made one.

    The one lists how many exits it stands for and the bytes that went each way. The reason for an exit is told the
    first time only. A trace is not folded.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._first: Event | None = None
        self._count = self._time = 0
        self._written = bytearray()
        self._read = bytearray()
        self._told: set[str] = set()

    def __call__(self, event: Event) -> None:
        """Take an event."""
        data = event.data or {}
        if event.call != "KVM_EXIT_IO" or data.get("size") != 1 or "uart" not in event.args:
            self.flush()
            self._pass(event)
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
            self._pass(Event(first.call, args, side=first.side, step=first.step, why=first.why, duration=self._time))
        else:
            self._pass(first)
        self._count = self._time = 0
        self._written.clear()
        self._read.clear()

    def _pass(self, event: Event) -> None:
        """Pass an event on; its reason is left out of a copy, for the trace gets the same object."""
        if event.call.startswith("KVM_EXIT_"):
            why = "" if event.call in self._told else event.why
            self._told.add(event.call)
            fields = {name: getattr(event, name) for name in event.__slots__ if name not in ("call", "args", "why")}
            event = Event(event.call, event.args, why=why, **fields)
        self._sink(event)
