"""A guest that writes anything to any register, in any order: no device raises, spins, or answers more than was asked for.

The devices are those of a built machine, with its memory, eventfds and the threads of their paths; what the guest's accesses
become in machine/loop.py is done here by hand.
"""

from __future__ import annotations

import os
import shutil
import struct
import sys
import tempfile
import threading

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from minivm.boot import formats, layout
from minivm.devices.virtio import vsock_stream
from minivm.machine.config import Config, Disk
from minivm.machine.devices import Hotplug, Vsock
from minivm.machine.machine import Machine

pytestmark = [
    pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="/dev/kvm is missing or not ours to open"),
    pytest.mark.timeout(120),
]
MEMORY = 8 << 20
MOST_LINES = 20_000  # of Python that one access may execute: a queue of the largest size, full, takes a quarter of it
PAGE, DEVICES = 0x1000, 6
LIMIT = 30  # seconds in which a thread ends that is told to
PORTS = st.sampled_from([*range(0x3F8, 0x400), 0x70, 0x71, 0x60, 0x61, 0x64, 0xF4, 0xF5, 0x501, 0x510, 0x511, 0x600, 0x601,
                         *range(0x610, 0x616), 0x80, 0xFFFF])  # fmt: skip
SIZES, WIDE = st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 4, 4, 4, 8])
EDGES = [0, 1, 2, 3, 4, 7, 8, 11, 15, 16, 0x80, 0xFF, 256, 1 << 15, 1 << 16, (1 << 32) - 1, 1 << 31, (1 << 64) - 1, 0x100000,
         MEMORY - 16, MEMORY, 0xFFFF_F000]  # fmt: skip
VALUES = st.one_of(st.sampled_from(EDGES), st.integers(0, (1 << 64) - 1))
NAMED = [0x14, 0x10, 0x20, 0x24, 0x28, 0x30, 0x38, 0x3C, 0x40, 0x44, 0x50, 0x64, 0x70, 0x80, 0x84, 0x90, 0x94, 0xA0, 0xA4]
REGISTERS = st.one_of(st.sampled_from(NAMED), st.integers(0, PAGE - 1))
ELSEWHERE = st.sampled_from([layout.DEBUG_EXIT, layout.DEBUG_EXIT + 0xFFF, 0xFEE00000, 1 << 40, (1 << 64) - 1])
SOMEWHERE = st.sampled_from([0x200000, 0x300000, 0x400000, MEMORY - 4096, MEMORY, 0, 1 << 63])
SHIFTED = st.one_of(st.integers(0, 31).map(lambda bit: 1 << bit), st.integers(0, (1 << 32) - 1), st.sampled_from([0, 3, 0x300]))
PLACES = st.sampled_from([0x200000, 0x300000, 0x400000, 0x100000, MEMORY - 4096])

