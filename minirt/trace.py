"""The trace: what was called and what came of it, in order, on every side of a birth.

A container's plan, the parent's own work (cgroups, id maps, networks) and minivm's ioctls and exits all
write the same `Event`. `--explain` prints it, `--trace` stores it one JSON object a line, the
trace player and the tests read it. Times are nanoseconds of CLOCK_MONOTONIC (man 2 clock_gettime).

It stands below all rooms, as each of them may have something to tell, and imports none.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TextIO

    Sink = Callable[["Event"], None]

__all__ = ["Event", "TraceWriter", "open_trace", "read_trace"]

FORMAT = 1  # of the trace file; a reader refuses what it does not know


class Event:
    """One call (or one VM exit) and what came of it."""

    __slots__ = ("args", "call", "change", "data", "duration", "errno", "result", "side", "step", "time", "why")

    def __init__(
        self,
        call: str,
        args: tuple[str, ...] = (),
        *,
        side: str = "minirt",
        step: str = "",
        why: str = "",
        result: int | None = 0,
        errno: int = 0,
        time: int = 0,
        duration: int = 0,
        change: tuple[str, ...] = (),
        data: dict[str, Any] | None = None,
    ) -> None:
        self.call = call  # system call, ioctl or exit, by its kernel name
        self.args = args  # decoded as strace would, one string an argument
        self.side = side  # who made it: minirt, executor, container; or minivm, vcpu0, guest
        self.step = step  # the named step that it belongs to
        self.why = why  # one sentence for a learner
        self.result = result  # what the call returned; None where it did not return
        self.errno = errno  # 0, or why it failed
        self.time = time  # when it began, ns, CLOCK_MONOTONIC
        self.duration = duration  # ns
        self.change = change  # what is now different, seen from outside; one line each
        self.data = data  # machine detail for the player (registers, records); plain JSON

    def as_dict(self) -> dict[str, Any]:
        """Return the event as a JSON object, without the fields that hold nothing."""
        whole = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in whole.items() if value not in (None, "", (), {})}


class TraceWriter:
    """A sink that writes one JSON object a line: a header first, then the events.

    The file is whole at each line, so a trace of something that was killed can still be read.
    """

    def __init__(self, stream: TextIO, kind: str, **header: Any) -> None:
        import json
        import os

        self._dumps = json.dumps
        self._stream = stream
        first = {"trace": FORMAT, "kind": kind, "kernel": os.uname().release, **header}
        stream.write(self._dumps(first) + "\n")

    def __call__(self, event: Event) -> None:
        self._stream.write(self._dumps(event.as_dict()) + "\n")
        self._stream.flush()


def open_trace(path: str) -> tuple[dict[str, Any], list[Event]]:
    """Read a trace's file. Raises: ValueError, with its name and what is wrong with it."""
    try:
        with open(path, encoding="utf-8") as file:
            return read_trace(file)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read_trace(stream: TextIO) -> tuple[dict[str, Any], list[Event]]:
    """Read back what TraceWriter wrote.

    Returns the header and the events. Raises ValueError where the text is no trace of this format.
    """
    import json

    try:
        header = json.loads(stream.readline())
    except json.JSONDecodeError:
        raise ValueError("not a trace: the first line is no JSON object") from None
    except UnicodeDecodeError:
        raise ValueError("not a trace: it is not text") from None
    if not isinstance(header, dict) or header.get("trace") != FORMAT:
        raise ValueError(f"not a trace of format {FORMAT}")
    events = []
    try:
        for line in stream:
            events.append(_event(json.loads(line)))
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"line {len(events) + 2} is no event") from None
    return header, events


def _event(fields: Any) -> Event:
    if not isinstance(fields, dict) or not isinstance(fields["call"], str):
        raise ValueError
    call = fields.pop("call")
    args = tuple(fields.pop("args", ()))
    fields["change"] = tuple(fields.get("change", ()))
    fields.setdefault("result", None)
    return Event(call, args, **fields)
