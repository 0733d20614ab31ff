"""The driver's side of virtio, written from the specification: rings in memory, registers, and threads for the paths."""

from __future__ import annotations

import os
import struct
import threading
import time

from minivm.devices.virtio.legacy import Legacy
from minivm.devices.virtio.mmio import Mmio
from minivm.devices.virtio.queue import Ram
from minivm.kvm import GuestMemory

RAM = 1 << 21
VERSION_1, EVENT_IDX, INDIRECT, PACKED = 1 << 32, 1 << 29, 1 << 28, 1 << 34
NEXT, WRITE, IN_TABLE = 1, 2, 4
AREA = 0x4000  # of each queue: descriptors, then at 0x1000 the driver's area, at 0x2000 the device's
TABLES, BUFFERS = 0x40000, 0x80000
LIMIT = 10  # seconds in which an answer must come


class Memory:
    """The guest's RAM, from address 0 on."""

    def __init__(self, fd=-1):
        self.pages = GuestMemory(RAM, fd)
        self.bytes = self.pages.view(0, RAM)

    def put(self, form, address, *values):
        struct.pack_into(form, self.bytes, address, *values)

    def get(self, form, address):
        return struct.unpack_from(form, self.bytes, address)


class Split:
    """The driver's side of a split virtqueue (2.7)."""

    def __init__(self, memory, base, size, event_idx):
        self.memory, self.size, self.event_idx = memory, size, event_idx
        self.descriptors, self.driver, self.device = base, base + 0x1000, base + 0x2000
        self.available = self.used = 0
        self.free = list(range(size))
        self.taken = {}

    def add(self, parts):
        """Add (address, length, flags) descriptors; returns the head, or None without room."""
        if len(parts) > len(self.free):
            return None
        numbers = [self.free.pop(0) for _ in parts]
        for number, following, (address, length, flags) in zip(numbers, [*numbers[1:], 0], parts, strict=True):
            self.memory.put("<QIHH", self.descriptors + 16 * number, address, length, flags, following)
        self.taken[numbers[0]] = numbers
        self.memory.put("<H", self.driver + 4 + 2 * (self.available % self.size), numbers[0])
        self.available = self.available + 1 & 0xFFFF
        self.memory.put("<H", self.driver + 2, self.available)
        return numbers[0]

    def get(self):
        """Return (head, bytes written) of a buffer that came back, or None."""
        if self.memory.get("<H", self.device + 2) == (self.used,):
            return None
        head, written = self.memory.get("<II", self.device + 4 + 8 * (self.used % self.size))
        self.used = self.used + 1 & 0xFFFF
        self.free += self.taken.pop(head)
        return head, written

    def enable(self, wanted=True):
        """Ask for an interrupt at the next used buffer, or for none."""
        if self.event_idx:
            self.memory.put("<H", self.driver + 4 + 2 * self.size, self.used if wanted else self.used - 1 & 0xFFFF)
        else:
            self.memory.put("<H", self.driver, int(not wanted))

    def must_notify(self, before):
        """Whether the device wants to hear of what was made available since `before` (2.7.10.2)."""
        if not self.event_idx:
            return not self.memory.get("<H", self.device)[0] & 1
        (event,) = self.memory.get("<H", self.device + 4 + 8 * self.size)
        return (self.available - event - 1 & 0xFFFF) < (self.available - before & 0xFFFF)