# What a buffer may hold to be read: requests that make sense to one of the devices, and others.
AREA, BUFFERS = 0x300000, 0x600000  # of each queue 0x4000 bytes: descriptors, at 0x1000 the driver's area, at 0x2000 the device's
SMALL = st.sampled_from([0, 1, 2, 3, 52, 1 << 20, (1 << 32) - 1])
OPS = st.integers(0, 8)
DISK, RNG, CONSOLE, VSOCK, BALLOON, MEM = range(DEVICES)
ANY = st.binary(max_size=80)
REQUESTS = {
    DISK: st.builds(struct.Struct("<IIQ").pack, st.sampled_from([0, 1, 4, 8, 11, 13]), st.just(0), st.integers(0, 130)),
    RNG: ANY,
    CONSOLE: st.builds(struct.Struct("<IHH").pack, st.integers(0, 3), OPS, st.integers(0, 2)),
    VSOCK: st.builds(
        lambda op, port, peer, flags, credit, length: vsock_stream.HEADER.pack(3, 2, peer, port, length, 1, op, flags, credit, 0)
        + bytes(length), OPS, SMALL, SMALL, SMALL, SMALL, st.integers(0, 60),
    ),
    BALLOON: st.one_of(
        st.lists(st.integers(0, MEMORY // PAGE + 1), max_size=9).map(lambda numbers: struct.pack(f"<{len(numbers)}I", *numbers)),
        st.lists(st.integers(0, 11), max_size=5).map(lambda tags: b"".join(struct.pack("<HQ", tag, 1) for tag in tags)),
    ),
    MEM: st.builds(lambda kind, block, count: struct.pack("<HxxxxxxQHxxxxxx", kind, (1 << 32) + (block << 21), count),
                   st.integers(0, 4), st.integers(0, 9), st.integers(0, 9)),
}  # fmt: skip
QUEUES = [(DISK, 0), (RNG, 0), (MEM, 0), *((CONSOLE, n) for n in range(6)), *((VSOCK, n) for n in range(3)),
          *((BALLOON, n) for n in range(5))]  # fmt: skip
TO_WRITE, LENGTH = st.sampled_from([True, True, True, False]), st.sampled_from([0, 1, 8, 44, 512, 4096, 70_000])
PARTS = st.lists(st.tuples(TO_WRITE, LENGTH), max_size=3)
RARELY = st.sampled_from([False] * 7 + [True])


def area(device: int, queue: int) -> int:
    return AREA + 0x4000 * (8 * device + queue)


class Live:
    """A device that is up: of each queue, where its next descriptors go, and how many buffers it was given."""

    def __init__(self, size: int, packed: bool, queues: int) -> None:
        self.size, self.packed = size, packed
        self.places, self.given = [0] * queues, [0] * queues


class LineCount:
    """Counts the lines of Python that this thread executes, and raises where they are too many."""

    def __enter__(self) -> None:
        self.lines, self.before = 0, sys.gettrace()
        sys.settrace(self.trace)

    def trace(self, frame, event, argument):
        self.lines += 1
        assert self.lines < MOST_LINES, f"it spins in {frame.f_code.co_qualname}"
        return self.trace

    def __exit__(self, *_: object) -> None:
        sys.settrace(self.before)


class Malice(RuleBasedStateMachine):
    """Everything that a guest, and the person at its console, can do to the devices."""

    old = False  # whether the devices are for drivers that are older than VIRTIO 1.0

    def __init__(self) -> None:
        super().__init__()
        self.disk = os.memfd_create("disk", 0)
        os.truncate(self.disk, 1 << 16)
        self.null = os.open(os.devnull, os.O_RDWR)
        self.directory = tempfile.mkdtemp(prefix="minivm-malice-")
        config = Config(
            memory=MEMORY, disks=[Disk(f"/proc/self/fd/{self.disk}")], rng=True, hvc=True, ports=[("a", f"{self.directory}/a")],
            vsock=Vsock(f"{self.directory}/v"), balloon=0, hotplug=Hotplug(8 << 20, 4 << 20), watchdog=True,
            legacy=self.old,
        )  # fmt: skip
        kernel = formats.read_kernel(formats.default_kernel())
        start = formats.prepare(kernel, "auto", config.memory, "", processors=1, virtio=DEVICES)
        self.machine = Machine(config, start, console=self.null)
        self.machine.build()
        self.pages = [address for address, _ in layout.virtio_slots(DEVICES)]
        self.live: dict[int, Live] = {}  # devices that were brought up, and not yet reset
        self.threads = [threading.Thread(target=self.machine.path_thread, args=(path,), daemon=True) for path in self.machine.paths]
        for thread in self.threads:
            thread.start()

    def teardown(self) -> None:
        for path in self.machine.paths:
            path.stop()
        for thread in self.threads:
            thread.join(LIMIT)
            assert not thread.is_alive(), "a thread spins or hangs"
        self.machine.close()
        shutil.rmtree(self.directory)
        os.close(self.null)
        os.close(self.disk)

    @rule(port=PORTS, size=SIZES, value=VALUES)
    def writes_to_a_port(self, port, size, value):
        with LineCount():
            self.machine.bus.write(port, size, value & (1 << 8 * size) - 1)

    @rule(port=PORTS, size=SIZES)
    def reads_from_a_port(self, port, size):
        with LineCount():
            assert 0 <= self.machine.bus.read(port, size) < 1 << 8 * size

    @rule(device=st.integers(0, DEVICES - 1), register=REGISTERS, size=WIDE, value=VALUES)
    def writes_to_a_register(self, device, register, size, value):
        with LineCount():
            self.machine.memory_bus.write(self.pages[device] + register, size, value & (1 << 8 * size) - 1)

    @rule(device=st.integers(0, DEVICES - 1), register=REGISTERS, size=WIDE)
    def reads_a_register(self, device, register, size):
        with LineCount():
            assert 0 <= self.machine.memory_bus.read(self.pages[device] + register, size) < 1 << 8 * size

    @rule(address=ELSEWHERE, size=WIDE)
    def reads_and_writes_elsewhere(self, address, size):
        assert 0 <= self.machine.memory_bus.read(address, size) < 1 << 8 * size
        self.machine.memory_bus.write(address, size, 0)

    @rule(device=st.integers(0, DEVICES - 1), queue=st.integers(0, 2), size=st.sampled_from([1, 2, 16, 256, 3, 1 << 15]),
          places=st.lists(SOMEWHERE, min_size=3, max_size=3),
          packed=st.booleans())  # fmt: skip
    def drives_as_a_driver_would(self, device, queue, size, places, packed):
        """By the book up to the queue's contents, so that what lies behind the first checks is reached."""
        page = self.pages[device]
        words = [(0x70, 0), (0x70, 3), (0x24, 1), (0x20, 1 | 4 * packed), (0x24, 0), (0x20, 3 << 28), (0x70, 11)]
        self.live.pop(device, None)
        with LineCount():
            for register, value in (*words, *self.queue_at(queue, size, places), (0x70, 15), (0x50, queue)):
                self.machine.memory_bus.write(page + register, 4, value)

    def queue_at(self, queue, size, places):
        """What is written to have a queue."""
        words = [(0x30, queue), (0x38, size)]
        for register, place in zip((0x80, 0x90, 0xA0), places, strict=True):
            words += [(register, place & 0xFFFF_FFFF), (register + 4, place >> 32)]
        return [*words, (0x44, 1)]

    @rule(device=st.integers(0, DEVICES - 1), size=st.sampled_from([4, 16]), packed=st.booleans(), features=st.booleans())
    def brings_a_device_up(self, device, size, packed, features):
        """All of its queues, by the book."""
        page, queues, bus = self.pages[device], self.machine.transports[device].device.queues, self.machine.memory_bus
        bus.write(page + 0x14, 4, 0)
        offered = bus.read(page + 0x10, 4) & ~(1 << 29) if features else 0  # without the event index: a driver is told nothing
        words = [(0x70, 0), (0x70, 3), (0x24, 1), (0x20, 1 | 4 * packed), (0x24, 0), (0x20, offered), (0x70, 11)]
        for queue in range(queues):
            place = area(device, queue)
            self.machine.bytes_at(place, 0x4000)[:] = bytes(0x4000)
            words += self.queue_at(queue, size, (place, self.ring(place, size), place + 0x2000))
        with LineCount():
            for register, value in (*words, (0x70, 15)):
                bus.write(page + register, 4, value)
        assert bus.read(page + 0x70, 4) == 15
        self.live[device] = Live(size, packed and not self.old, queues)

    def ring(self, place, size):
        """Where the driver's area of a queue is that begins at this place."""
        return place + 0x1000

    @rule(where=st.sampled_from(QUEUES), data=st.data(), parts=PARTS, late=RARELY, packed=st.booleans())
    def gives_a_buffer(self, where, data, parts, late, packed):
        """One that holds a request, with room behind it or not; not always as its queue's kind wants it."""
        device, queue = where
        if device not in self.live or self.machine.memory_bus.read(self.pages[device] + 0x70, 4) != 15:
            self.brings_a_device_up(device, 16, packed, True)
        live, request = self.live[device], data.draw(st.one_of(REQUESTS[device], REQUESTS[device], REQUESTS[device], ANY))
        self.machine.bytes_at(BUFFERS, len(request))[:] = request
        whole = [(False, len(request)), *parts] if not late else [*parts, (False, len(request))]
        place = live.places[queue]
        for number, (write, length) in enumerate(whole):
            at, round_ = (place + number) % live.size, (place + number) // live.size % 2
            flags = 2 * write | (number < len(whole) - 1)
            fields = (0, flags | (0x8000 if round_ else 0x80)) if live.packed else (flags, (at + 1) % live.size)
            head = area(device, queue) + 16 * at
            self.machine.bytes_at(head, 16)[:] = struct.pack("<QIHH", BUFFERS, length, *fields)
        if live.packed:
            live.places[queue] += len(whole)
        else:
            ring = self.ring(area(device, queue), live.size)
            self.machine.bytes_at(ring + 4 + 2 * (live.given[queue] % live.size), 2)[:] = struct.pack("<H", place % live.size)
            live.given[queue] += 1
            self.machine.bytes_at(ring + 2, 2)[:] = struct.pack("<H", live.given[queue] & 0xFFFF)
        with LineCount():
            self.machine.memory_bus.write(self.pages[device] + 0x50, 4, queue)

    @rule(address=PLACES, data=st.binary(max_size=64), offset=st.integers(0, 4000))
    def fills_memory(self, address, data, offset):
        """With descriptors, rings, anything."""
        length = min(len(data), MEMORY - address - offset)
        self.machine.bytes_at(address + offset, length)[:] = data[:length]

    @rule(data=st.binary(max_size=5000))
    def somebody_types(self, data):
        with LineCount():
            self.machine.type(data)
            self.machine.uart.push(data[:40])

    @rule()
    def the_console_hangs_up(self):
        self.machine.hang_up()

    @rule(device=st.integers(0, DEVICES - 1))
    def resets_a_device_and_finds_it_as_new(self, device):
        page, bus = self.pages[device], self.machine.memory_bus
        self.live.pop(device, None)
        bus.write(page + 0x70, 4, 0)
        version, in_use = (1, 0x40) if self.old else (2, 0x44)
        assert [bus.read(page + at, 4) for at in (0x00, 0x04, in_use, 0x60, 0x70)] == [0x74726976, version, 0, 0, 0]

    @invariant()
    def what_ends_the_machine_is_a_status_or_nothing(self):
        outcome = self.machine.outcome
        assert outcome is None or (outcome.error is None and 0 <= outcome.status <= 255)


class OldMalice(Malice):
    """The same, to devices of before VIRTIO 1.0 (all of them, though some are offered to no old driver)."""

    old = True

    def queue_at(self, queue, size, places):
        """The first place counts, as the number of a page; the used ring is at the third, where that is not before the second."""
        start, _, used = places
        words = [(0x28, 4096), (0x30, queue), (0x38, size), (0x3C, 0x2000 if used - start == 0x2000 else used & 0xFFFF_FFFF)]
        return [*words, (0x40, start >> 12 & 0xFFFF_FFFF)]

    def ring(self, place, size):
        return place + 16 * size

    @rule(device=st.integers(0, DEVICES - 1), queue=st.integers(0, 6), sizes=st.lists(SHIFTED, min_size=4, max_size=4))
    def places_a_queue_anywhere(self, device, queue, sizes):
        """In any state, with pages of any size, and any alignment."""
        page_size, size, align, page = sizes
        with LineCount():
            for register, value in ((0x28, page_size), (0x30, queue), (0x38, size), (0x3C, align), (0x40, page), (0x50, queue)):
                self.machine.memory_bus.write(self.pages[device] + register, 4, value)
        self.live.pop(device, None)


OldMalice.TestCase.settings = settings(max_examples=40, stateful_step_count=80, deadline=None)
TestOldMalice = OldMalice.TestCase
Malice.TestCase.settings = settings(max_examples=80, stateful_step_count=80, deadline=None)
TestMalice = Malice.TestCase
