"""A watchdog: the guest says from time to time that it is well; where it does not, the machine ends.

    port 0x610  control (1 byte)    bit 0: it runs. Reads say so
    port 0x611  reset (1 byte)      any write: the count begins again
    port 0x612  status (1 byte)     bit 0: the machine began because of it; 0, for here the machine ends
    port 0x614  countdown (2 bytes) write: tenths of a second to count; read: those that are left

Linux's driver is wdat_wdt, which Debian's kernels have both, the cloud one too: it knows no hardware, but reads in an ACPI
table which registers to write for "start", "reset", "set the countdown" (boot/wdat.py). The other candidates: i6300esb is a
PCI card, ib700 is a pair of ports that the cloud kernel has no driver for, and virtio has none.

It does not count while the machine is paused or a debugger holds it: then the guest could not say anything.
"""

from __future__ import annotations

import threading
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BASE", "CONTROL", "COUNTDOWN", "LONGEST", "PERIOD", "RESET", "STATUS", "Watchdog"]

BASE = 0x610
CONTROL, RESET, STATUS, COUNTDOWN = 0, 1, 2, 4
PERIOD = 100  # ms
LONGEST = 0xFFFF  # periods
RUNS = 1


class Watchdog:
    """The device, and the thread's loop that counts.

    Args:
        bite: called once with the seconds in which the guest said nothing.
        held: says whether the guest cannot run, so that its silence means nothing.
    """

    name = "watchdog"
    ports = range(BASE, BASE + 6)
    queues = ()

    def __init__(self, bite: Callable[[float], None], held: Callable[[], bool] = lambda: False) -> None:
        self._bite, self._held = bite, held
        self._changed = threading.Condition(threading.RLock())
        self._periods = 300
        self._running = self._stopping = False
        self._end = 0.0

    def read(self, offset: int, size: int) -> int:
        """Give control, or what is left of the countdown; of that the low byte where one byte is read."""
        with self._changed:
            if offset == CONTROL:
                return RUNS if self._running else 0
            if offset == COUNTDOWN:
                left = max(0, int((self._end - monotonic()) * 1000 / PERIOD)) if self._running else self._periods
                return left & (1 << 8 * size) - 1
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        """Start, stop, reset, or set the countdown."""
        with self._changed:
            if offset == CONTROL:
                self._running = bool(value & RUNS)
            elif offset == COUNTDOWN:
                self._periods = value & LONGEST
            elif offset != RESET:
                return
            self._begin()
            self._changed.notify()

    def _begin(self) -> None:
        self._end = monotonic() + self._periods * PERIOD / 1000

    def run(self) -> None:
        """Count until stop(): the body of a thread."""
        with self._changed:
            while not self._stopping:
                if self._running and self._held():
                    self._begin()
                left = self._end - monotonic()
                if self._running and left <= 0:
                    self._running = False
                    self._bite(self._periods * PERIOD / 1000)
                self._changed.wait(min(left, 1) if self._running else None)  # a pause is seen within a second

    def stop(self) -> None:
        """Make run() return, from any thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def counts(self) -> dict[str, int]:
        """Nothing is counted for a report."""
        return {}
