"""ACPI's sleep registers, by which a guest switches its machine off (ACPI Specification 6.5, 4.8.3.7).

    port 0x600  sleep control, write: |0 0|SLP_EN|SLP_TYP (3)|0 0|
    port 0x601  sleep status:         |WAK_STS|0 ...|

Writing SLP_EN with the type that the DSDT's _S5 names ends the machine. There is no other sleep, and so no waking up.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Power"]

SLP_EN = 1 << 5
OFF = 5  # SLP_TYP; boot/acpi.py says the same in _S5


class Power:
    """The device.

    Args:
        off: called when the guest switches the machine off.
    """

    name = "power"
    ports = range(0x600, 0x602)

    def __init__(self, off: Callable[[], None]) -> None:
        self._off = off

    def read(self, offset: int, size: int) -> int:
        """Give 0."""
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        """Switch off, if that is what it says."""
        if offset == 0 and value & SLP_EN and value >> 2 & 7 == OFF:
            self._off()