class Packed:
    """The driver's side of a packed virtqueue (2.8)."""

    def __init__(self, memory, base, size, event_idx):
        self.memory, self.size, self.event_idx = memory, size, event_idx
        self.descriptors, self.driver, self.device = base, base + 0x1000, base + 0x2000
        self.available = self.used = 0  # places
        self.round = self.used_round = 1
        self.room = size
        self.ids = list(range(size))
        self.taken = {}

    def add(self, parts):
        if len(parts) > self.room:
            return None
        head, first, first_flags = self.ids.pop(0), self.available, 0
        for number, (address, length, flags) in enumerate(parts):
            flags |= 0x80 if self.round else 0x8000
            self.memory.put("<QIH", self.descriptors + 16 * self.available, address, length, head)
            if number:
                self.memory.put("<H", self.descriptors + 16 * self.available + 14, flags)
            else:
                first_flags = flags
            self.available, self.round = self._after(self.available, self.round, 1)
        self.memory.put("<H", self.descriptors + 16 * first + 14, first_flags)  # last: now the chain is available
        self.taken[head] = len(parts)
        self.room -= len(parts)
        return head

    def _after(self, place, round_, count):
        place += count
        return (place - self.size, round_ ^ 1) if place >= self.size else (place, round_)

    def get(self):
        _, written, head, flags = self.memory.get("<QIHH", self.descriptors + 16 * self.used)
        if bool(flags & 0x80) != bool(flags & 0x8000) or bool(flags & 0x8000) != bool(self.used_round):
            return None
        count = self.taken.pop(head)
        self.ids.append(head)
        self.room += count
        self.used, self.used_round = self._after(self.used, self.used_round, count)
        return head, written

    def enable(self, wanted=True):
        if wanted and self.event_idx:
            self.memory.put("<HH", self.driver, self.used | self.used_round << 15, 2)
        else:
            self.memory.put("<HH", self.driver, 0, int(not wanted))

    def must_notify(self, before):
        place, flags = self.memory.get("<HH", self.device)
        if flags != 2:
            return flags == 0
        event, round_ = place & 0x7FFF, place >> 15
        event -= 0 if round_ == self.round else self.size
        return (self.available - event - 1 & 0xFFFF) < (self.available - before & 0xFFFF)


