"""virtio over MMIO as it was before the specification, for drivers that know nothing newer (VIRTIO 1.2, 4.2.4).

The page of mmio.py with Version 1, and with other registers for a queue, which is given by the number of one page:

    0x004 R  Version           1                 0x030 W  QueueSel        which queue the next ones mean
    0x010 R  HostFeatures      bits 0 to 31      0x034 R  QueueNumMax
    0x014 W  HostFeaturesSel                     0x038 W  QueueNum        entries
    0x020 W  GuestFeatures     those accepted    0x03c W  QueueAlign      bytes: at a multiple of it the used ring begins
    0x024 W  GuestFeaturesSel                    0x040 RW QueuePFN        number of the queue's first page; 0: not in use
    0x028 W  GuestPageSize     bytes             0x050 QueueNotify, 0x060, 0x064, 0x070 and from 0x100 on: as in mmio.py

    a queue  | descriptor table | available ring | padding | used ring |      one piece of memory (2.7.2)
             ^ QueuePFN * GuestPageSize                    ^ the next multiple of QueueAlign

Numbers in rings and configuration are in the byte order of the guest, which is ours: little-endian.

There is no FEATURES_OK: what the driver accepts counts as far as it was offered, and holds from the first use on. The device
may be used before DRIVER_OK (3.1.2), so it is live from the first QueuePFN on, or DRIVER_OK, whichever comes first.
GuestPageSize outlives a reset: Linux writes it once, and resets the device afterwards. A driver that says neither QueueNum nor
QueueAlign has the largest queue, and a page, as with QEMU.

Only devices that are older than the specification have this interface: net, blk, console, rng and balloon.
"""

from __future__ import annotations

from minivm.devices.virtio.mmio import DRIVER_OK, F_EVENT_IDX, F_INDIRECT_DESC, NEEDS_RESET, Mmio, Setup
from minivm.devices.virtio.queue import LARGEST, QueueError

__all__ = ["Legacy", "layout"]

GUEST_PAGE_SIZE, QUEUE_NUM, QUEUE_ALIGN, QUEUE_PFN = 0x28, 0x38, 0x3C, 0x40
F_ANY_LAYOUT = 1 << 27  # a buffer may be cut anywhere: without it a driver keeps header and data apart (2.7.4.3)
PAGE = 4096


class Place(Setup):
    """What the driver has said of a queue."""

    __slots__ = ("align", "page")

    def __init__(self) -> None:
        super().__init__()
        self.size, self.align = LARGEST, PAGE
        self.page = 0  # what QueuePFN reads


class Legacy(Mmio):
    """The transport of one device, for old drivers."""

    version = 1
    setup = Place
    _page_size = 0
    _begun = False

    def _offer(self, packed: bool) -> int:
        """Return the features: 32 of them, and no packed queues."""
        return (self.device.features | F_INDIRECT_DESC | F_EVENT_IDX | F_ANY_LAYOUT) & 0xFFFF_FFFF

    def _reset(self) -> None:
        self._begun = False
        super()._reset()

    @property
    def _live(self) -> bool:
        return self._begun

    def _store_more(self) -> None:
        setup = self._setup()
        self._put(QUEUE_PFN, setup.page if isinstance(setup, Place) else 0)

    def _accept(self, value: int) -> None:
        if not self._driver_select and not self._begun:
            self._accepted = value & self._offered

    def _set_status(self, value: int) -> None:
        if not value:
            self._reset()
            return
        before = self._status
        self._status = before | value & 0xFF & ~NEEDS_RESET
        if self._status & ~before & DRIVER_OK:
            self._begin()

    def _begin(self) -> None:
        """From now on the features hold; and look at the queues that are there."""
        if not self._begun:
            self._begun = True
            super()._begin()
            return
        for number in range(len(self._setups)):
            self._notify(number)

    def _set_up(self, offset: int, value: int) -> None:
        """Write the page size, or one of the registers of the chosen queue."""
        setup = self._setup()
        if offset == GUEST_PAGE_SIZE:
            self._page_size = value
        elif not isinstance(setup, Place):
            return
        elif offset == QUEUE_PFN:
            self._place(setup, value)
        elif setup.queue is None and offset == QUEUE_NUM:
            setup.size = value
        elif setup.queue is None and offset == QUEUE_ALIGN:
            setup.align = value

    def _place(self, setup: Place, page: int) -> None:
        """The queue is at this page, or at none any more. Raises QueueError."""
        self._take_back(self._queue_select)
        setup.page = 0
        if not page:
            return
        if not self._begun:
            self._begin()
        setup.descriptors, setup.driver, setup.device = layout(page, self._page_size, setup.size, setup.align)
        setup.queue = self._enable(setup)
        setup.page = page
        self._give(self._queue_select)


def layout(page: int, page_size: int, size: int, align: int) -> tuple[int, int, int]:
    """Return where a queue's descriptor table, available ring and used ring are: guest-physical addresses (2.7.2).

    Args:
        page: number of its first page (uint32_t).
        page_size: bytes (uint32_t).
        size: entries (uint32_t).
        align: of the used ring, bytes (uint32_t).

    Raises QueueError where page_size or align is no power of two. No sum is above 2^64.
    """
    for number in (page_size, align):
        if not number or number & number - 1:
            raise QueueError(f"{number} bytes are no size of a page, and nothing to align to")
    descriptors = page * page_size
    available = descriptors + 16 * size
    end = available + 2 * (3 + size)  # flags, idx, the ring, used_event
    return descriptors, available, end + align - 1 & ~(align - 1)
