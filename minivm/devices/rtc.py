"""The CMOS real-time clock, at I/O ports 0x70 and 0x71: what time it is, before there is a network.

Motorola MC146818A data sheet. A register's number (0 to 127) goes to 0x70 (bit 7 there is the NMI mask), then its value
is read from 0x71. In BCD, 24 hours, UTC:

    0 seconds   2 minutes   4 hours   6 day of the week (Sunday 1)   7 day   8 month   9 year   0x32 century
    A |update in progress|divider (3): 010|rate (4): 0110|
    B |stop|interrupts wanted (3)|square wave|binary|24 hours: 1|daylight saving|
    C |which interrupt (4)|0 0 0 0|
    D |battery is good: 1|0 ...|

Simplified: the time is the host's and cannot be set; there are no interrupts (alarm, periodic), and an update is never
in progress. The other bytes are memory, as on a PC, and forgotten at the end.
"""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Rtc"]

INDEX, DATA = range(2)
SECONDS, MINUTES, HOURS, WEEKDAY, DAY, MONTH, YEAR, CENTURY = 0, 2, 4, 6, 7, 8, 9, 0x32
A, B, C, D = range(0xA, 0xE)
FIXED = {A: 0x26, B: 0x02, C: 0x00, D: 0x80}


class Rtc:
    """The device.

    Args:
        now: returns seconds since 1970.
    """

    name = "rtc"
    ports = range(0x70, 0x72)

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._index = 0
        self._memory = bytearray(128)

    def read(self, offset: int, size: int) -> int:
        """Read the index or the register that it names."""
        if offset == INDEX:
            return self._index
        if self._index in FIXED:
            return FIXED[self._index]
        clock = self._clock()
        return bcd(clock[self._index]) if self._index in clock else self._memory[self._index]

    def write(self, offset: int, size: int, value: int) -> None:
        """Write the index, or memory."""
        if offset == INDEX:
            self._index = value & 0x7F
        else:
            self._memory[self._index] = value & 0xFF

    def _clock(self) -> dict[int, int]:
        t = time.gmtime(self._now())
        day = (t.tm_wday + 1) % 7 + 1  # tm_wday counts from Monday 0
        return {
            SECONDS: min(t.tm_sec, 59), MINUTES: t.tm_min, HOURS: t.tm_hour, WEEKDAY: day, DAY: t.tm_mday,
            MONTH: t.tm_mon, YEAR: t.tm_year % 100, CENTURY: t.tm_year // 100,
        }  # fmt: skip


def bcd(value: int) -> int:
    """Return a number below 100 with a decimal digit in each half of the byte."""
    return value // 10 << 4 | value % 10
