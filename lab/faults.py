"""The emulator's own faults, and how a machine's console tells of them: none is the job's, which may begin again (session.py).

Two are known of QEMU's TCG with a thread a processor (7.2):

    int3            a processor runs into an int3 that is there no more: the kernel panics, and the machine ends. keys.py says why
    a lost timer    a processor is never told of its timer, or that a task was woken there, and all that sleeps on it sleeps for
                    ever. Another processor's RCU says so after 21 seconds, and again each 63 (Documentation/RCU/stallwarn.rst);
                    the machine stays, and does nothing more. As it seems a processor that comes back from a guest loses it:
                    do_vmexit clears a bit of its requests, not atomically, and one that is set meanwhile (mended in QEMU 10.2)

What RCU says is no sign alone: it comes too where the host had the machine stand still for so long, and that passes. So the
job must have said nothing more for SILENCE. A soft lockup (Documentation/admin-guide/lockup-watchdogs.rst) is none either: it
is the processor's own timer that finds it, so that works; what runs there for 20 seconds may be slow, as much is here, or ours.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SILENCE", "Watch", "crashed"]

INT3 = re.compile(rb"Oops: int3: .*\n(?:.*\n)*?.*Kernel panic - not syncing: Fatal exception")
LOST_TIMER = re.compile(rb"kthread timer wakeup didn't happen for \d+ jiffies")
SILENCE = 60.0  # seconds


def crashed(log: Path) -> bool:
    """Say whether the console of a machine that has ended tells of the int3."""
    return log.exists() and INT3.search(log.read_bytes()) is not None


class Watch:
    """Whether a machine that runs has lost a timer and does nothing more.

    Args:
        log: what its console says, which grows.
        clock: seconds, as time.monotonic counts them.
    """

    def __init__(self, log: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._log, self._clock = log, clock
        self._seen = 0  # bytes of the log, as far as whole lines go
        self._lost: float | None = None  # when the console said so, if the job has said nothing since

    def heard(self) -> None:
        """The job said something: the machine lives, whatever its console said until now."""
        self._look()
        self._lost = None

    def stuck(self) -> bool:
        """Look at the console, and say whether all that came for SILENCE was its word of a lost timer."""
        self._look()
        return self._lost is not None and self._clock() - self._lost >= SILENCE

    def _look(self) -> None:
        with self._log.open("rb") as file:
            file.seek(self._seen)
            new, _, _ = file.read().rpartition(b"\n")
        self._seen += len(new)
        if self._lost is None and LOST_TIMER.search(new):
            self._lost = self._clock()
