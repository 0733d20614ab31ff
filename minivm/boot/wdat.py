"""The watchdog action table: which registers a driver writes to start, reset and stop the watchdog (devices/watchdog.py).

    header (36) | length of the rest of it (4) | PCI segment, bus, device, function, none: 0xff (2, 1, 1, 1), 3 |
    ms of one count (4) | largest and smallest count (4, 4) | flags (1): 1 enabled, 3 | number of entries (4) |
    entries: | action (1) | instruction (1) | 2 | register as a generic address (12) | value (4) | mask (4) |

Microsoft's "Hardware Watchdog Timers Design Specification" 1.01, which ACPI reserves the signature for (ACPI 6.5, table 5.6).
Read by Linux in drivers/acpi/acpi_watchdog.c and drivers/watchdog/wdat_wdt.c.
"""

from __future__ import annotations

from struct import pack

from minivm.devices.watchdog import BASE, CONTROL, COUNTDOWN, LONGEST, PERIOD, RESET, STATUS

__all__ = ["body"]

ENABLED = 1
# Actions, and instructions: what is done with the register.
DO_RESET, GET_COUNTDOWN, SET_COUNTDOWN, GET_RUNNING, SET_RUNNING, GET_STOPPED, SET_STOPPED = 1, 4, 6, 8, 9, 10, 11
GET_REBOOT, SET_REBOOT, GET_STATUS, SET_STATUS = 16, 17, 32, 33
READ_VALUE, READ_COUNTDOWN, WRITE_VALUE, WRITE_COUNTDOWN = range(4)


def _entry(action: int, instruction: int, offset: int, value: int, size: int = 1) -> bytes:
    mask = (1 << 8 * size) - 1
    register = pack("<BBBBQ", 1, 8 * size, 0, size, BASE + offset)  # ports (5.2.3.2); the access is as wide: 1 byte or 2
    return pack("<BBH12sII", action, instruction, 0, register, value, mask)


def body() -> bytes:
    """Return the table without its first 36 bytes."""
    entries = [
        _entry(DO_RESET, WRITE_VALUE, RESET, 1),
        _entry(GET_COUNTDOWN, READ_COUNTDOWN, COUNTDOWN, 0, 2),
        _entry(SET_COUNTDOWN, WRITE_COUNTDOWN, COUNTDOWN, 0, 2),
        _entry(GET_RUNNING, READ_VALUE, CONTROL, 1),
        _entry(SET_RUNNING, WRITE_VALUE, CONTROL, 1),
        _entry(GET_STOPPED, READ_VALUE, CONTROL, 0),
        _entry(SET_STOPPED, WRITE_VALUE, CONTROL, 0),
        _entry(GET_STATUS, READ_VALUE, STATUS, 1),
        _entry(SET_STATUS, WRITE_VALUE, STATUS, 0),
    ]
    head = pack("<IHBBB3xIIIB3xI", 32, 0xFF, 0xFF, 0xFF, 0xFF, PERIOD, LONGEST, 1, ENABLED, len(entries))
    return head + b"".join(entries)
