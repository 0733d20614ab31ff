"""The keyboard controller, at I/O ports 0x60 to 0x64, without a keyboard: what is left of it resets the machine.

Intel 8042 as in the IBM PC AT (Technical Reference, "Keyboard Controller").

    port 0x60  data: reads give 0
    port 0x64  read: status, 0 (nothing to fetch, ready for a command)
               write: command; 0xfe pulses the processor's reset line, others do nothing

Ports 0x61 to 0x63 lie between and are not the controller's: 0x61 is the PIT's, in the host kernel.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Keyboard"]

PULSE_RESET = 0xFE


class Keyboard:
    """The device.

    Args:
        reset: called when the guest resets the machine.
    """

    name = "i8042"
    ports = range(0x60, 0x65, 4)

    def __init__(self, reset: Callable[[], None]) -> None:
        self._reset = reset

    def read(self, offset: int, size: int) -> int:
        """Give 0: no key was pressed, and the controller is ready."""
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        """Take a command."""
        if offset and value & 0xFF == PULSE_RESET:
            self._reset()
