"""virtio over MMIO: the registers by which a driver finds a device and sets it up (VIRTIO 1.2, 4.2.2).

A page of guest-physical addresses; registers are 4 bytes wide, little-endian:

    0x000 R  MagicValue        "virt"            0x044 RW QueueReady          1: the queue is in use
    0x004 R  Version           2                 0x050 W  QueueNotify         buffers are available in queue N
    0x008 R  DeviceID          2 is a disk ...   0x060 R  InterruptStatus     bit 0: used buffers, bit 1: configuration
    0x00c R  VendorID                            0x064 W  InterruptACK        bits that were seen to
    0x010 R  DeviceFeatures    32 of the bits,   0x070 RW Status              writing 0 resets the device
    0x014 W  DeviceFeaturesSel   chosen here     0x080 W  QueueDescLow, 0x084 High     descriptor table
    0x020 W  DriverFeatures    those accepted    0x090 W  QueueDriverLow, 0x094 High   available ring
    0x024 W  DriverFeaturesSel                   0x0a0 W  QueueDeviceLow, 0x0a4 High   used ring
    0x030 W  QueueSel          which queue the   0x0fc R  ConfigGeneration    changes when the configuration does
    0x034 R  QueueSizeMax        next ones mean  0x100 RW configuration of the device, any width
    0x038 W  QueueSize

    Status  1 ACKNOWLEDGE, 2 DRIVER, 8 FEATURES_OK, 4 DRIVER_OK, 0x40 DEVICE_NEEDS_RESET, 0x80 FAILED  (2.1, 3.1)

The order matters: the driver accepts features, sets FEATURES_OK and reads it back; a device that does not agree leaves it
off. A driver that breaks a rule in its queues finds DEVICE_NEEDS_RESET set and the device deaf until it resets it.
"""

from __future__ import annotations

import threading

from minivm.devices.virtio.queue import LARGEST, Queue, QueueError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from minivm.devices.virtio.queue import Memory

    class VirtioDevice(Protocol):
        """What the transport asks of a device."""

        name: str
        device_id: int
        features: int
        queues: int

        def config(self) -> bytes: ...

        def notify(self, number: int, queue: Queue) -> None: ...


__all__ = ["Mmio"]

MAGIC, VERSION, VENDOR = int.from_bytes(b"virt", "little"), 2, int.from_bytes(b"MNVM", "little")
MAGIC_VALUE, VERSION_REGISTER, DEVICE_ID, VENDOR_ID, DEVICE_FEATURES, DEVICE_FEATURES_SEL = 0, 4, 8, 0xC, 0x10, 0x14
DRIVER_FEATURES, DRIVER_FEATURES_SEL, QUEUE_SEL, QUEUE_SIZE_MAX, QUEUE_SIZE, QUEUE_READY = 0x20, 0x24, 0x30, 0x34, 0x38, 0x44
QUEUE_NOTIFY, INTERRUPT_STATUS, INTERRUPT_ACK, STATUS, CONFIG_GENERATION, CONFIG = 0x50, 0x60, 0x64, 0x70, 0xFC, 0x100
ADDRESSES = {0x80: ("descriptors", 0), 0x84: ("descriptors", 32), 0x90: ("available", 0), 0x94: ("available", 32),
             0xA0: ("used", 0), 0xA4: ("used", 32)}  # fmt: skip
FEATURES_OK, DRIVER_OK, NEEDS_RESET = 8, 4, 0x40
USED_BUFFER, CONFIG_CHANGED = 1, 2
F_INDIRECT_DESC, F_EVENT_IDX, F_VERSION_1 = 1 << 28, 1 << 29, 1 << 32


class Setup:
    """What the driver has said of a queue."""

    __slots__ = ("available", "descriptors", "queue", "size", "used")

    def __init__(self) -> None:
        self.size = self.descriptors = self.available = self.used = 0
        self.queue: Queue | None = None


