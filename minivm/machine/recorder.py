"""Where every call and exit passes by: told to the sinks of --explain and --trace, and made to fail by --fail."""

from __future__ import annotations

import threading
from time import monotonic_ns

from minivm.errors import KvmError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from minirt.trace import Event, Sink

__all__ = ["Recorder", "parse_failure"]

# Calls that a running machine makes and the plan therefore does not list.
WHILE_RUNNING = ("KVM_IRQ_LINE", "sched_setaffinity")


def parse_failure(text: str) -> tuple[str, int, int]:
    """Return (call, which, errno) of `KVM_CREATE_VM=EPERM` or `mmap:2=ENOMEM`. Raises UsageError."""
    import errno

    place, _, name = text.partition("=")
    call, _, which = place.partition(":")
    number = getattr(errno, name, None) if name.startswith("E") else None
    if number is None:
        what = f"{name!r} is no errno" if name else "no errno is named"
        raise UsageError(f"--fail {text!r}: {what}; write CALL[:N]=ERRNO, as KVM_CREATE_VM=ENOMEM")
    if which and not (which.isascii() and which.isdigit() and int(which) > 0):
        raise UsageError(f"--fail {text!r}: {which!r} does not count anything; 1 is the first time")
    return call, int(which or 1), number


class Recorder:
    """Tells what happens, and injects failures.

    Args:
        sinks: called with each Event.
        failures: (call, which time, errno), as parse_failure returns them.

    Threads: any.
    """

    def __init__(self, sinks: Iterable[Sink] = (), failures: Iterable[tuple[str, int, int]] = ()) -> None:
        self._sinks = list(sinks)
        self._failures = {(call, which): errno for call, which, errno in failures}
        self._fails = {call for call, _ in self._failures}
        self._seen: dict[str, int] = {}
        self._lock = threading.RLock()
        self._held: dict[int, list[Event]] = {}  # by thread

    @property
    def telling(self) -> bool:
        """Whether there is anybody to tell."""
        return bool(self._sinks)

    def watches(self, call: str) -> bool:
        """Say whether each such call must pass by here: it is told, or may be made to fail."""
        return self.telling or call in self._fails

    def check(self, calls: Iterable[str]) -> None:
        """Raise UsageError where a failure names a call that is not made, or not that often.

        Args:
            calls: the plan's, in order; a call of a running machine may be named for any time.
        """
        listed = list(calls)
        for call, which in self._failures:
            count = listed.count(call)
            if not count and call not in WHILE_RUNNING:
                raise UsageError(f"--fail: this machine's plan has no call {call!r}; see --plan")
            if which > count and call != "KVM_RUN" and call not in WHILE_RUNNING:
                raise UsageError(f"--fail: this machine's plan makes {call} {count} times; {which} is more")

    def inject(self, call: str) -> None:
        """Raise KvmError where --fail asks for it; to be called just before the call is made."""
        if call not in self._fails:
            return
        with self._lock:
            self._seen[call] = which = self._seen.get(call, 0) + 1
        errno = self._failures.get((call, which))
        if errno:
            raise KvmError(call, errno, "...", "made to fail by --fail")

    def perform(
        self, call: str, args: tuple[str, ...], function: Callable[[], tuple[int, tuple[str, ...]]], **more: Any
    ) -> int:
        """Make a call and tell it.

        Args:
            call, args, more: as Event's.
            function: makes it; returns the result, and lines that say what is now different.

        Returns the result. Raises what the function raises.
        """
        if not self.watches(call):
            return function()[0]
        from minirt.trace import Event

        event = Event(call, args, time=monotonic_ns(), **more)
        try:
            self.inject(call)
            event.result, event.change = function()
        except KvmError as error:
            event.result, event.errno = -1, error.errno
            raise
        finally:
            event.duration = monotonic_ns() - event.time
            self.tell(event)
        return event.result

    def tell(self, event: Event) -> None:
        """Pass an event to each sink, or keep it back while an exit is handled."""
        with self._lock:
            held = self._held.get(threading.get_ident())
            if held is not None:
                held.append(event)
                return
            for sink in self._sinks:
                sink(event)

    def hold(self) -> None:
        """Keep events back: an exit is told when its answer is known, and before what it caused."""
        with self._lock:
            self._held[threading.get_ident()] = []

    def release(self, exit_event: Event) -> None:
        """Tell the exit, and then what was held back."""
        with self._lock:
            held = self._held.pop(threading.get_ident(), [])
            for event in (exit_event, *held):
                self.tell(event)
