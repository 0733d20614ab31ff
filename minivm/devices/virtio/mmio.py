"""virtio over MMIO: the registers by which a driver finds a device and sets it up (VIRTIO 1.2, 4.2.2).

A page of guest-physical addresses; registers are 4 bytes wide, little-endian:

    0x000 R  MagicValue        "virt"            0x044 RW QueueReady          1: the queue is in use
    0x004 R  Version           2                 0x050 W  QueueNotify         buffers are available in queue N
    0x008 R  DeviceID          2 is a disk ...   0x060 R  InterruptStatus     bit 0: used buffers, bit 1: configuration
    0x00c R  VendorID                            0x064 W  InterruptACK        bits that were seen to
    0x010 R  DeviceFeatures    32 of the bits,   0x070 RW Status              writing 0 resets the device
    0x014 W  DeviceFeaturesSel   chosen here     0x080 W  QueueDescLow, 0x084 High     descriptor table or ring
    0x020 W  DriverFeatures    those accepted    0x090 W  QueueDriverLow, 0x094 High   available ring, driver's events
    0x024 W  DriverFeaturesSel                   0x0a0 W  QueueDeviceLow, 0x0a4 High   used ring, device's events
    0x030 W  QueueSel          which queue the   0x0b0 R  SHMLenLow, 0x0b4 High        all ones: no shared memory
    0x034 R  QueueSizeMax        next ones mean  0x0fc R  ConfigGeneration    changes when the configuration does
    0x038 W  QueueSize                           0x100 RW configuration of the device, any width

    Status  1 ACKNOWLEDGE, 2 DRIVER, 8 FEATURES_OK, 4 DRIVER_OK, 0x40 DEVICE_NEEDS_RESET, 0x80 FAILED  (2.1, 3.1)

The page is real memory, which KVM shows to the guest as read-only: to read a register is no exit. Each write is one, but
for QueueNotify (an ioeventfd) and InterruptACK (answered by the vCPU's loop in C), and what it changes is stored in
the page before the guest goes on. InterruptStatus is set by the device's path, at any time; see csrc/kvm/path.c for
why interrupts are edges and none is lost.

The order matters: the driver accepts features, sets FEATURES_OK and reads it back; a device that does not agree leaves it
off, and DRIVER_OK without it too. A bit stays until a reset, so that nothing is agreed on anew while queues are in use. A
driver that breaks a rule in its queues finds DEVICE_NEEDS_RESET set and the device deaf until it resets it.

The interface of before the specification has a few other registers and another order: legacy.py.
"""

from __future__ import annotations

import threading
from struct import pack_into

from minivm.devices.virtio.queue import LARGEST, Queue, QueueError
from minivm.kvm._kvm import lib
from minivm.kvm.memory import GuestMemory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Protocol

    from minivm.devices.virtio.loop import Loop
    from minivm.devices.virtio.path import Path
    from minivm.devices.virtio.queue import Ram
    from minivm.devices.virtio.vhost_user import Remote

    class VirtioDevice(Protocol):
        """What the transport asks of a device. One whose queues are not all its paths' has notify(number, queue) too; one whose
        queues another process serves says in ring_features what that one can do."""

        name: str
        device_id: int
        features: int
        queues: int

        def config(self) -> bytes: ...

        def connect(self, registers: Any, interrupt: int) -> Sequence[Path | Loop | Remote]: ...


__all__ = ["QUEUE_NOTIFY", "Mmio", "Setup"]

MAGIC, VENDOR = int.from_bytes(b"virt", "little"), int.from_bytes(b"MNVM", "little")
MAGIC_VALUE, VERSION_REGISTER, DEVICE_ID, VENDOR_ID, DEVICE_FEATURES, DEVICE_FEATURES_SEL = 0, 4, 8, 0xC, 0x10, 0x14
DRIVER_FEATURES, DRIVER_FEATURES_SEL, QUEUE_SEL, QUEUE_SIZE_MAX, QUEUE_SIZE, QUEUE_READY = 0x20, 0x24, 0x30, 0x34, 0x38, 0x44
QUEUE_NOTIFY, INTERRUPT_STATUS, INTERRUPT_ACK, STATUS, CONFIG_GENERATION, CONFIG = 0x50, 0x60, 0x64, 0x70, 0xFC, 0x100
SHM_LENGTH = 0xB0
ADDRESSES = {0x80: ("descriptors", 0), 0x84: ("descriptors", 32), 0x90: ("driver", 0), 0x94: ("driver", 32),
             0xA0: ("device", 0), 0xA4: ("device", 32)}  # fmt: skip
FEATURES_OK, DRIVER_OK, NEEDS_RESET = 8, 4, 0x40
USED_BUFFER, CONFIG_CHANGED = 1, 2
F_INDIRECT_DESC, F_EVENT_IDX, F_VERSION_1, F_RING_PACKED = 1 << 28, 1 << 29, 1 << 32, 1 << 34
RINGS = F_INDIRECT_DESC | F_EVENT_IDX | F_VERSION_1 | F_RING_PACKED  # what csrc/kvm/queue.c can do
PAGE = 0x1000