class Mmio:
    """The transport of one device.

    Args:
        device: what is behind it.
        memory: gives guest memory.
        interrupt: called to pulse the interrupt line.

    Threads: any; a lock makes one call wait for another.
    """

    def __init__(self, device: VirtioDevice, memory: Memory, interrupt: Callable[[], None]) -> None:
        self.device, self.name = device, device.name
        self._memory, self._interrupt = memory, interrupt
        self._offered = device.features | F_VERSION_1 | F_INDIRECT_DESC | F_EVENT_IDX
        self.lock = threading.RLock()
        self._reset()

    def _reset(self) -> None:
        self._status = self._pending = self._accepted = 0
        self._device_select = self._driver_select = self._queue_select = 0
        self._setups = [Setup() for _ in range(self.device.queues)]

    def queue(self, number: int) -> Queue | None:
        """Return a queue, or None while the device may not use it."""
        return self._setups[number].queue if self._status & (DRIVER_OK | NEEDS_RESET) == DRIVER_OK else None

    def after(self) -> None:
        """Interrupt the driver, where it wants to hear of what a queue has given back."""
        wanted = [setup.queue.wants_interrupt() for setup in self._setups if setup.queue]
        if any(wanted):
            self._pending |= USED_BUFFER
            self._interrupt()

    # --- the bus ---

    def read(self, offset: int, size: int) -> int:
        """Read a register."""
        with self.lock:
            if offset >= CONFIG:
                part = self.device.config()[offset - CONFIG : offset - CONFIG + size]
                return int.from_bytes(part, "little")
            return self._read(offset) if size == 4 else 0

    def _read(self, offset: int) -> int:
        setup = self._setup()
        if offset == DEVICE_FEATURES:
            return self._offered >> 32 * self._device_select & 0xFFFF_FFFF if self._device_select < 2 else 0
        return {
            MAGIC_VALUE: MAGIC,
            VERSION_REGISTER: VERSION,
            DEVICE_ID: self.device.device_id,
            VENDOR_ID: VENDOR,
            QUEUE_SIZE_MAX: LARGEST if setup else 0,
            QUEUE_READY: int(setup is not None and setup.queue is not None),
            INTERRUPT_STATUS: self._pending,
            STATUS: self._status,
        }.get(offset, 0)

    def write(self, offset: int, size: int, value: int) -> None:
        """Write a register. Other widths than 4 are no registers, and the configuration is not the driver's to write."""
        if size == 4 and offset < CONFIG:
            with self.lock:
                try:
                    self._write(offset, value)
                except QueueError:
                    self._fail()

    def _write(self, offset: int, value: int) -> None:
        if offset == QUEUE_NOTIFY:
            self._notify(value)
        elif offset == INTERRUPT_ACK:
            self._pending &= ~value
        elif offset == STATUS:
            self._set_status(value)
        elif offset == DEVICE_FEATURES_SEL:
            self._device_select = value
        elif offset == DRIVER_FEATURES_SEL:
            self._driver_select = value
        elif offset == QUEUE_SEL:
            self._queue_select = value
        elif offset == DRIVER_FEATURES:
            self._accept(value)
        else:
            self._set_up(offset, value)

    def _accept(self, value: int) -> None:
        """Take 32 of the feature bits, as long as they are not agreed on yet."""
        if self._driver_select < 2 and not self._status & FEATURES_OK:
            shift = 32 * self._driver_select
            self._accepted = self._accepted & ~(0xFFFF_FFFF << shift) | value << shift

    def _set_status(self, value: int) -> None:
        if not value:
            self._reset()
            return
        if value & FEATURES_OK and not self._status & FEATURES_OK:
            agreed = not self._accepted & ~self._offered and self._accepted & F_VERSION_1
            value = value if agreed else value & ~FEATURES_OK
        begins = value & DRIVER_OK and not self._status & DRIVER_OK
        self._status = self._status & NEEDS_RESET | value & 0xFF
        if begins:  # Linux's console driver has made its buffers available by now, and will not say so again
            for number in range(len(self._setups)):
                self._notify(number)

    def _setup(self) -> Setup | None:
        """Return what QueueSel chooses."""
        return self._setups[self._queue_select] if self._queue_select < len(self._setups) else None

    def _set_up(self, offset: int, value: int) -> None:
        """Write one of the registers of the chosen queue; while it is in use, only QueueReady may be written."""
        setup = self._setup()
        if setup is None:
            return
        if offset == QUEUE_READY:
            setup.queue = self._enable(setup) if value & 1 and self._status & FEATURES_OK else None
        elif setup.queue is None and offset == QUEUE_SIZE:
            setup.size = value
        elif setup.queue is None and offset in ADDRESSES:
            field, shift = ADDRESSES[offset]
            before: int = getattr(setup, field)
            setattr(setup, field, before & ~(0xFFFF_FFFF << shift) | value << shift)

    def _enable(self, setup: Setup) -> Queue:
        size = setup.size
        if not 0 < size <= LARGEST or size & size - 1:
            raise QueueError(f"a queue of {size} entries")
        return Queue(
            self._memory,
            size,
            setup.descriptors,
            setup.available,
            setup.used,
            event_idx=bool(self._accepted & F_EVENT_IDX),
            indirect=bool(self._accepted & F_INDIRECT_DESC),
        )

    def _notify(self, number: int) -> None:
        queue = self.queue(number) if number < len(self._setups) else None
        if queue is not None:
            self.device.notify(number, queue)
            self.after()

    def _fail(self) -> None:
        """Do no more until the driver resets the device, and tell it so (2.1.2)."""
        self._status |= NEEDS_RESET
        if self._status & DRIVER_OK:
            self._pending |= CONFIG_CHANGED
            self._interrupt()
