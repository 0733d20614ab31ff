"""fw_cfg: what QEMU's firmware is told of the machine, which test kernels without firmware read too.

    port 0x510  selector (2 bytes, write)   which item; reading begins at its first byte
    port 0x511  data (1 byte, read)         the item's next byte; zeroes behind its end

    item 0x00  "QEMU"            0x03  bytes of RAM (8)      0x0f  the most processors (2)
         0x01  1: no DMA         0x05  processors (2)        0x19  number of files (4, big-endian): 0

QEMU docs/specs/fw_cfg.rst. kvm-unit-tests count processors by it (lib/x86/fwcfg.c there); Linux looks for it only where ACPI
says that it is there, which ours does not.
"""

from __future__ import annotations

__all__ = ["FwCfg"]

SIGNATURE, INTERFACE, RAM_SIZE, PROCESSORS, MOST_PROCESSORS, FILES = 0, 1, 3, 5, 0xF, 0x19
DATA = 1  # offset of the port


class FwCfg:
    """The device.

    Args:
        memory: bytes of RAM.
        processors: how many.
    """

    name = "fw_cfg"
    ports = range(0x510, 0x512)

    def __init__(self, memory: int, processors: int) -> None:
        count = processors.to_bytes(2, "little")
        self._items = {
            SIGNATURE: b"QEMU", INTERFACE: b"\1\0\0\0", RAM_SIZE: memory.to_bytes(8, "little"),
            PROCESSORS: count, MOST_PROCESSORS: count, FILES: bytes(4),
        }  # fmt: skip
        self._item, self._place = b"", 0

    def read(self, offset: int, size: int) -> int:
        """Give the next byte."""
        if offset != DATA:
            return 0
        place, self._place = self._place, self._place + 1
        return self._item[place] if place < len(self._item) else 0

    def write(self, offset: int, size: int, value: int) -> None:
        """Choose an item; one that is not there is empty."""
        if offset != DATA:
            self._item, self._place = self._items.get(value & 0xFFFF, b""), 0