class Driver:
    """A driver of a device: the steps of 3.1.1, then buffers; threads serve the device's paths until close()."""

    interface = Mmio

    def __init__(self, device, features=VERSION_1 | EVENT_IDX | INDIRECT, queues=None, size=16, begin=True, memory=None):
        self.memory, self.device, self.size = memory or Memory(), device, size
        self.eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.ram = Ram([(0, self.memory.pages)])
        self.mmio = self.interface(device, self.ram, self.eventfd)
        self.begin_threads()
        self.next = BUFFERS
        self.tables = TABLES
        self.places = {}
        self.queues = range(device.queues) if queues is None else queues
        self.negotiate(features)
        self.rings = {number: self.set_up(number) for number in self.queues} if self.agreed else {}
        if begin:
            self.begin()

    def begin(self):
        self.write(0x70, 1 | 2 | 8 | 4)

    def begin_threads(self):
        self.threads = [threading.Thread(target=path.run, daemon=True) for path in self.mmio.paths]
        for thread in self.threads:
            thread.start()

    def negotiate(self, features):
        self.write(0x70, 1 | 2)
        offered = [self.write(0x14, half) or self.read(0x10) for half in (0, 1)]
        self.offered = offered[0] | offered[1] << 32
        for half in (0, 1):
            self.write(0x24, half)
            self.write(0x20, features >> 32 * half & 0xFFFFFFFF)
        self.write(0x70, 1 | 2 | 8)
        self.agreed, self.features = bool(self.read(0x70) & 8), features

    def set_up(self, number):
        ring = (Packed if self.features & PACKED else Split)(
            self.memory, AREA * (number + 1), self.size, bool(self.features & EVENT_IDX)
        )
        self.write(0x30, number)
        self.write(0x38, self.size)
        for register, address in ((0x80, ring.descriptors), (0x90, ring.driver), (0xA0, ring.device)):
            self.write(register, address)
            self.write(register + 4, 0)
        self.write(0x44, 1)
        return ring

    def close(self):
        for path in self.mmio.paths:
            path.stop()
        for thread in self.threads:
            thread.join(LIMIT)
            assert not thread.is_alive(), "a path stops when it is told to"
        self.mmio.close()
        os.close(self.eventfd)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def read(self, offset, size=4):
        return self.mmio.read(offset, size)

    def write(self, offset, value):
        self.mmio.write(offset, 4, value)

    @property
    def pulses(self):
        """How many interrupts there were since this was last asked."""
        try:
            return os.eventfd_read(self.eventfd)
        except BlockingIOError:
            return 0

    def _room(self, length):
        if self.next + length > RAM:
            self.next = BUFFERS
        at, self.next = self.next, self.next + length + 16
        return at

    def offer(self, parts, queue=0, indirect=False):
        """Make a buffer of (bytes to read | number of bytes to write) available; returns its head, None without room."""
        descriptors, places = [], []
        for number, part in enumerate(parts):
            length = part if isinstance(part, int) else len(part)
            at = self._room(length)
            if not isinstance(part, int):
                self.memory.bytes[at : at + length] = part
            descriptors.append((at, length, WRITE * isinstance(part, int) | (number < len(parts) - 1)))
            if isinstance(part, int):
                places.append((at, length))
        if indirect:
            descriptors = [self._table(descriptors)]
        head = self.rings[queue].add(descriptors)
        if head is not None:
            self.places[queue, head] = places
        return head

    def _table(self, descriptors):
        at, packed = self.tables, self.features & PACKED
        self.tables = TABLES if self.tables > BUFFERS - 0x8000 else self.tables + 16 * len(descriptors) + 16
        for number, (address, length, flags) in enumerate(descriptors):
            more = (0, flags & ~NEXT) if packed else (flags, number + 1)
            self.memory.put("<QIHH", at + 16 * number, address, length, *more)
        return at, 16 * len(descriptors), IN_TABLE

    def notify(self, queue=0):
        self.write(0x50, queue)

    def collect(self, queue=0):
        """Return (head, bytes written, the parts to write) of a buffer that came back, or None."""
        got = self.rings[queue].get()
        if got is None:
            return None
        parts = [bytes(self.memory.bytes[at : at + length]) for at, length in self.places.pop((queue, got[0]))]
        return *got, parts

    def wait(self, queue=0):
        """The same, waiting for it."""
        return until(lambda: self.collect(queue))

    def ask(self, parts, queue=0, indirect=False):
        """Offer one buffer, notify, and return what was written: (bytes said to be written, the parts to write)."""
        head = self.offer(parts, queue, indirect)
        self.rings[queue].enable()
        self.notify(queue)
        got, written, filled = self.wait(queue)
        assert got == head
        return written, filled


class OldDriver(Driver):
    """A driver of the interface of before VIRTIO 1.0 (4.2.4)."""

    interface = Legacy
    page_size, align = 4096, 4096

    def begin(self):
        self.write(0x70, 1 | 2 | 4)

    def negotiate(self, features):
        self.write(0x28, self.page_size)
        self.write(0x70, 0)
        self.write(0x70, 1 | 2)
        offered = [self.write(0x14, half) or self.read(0x10) for half in (0, 1)]
        self.offered = offered[0] | offered[1] << 32
        self.write(0x24, 0)
        self.write(0x20, features & 0xFFFFFFFF)
        self.agreed, self.features = True, features & 0xFFFFFFFF

    def set_up(self, number):
        ring = Split(self.memory, AREA * (number + 1), self.size, bool(self.features & EVENT_IDX))
        # struct virtq of 2.7.2: desc[size]; avail { flags, idx, ring[size], used_event }; pad; used
        ring.driver = ring.descriptors + 16 * self.size
        end = ring.driver + 2 + 2 + 2 * self.size + 2
        ring.device = end + -end % self.align
        self.write(0x30, number)
        self.write(0x38, self.size)
        self.write(0x3C, self.align)
        self.write(0x40, ring.descriptors // self.page_size)
        return ring


def until(what, limit=LIMIT):
    """Return the first true result; fail where none comes in time."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.0002)
    raise AssertionError("nothing came in time")
