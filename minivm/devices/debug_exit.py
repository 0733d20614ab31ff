"""debug-exit: a guest ends its machine by writing to a port, and says with which status.

Three registers:

    port 0xf4   1, 2 or 4 bytes, write: exit status = (value << 1 | 1) & 0xff
    port 0x501  1, 2 or 4 bytes, write: exit status = value & 0xff
    address 0xcffff000          write: the same, for programs that reach /dev/mem but no ports

The first is QEMU's isa-debug-exit as kvm-unit-tests and many teaching kernels use it: writing 0 gives 1, 1 gives 3,
16 gives 33; an even status is impossible, so that "the guest said so" cannot be taken for "the hypervisor ended
well". The others can say 0, which is what a machine is wanted to say whose status is its guest's.
Reads give 0 and do nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DebugExit"]

QEMU_PORT, PLAIN_PORT = 0xF4, 0x501


class DebugExit:
    """The device.

    Args:
        stop: called once with the exit status (0 to 255).
        qemu: True for the register at 0xf4, False for the one at 0x501.
    """

    name = "debug-exit"

    def __init__(self, stop: Callable[[int], None], qemu: bool = False) -> None:
        self._stop = stop
        self._qemu = qemu
        first = QEMU_PORT if qemu else PLAIN_PORT
        self.ports = range(first, first + (4 if qemu else 1))

    def read(self, offset: int, size: int) -> int:
        """Give 0."""
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        """End the machine."""
        self._stop((value << 1 | 1) & 0xFF if self._qemu else value & 0xFF)