class Setup:
    """What the driver has said of a queue."""

    __slots__ = ("descriptors", "device", "driver", "queue", "size")

    def __init__(self) -> None:
        self.size = self.descriptors = self.driver = self.device = 0
        self.queue: Queue | None = None


class Mmio:
    """The transport of one device.

    Args:
        device: what is behind it.
        ram: the guest's memory.
        interrupt: eventfd to write to for an interrupt; -1: nobody hears it.
        registers: the pages that the guest reads; by default one that only we read.
        slot: which of them is this device's.
        packed: whether packed queues are offered besides split ones.

    Raises KvmError. Threads: any; a lock makes one call wait for another.
    """

    version = 2
    setup: type[Setup] = Setup

    def __init__(
        self, device: VirtioDevice, ram: Ram, interrupt: int = -1, registers: GuestMemory | None = None, slot: int = 0,
        *, packed: bool = True,
    ) -> None:  # fmt: skip
        self.device, self.name = device, device.name
        self._ram, self._interrupt = ram, interrupt
        self._pages = registers or GuestMemory(PAGE)
        self._page, self._registers = self._pages.view(slot * PAGE, PAGE), self._pages.at(slot * PAGE)
        self._offered = self._offer(packed)
        self.lock = threading.RLock()
        self.paths = device.connect(self._registers, interrupt)
        self._served = {number: path for path in self.paths for number in path.queues}
        # queues whose notifications come by a path, and whose buffers Python takes
        self._in_python = set(range(device.queues)) - set(self._served) | getattr(device, "in_python", set())
        if hasattr(device, "transport"):
            device.transport = self
        for path in self.paths:
            path.broken = self._broken
        self._setups: list[Setup] = []
        self._generation = 0
        self._reset()
        self._store_constants()

    def _offer(self, packed: bool) -> int:
        """Return the features: the device's, and those of its queues."""
        rings: int = getattr(self.device, "ring_features", RINGS)
        return self.device.features | rings & (RINGS if packed else RINGS & ~F_RING_PACKED)

    def _reset(self) -> None:
        for number in range(len(self._setups)):
            self._take_back(number)
        self._status = self._accepted = 0
        self._device_select = self._driver_select = self._queue_select = 0
        self._setups = [self.setup() for _ in range(self.device.queues)]
        lib.registers_acknowledge(self._registers, 0xFFFF_FFFF)
        self._store()

    @property
    def features(self) -> int:
        """What is agreed on."""
        return self._accepted

    def queue(self, number: int) -> Queue | None:
        """Return a queue that Python serves, or None while the device may not use it."""
        return self._setups[number].queue if self._live and not self._status & NEEDS_RESET else None

    @property
    def _live(self) -> bool:
        """Whether the driver has said that the device may begin."""
        return bool(self._status & DRIVER_OK)

    def after(self) -> None:
        """Interrupt the driver, where it wants to hear of what a queue that Python serves has given back."""
        ours = [queue for number in self._in_python if (queue := self._setups[number].queue)]
        wanted = [queue.wants_interrupt() for queue in ours]  # each is to be asked
        if any(wanted):
            lib.registers_interrupt(self._registers, self._interrupt, USED_BUFFER)

    def changed(self) -> None:
        """Tell the driver that the configuration is another now."""
        with self.lock:
            self._generation = (self._generation + 1) & 0xFFFF_FFFF
            self._store_config()
            self._store()
            if self._status & DRIVER_OK:
                lib.registers_interrupt(self._registers, self._interrupt, CONFIG_CHANGED)

    def refresh(self) -> None:
        """Show what the configuration is now, which the driver itself has changed: it need not be told."""
        with self.lock:
            self._store_config()

    def fail(self) -> None:
        """Something on our side is broken: say so to the driver, and do no more."""
        with self.lock:
            self._fail()
            self._store()

    def kick(self, number: int, fd: int) -> None:
        """Let an eventfd stand for the driver's writes to QueueNotify of this number. Raises KvmError."""
        self._served[number].kick(number, fd)

    def close(self) -> None:
        """Free the paths and what the device has; neither the guest nor a path may run any more."""
        for path in self.paths:
            path.close()
        if hasattr(self.device, "close"):
            self.device.close()

    # --- the page ---

    def _store_constants(self) -> None:
        for offset, value in ((MAGIC_VALUE, MAGIC), (VERSION_REGISTER, self.version), (VENDOR_ID, VENDOR)):
            self._put(offset, value)
        self._put(DEVICE_ID, self.device.device_id)
        for offset in range(SHM_LENGTH, SHM_LENGTH + 16, 4) if self.version > 1 else ():
            self._put(offset, 0xFFFF_FFFF)  # of a region that is not there (4.2.2)
        self._store_config()

    def _store(self) -> None:
        """Store what depends on what the driver has written."""
        setup = self._setup()
        chosen = self._offered >> 32 * self._device_select & 0xFFFF_FFFF if self._device_select < 2 else 0
        self._put(DEVICE_FEATURES, chosen)
        self._put(QUEUE_SIZE_MAX, LARGEST if setup else 0)
        self._put(STATUS, self._status)
        self._store_more()

    def _store_more(self) -> None:
        """Store the registers that the other version of the interface has not."""
        setup = self._setup()
        self._put(QUEUE_READY, int(setup is not None and setup.queue is not None))
        self._put(CONFIG_GENERATION, self._generation)

    def _store_config(self) -> None:
        config = self.device.config()
        self._page[CONFIG : CONFIG + len(config)] = config

    def _put(self, offset: int, value: int) -> None:
        pack_into("<I", self._page, offset, value)

    # --- the bus ---

    def read(self, offset: int, size: int) -> int:
        """Read a register, where the guest cannot do that by itself."""
        return int.from_bytes(self._page[offset : offset + size], "little")

    def write(self, offset: int, size: int, value: int) -> None:
        """Write a register, which are all 4 bytes wide, or the configuration, where a device lets the driver do that."""
        if offset >= CONFIG and hasattr(self.device, "write_config"):
            with self.lock:
                self.device.write_config(offset - CONFIG, value.to_bytes(size, "little"))
                self._store_config()
        elif size == 4 and offset < CONFIG:
            with self.lock:
                try:
                    self._write(offset, value)
                except QueueError:
                    self._fail()
                self._store()

    def _write(self, offset: int, value: int) -> None:
        if offset == QUEUE_NOTIFY:
            self._notify(value)
        elif offset == INTERRUPT_ACK:
            lib.registers_acknowledge(self._registers, value)
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
        before = self._status
        if not before & FEATURES_OK and (self._accepted & ~self._offered or not self._accepted & F_VERSION_1):
            value &= ~FEATURES_OK
        if not (before | value) & FEATURES_OK:
            value &= ~DRIVER_OK
        self._status = before | value & 0xFF & ~NEEDS_RESET
        if self._status & ~before & DRIVER_OK:
            self._begin()

    def _begin(self) -> None:
        """The device goes live: look at all queues, for Linux's console driver has made its buffers available by now, and
        will not say so again."""
        begin = getattr(self.device, "begin", None)
        if begin is not None:
            begin(self._accepted)
        for number in range(len(self._setups)):
            self._give(number)
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
            self._take_back(self._queue_select)
            setup.queue = self._enable(setup) if value & 1 and self._status & FEATURES_OK else None
            self._give(self._queue_select)
        elif setup.queue is None and offset == QUEUE_SIZE:
            setup.size = value
        elif setup.queue is None and offset in ADDRESSES:
            field, shift = ADDRESSES[offset]
            before: int = getattr(setup, field)
            setattr(setup, field, before & ~(0xFFFF_FFFF << shift) | value << shift)

    def _enable(self, setup: Setup) -> Queue:
        return Queue(
            self._ram,
            setup.size,
            setup.descriptors,
            setup.driver,
            setup.device,
            event_idx=bool(self._accepted & F_EVENT_IDX),
            indirect=bool(self._accepted & F_INDIRECT_DESC),
            packed=bool(self._accepted & F_RING_PACKED),
        )

    # --- the queues ---

    def _give(self, number: int) -> None:
        """Let the path have a queue, once the device is live."""
        queue = self.queue(number)
        if queue is not None and number in self._served:
            self._served[number].give(number, queue)

    def _take_back(self, number: int) -> None:
        """When this returns, nobody uses the queue any more."""
        if self._setups[number].queue is not None and number in self._served:
            self._served[number].give(number, None)
        self._setups[number].queue = None

    def _notify(self, number: int) -> None:
        queue = self.queue(number) if number < len(self._setups) else None
        if queue is None:
            return
        if number in self._served:
            self._served[number].poke(number)
        else:
            self.device.notify(number, queue)  # type: ignore[attr-defined]
            self.after()

    def _halt(self) -> None:
        """No path uses a queue any more."""
        for number, setup in enumerate(self._setups):
            if number in self._served and setup.queue is not None:
                self._served[number].give(number, None)

    def _broken(self) -> None:
        """The driver has broken a rule, as a path found; unless it has reset the device meanwhile."""
        with self.lock:
            if any(setup.queue is not None and setup.queue.why for setup in self._setups):
                self._fail()
                self._store()

    def _fail(self) -> None:
        """Do no more until the driver resets the device, and tell it so (2.1.2)."""
        self._status |= NEEDS_RESET
        self._halt()
        if self._status & DRIVER_OK:
            lib.registers_interrupt(self._registers, self._interrupt, CONFIG_CHANGED)
