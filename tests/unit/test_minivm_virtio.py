"""virtio: a driver written from the specification's other side against our devices; and a driver that breaks every rule."""

from __future__ import annotations

import os
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minivm.devices.virtio import blk, mmio
from minivm.devices.virtio.blk import Blk
from minivm.devices.virtio.console import Console
from minivm.devices.virtio.mmio import Mmio
from minivm.devices.virtio.queue import Queue, QueueError
from minivm.devices.virtio.rng import Rng

RAM = 1 << 20
SIZE = 8
DESCRIPTORS, AVAILABLE, USED, BUFFERS = 0x1000, 0x2000, 0x3000, 0x10000
VERSION_1, EVENT_IDX, INDIRECT = 1 << 32, 1 << 29, 1 << 28


class Ram:
    def __init__(self):
        self.bytes = bytearray(RAM)

    def __call__(self, address, length):
        if address < 0 or length < 0 or address + length > RAM:
            raise IndexError(f"{address:#x}")
        return memoryview(self.bytes)[address : address + length]


class Driver:
    """The driver's side of a device on MMIO: the steps of 3.1.1, and one chain at a time."""

    def __init__(self, device, features=VERSION_1 | EVENT_IDX | INDIRECT, queue=0):
        self.ram, self.pulses, self.available, self.used, self.queue = Ram(), 0, 0, 0, queue
        self.mmio = Mmio(device, self.ram, self._pulse)
        self.write(0x70, 1 | 2)
        offered = [self.write(0x14, half) or self.read(0x10) for half in (0, 1)]
        assert (offered[0] | offered[1] << 32) & VERSION_1
        for half in (0, 1):
            self.write(0x24, half)
            self.write(0x20, features >> 32 * half & 0xFFFFFFFF)
        self.write(0x70, 1 | 2 | 8)
        self.agreed = bool(self.read(0x70) & 8)
        self.features = features
        self.write(0x30, queue)
        self.write(0x38, SIZE)
        for register, address in ((0x80, DESCRIPTORS), (0x90, AVAILABLE), (0xA0, USED)):
            self.write(register, address)
            self.write(register + 4, 0)
        self.write(0x44, 1)
        self.write(0x70, 1 | 2 | 8 | 4)

    def _pulse(self):
        self.pulses += 1

    def read(self, offset):
        return self.mmio.read(offset, 4)

    def write(self, offset, value):
        self.mmio.write(offset, 4, value)

    def put(self, form, address, *values):
        struct.pack_into(form, self.ram.bytes, address, *values)

    def get(self, form, address):
        return struct.unpack_from(form, self.ram.bytes, address)

    def offer(self, parts, indirect=False):
        """Make a chain of (bytes to read | number of bytes to write) available; returns where the parts lie."""
        table, at, places = (0x8000 if indirect else DESCRIPTORS), BUFFERS, []
        for number, part in enumerate(parts):
            length = part if isinstance(part, int) else len(part)
            if not isinstance(part, int):
                self.ram.bytes[at : at + length] = part
            flags = 2 * isinstance(part, int) | (number < len(parts) - 1)
            self.put("<QIHH", table + 16 * number, at, length, flags, number + 1)
            places.append((at, length))
            at += length + 16
        if indirect:
            self.put("<QIHH", DESCRIPTORS, table, 16 * len(parts), 4, 0)
        self.put("<H", AVAILABLE + 4 + 2 * (self.available % SIZE), 0)
        self.available = self.available + 1 & 0xFFFF
        self.put("<H", AVAILABLE + 2, self.available)
        return places

    def ask(self, parts, indirect=False):
        """Offer a chain, notify, and return what was written: (bytes said to be written, the parts to write)."""
        places = self.offer(parts, indirect)
        self.put("<H", AVAILABLE + 4 + 2 * SIZE, self.used)  # used_event: tell me of the next one
        self.write(0x50, self.queue)
        assert self.get("<H", USED + 2) == (self.used + 1 & 0xFFFF,), "the chain came back"
        head, written = self.get("<II", USED + 4 + 8 * (self.used % SIZE))
        self.used = self.used + 1 & 0xFFFF
        assert head == 0
        return written, [bytes(self.ram(*p)) for p, part in zip(places, parts, strict=True) if isinstance(part, int)]


FEATURES = st.sampled_from([VERSION_1, VERSION_1 | EVENT_IDX, VERSION_1 | INDIRECT, VERSION_1 | EVENT_IDX | INDIRECT])


# --- the transport ---


def test_the_registers_say_what_it_is():
    driver = Driver(Rng())
    assert [driver.read(at) for at in (0, 4, 8)] == [0x74726976, 2, 4]
    assert driver.agreed and driver.read(0x44) == 1


def test_features_that_were_not_offered_are_not_agreed_on():
    assert not Driver(Rng(), VERSION_1 | 1 << 40).agreed
    assert not Driver(Rng(), EVENT_IDX).agreed, "a driver of the old interface"
    driver = Driver(Rng(), VERSION_1 | 1 << 40)
    driver.offer([16])
    driver.write(0x50, 0)
    assert driver.get("<H", USED + 2) == (0,), "its queue was never in use"


def test_a_reset_forgets_everything():
    driver = Driver(Rng())
    driver.ask([16])
    assert driver.read(0x60) == 1
    driver.write(0x70, 0)
    assert [driver.read(at) for at in (0x60, 0x70, 0x44)] == [0, 0, 0]


def test_an_interrupt_is_pending_until_it_is_acknowledged():
    driver = Driver(Rng())
    driver.ask([16])
    assert (driver.pulses, driver.read(0x60)) == (1, 1)
    driver.write(0x64, 1)
    assert driver.read(0x60) == 0


def test_no_interrupt_where_the_driver_wants_none():
    driver = Driver(Rng(), VERSION_1)
    driver.put("<H", AVAILABLE, 1)  # VIRTQ_AVAIL_F_NO_INTERRUPT
    driver.ask([16])
    assert driver.pulses == 0
    driver = Driver(Rng(), VERSION_1 | EVENT_IDX)
    driver.offer([16])
    driver.put("<H", AVAILABLE + 4 + 2 * SIZE, 5)
    driver.write(0x50, 0)
    assert driver.pulses == 0 and driver.get("<H", USED + 2) == (1,)


@given(FEATURES, st.lists(st.integers(1, 64), min_size=1, max_size=SIZE), st.integers(1, 70))
def test_a_device_fills_every_part_and_counters_wrap(features, sizes, rounds):
    driver = Driver(Rng(), features)
    start = 0xFFF0  # as after that many rounds
    driver.mmio._setups[0].queue._next_available = driver.mmio._setups[0].queue._next_used = start
    driver.mmio._setups[0].queue._told = driver.available = driver.used = start
    driver.put("<H", AVAILABLE + 2, start)
    driver.put("<H", USED + 2, start)
    for count in range(rounds):
        written, parts = driver.ask(sizes, indirect=bool(features & INDIRECT and count % 2))
        assert written == sum(sizes) == sum(map(len, parts))
    assert driver.pulses == rounds


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda d: d.put("<H", AVAILABLE + 2, SIZE + 1), "more available than the queue holds"),
        (lambda d: d.put("<H", AVAILABLE + 4, SIZE), "a descriptor outside of its table"),
        (lambda d: d.put("<QIHH", DESCRIPTORS, BUFFERS, 4, 3, 0), "a circle"),
        (lambda d: d.put("<QIHH", DESCRIPTORS, RAM - 1, 4, 2, 0), "a buffer that ends outside of memory"),
        (lambda d: d.put("<QIHH", DESCRIPTORS, (1 << 64) - 1, 0xFFFFFFFF, 2, 0), "an address near 2^64"),
        (lambda d: d.put("<QIHH", DESCRIPTORS, 0x8000, 24, 4, 0), "an indirect table of one and a half entries"),
        (lambda d: (d.put("<QIHH", DESCRIPTORS, 0x8000, 16, 4, 0), d.put("<QIHH", 0x8000, 0x8000, 16, 4, 0)), "two levels"),
    ],
)
def test_a_broken_rule_stops_the_device_until_it_is_reset(spoil, why):
    driver = Driver(Rng())
    driver.offer([16])
    spoil(driver)
    driver.write(0x50, 0)
    assert driver.read(0x70) & 0x40, why
    assert (driver.read(0x60), driver.pulses) == (2, 1), "the driver is told"
    driver.write(0x50, 0)
    driver.write(0x70, 0)
    assert driver.read(0x70) == 0


ACTIONS = st.one_of(
    st.tuples(st.just("write"), st.sampled_from(sorted({*mmio.ADDRESSES, *range(0, 0x110, 4)})), st.integers(0, 0xFFFFFFFF)),
    st.tuples(st.just("write"), st.sampled_from([0x30, 0x38, 0x44, 0x50, 0x70]), st.integers(0, 255)),
    st.tuples(st.just("memory"), st.integers(0x1000, 0x3100), st.binary(min_size=1, max_size=16)),
    st.tuples(st.just("read"), st.integers(0, 0xFFF), st.sampled_from([1, 2, 4, 8])),
)


@settings(max_examples=150)
@given(st.sampled_from(["rng", "blk", "console"]), st.lists(ACTIONS, max_size=60))
def test_nothing_that_a_guest_writes_gets_out_of_the_device(kind, actions):
    fd = os.memfd_create("disk")
    os.truncate(fd, 64 << 10)
    device = {"rng": Rng, "blk": lambda: Blk(fd, 64 << 10), "console": lambda: Console(lambda data: None)}[kind]()
    driver = Driver(device)
    driver.ram.bytes[BUFFERS:] = bytes(RAM - BUFFERS)
    driver.offer([b"\0" * 16, 512, 1] if kind == "blk" else [64])
    for action, where, what in actions:
        if action == "write":
            driver.write(where, what)
        elif action == "memory":
            driver.ram.bytes[where : where + len(what)] = what
        else:
            assert 0 <= driver.mmio.read(where, what) < 1 << 8 * what
    assert os.fstat(fd).st_size == 64 << 10 and len(driver.ram.bytes) == RAM
    os.close(fd)


def test_tables_outside_of_memory_are_refused():
    for descriptors, available, used in ((RAM, AVAILABLE, USED), (DESCRIPTORS, RAM - 2, USED), (8, AVAILABLE, USED)):
        with pytest.raises(QueueError):
            Queue(Ram(), SIZE, descriptors, available, used, event_idx=True, indirect=True)


# --- blk ---


@pytest.fixture
def disk(tmp_path):
    fd = os.open(tmp_path / "disk", os.O_RDWR | os.O_CREAT)
    os.truncate(fd, 1 << 20)
    yield fd
    os.close(fd)


def head(kind, sector=0):
    return struct.pack("<IIQ", kind, 0, sector)


def test_what_is_written_is_in_the_file_and_read_back(disk):
    driver, data = Driver(Blk(disk, 1 << 20)), os.urandom(1024)
    assert driver.ask([head(blk.WRITE, 3), data[:512], data[512:], 1]) == (1, [b"\0"])
    assert os.pread(disk, 1024, 3 * 512) == data
    assert driver.ask([head(blk.READ, 3), 512, 512, 1], indirect=True) == (1025, [data[:512], data[512:], b"\0"])
    assert driver.ask([head(blk.FLUSH), 1]) == (1, [b"\0"])


def test_how_the_driver_divides_its_buffers_is_its_own_affair(disk):
    """2.7.4.1: header in two parts, data and status in one."""
    os.pwrite(disk, b"D" * 512, 512)
    assert Driver(Blk(disk, 1 << 20)).ask([head(blk.READ, 1)[:5], head(blk.READ, 1)[5:], 513]) == (513, [b"D" * 512 + b"\0"])


def test_discarded_sectors_read_as_zeroes_and_take_no_room(disk):
    os.pwrite(disk, b"x" * (1 << 20), 0)
    before = os.fstat(disk).st_blocks
    driver = Driver(Blk(disk, 1 << 20))
    assert driver.ask([head(blk.DISCARD), struct.pack("<QII", 8, 1024, 0), 1]) == (1, [b"\0"])
    assert os.pread(disk, 512 << 10, 4096) == bytes(512 << 10) and os.pread(disk, 4096, 0) == b"x" * 4096
    assert os.fstat(disk).st_blocks < before and os.fstat(disk).st_size == 1 << 20


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ([head(blk.READ, 2048), 512, 1], 1),
        ([head(blk.READ, (1 << 64) - 1), 512, 1], 1),
        ([head(blk.READ), 511, 1], 1),
        ([head(blk.WRITE, 2047), bytes(1024), 1], 1),
        ([head(blk.DISCARD), struct.pack("<QII", 2047, 2, 0), 1], 1),
        ([head(99), 1], 2),
    ],
)
def test_what_lies_outside_of_the_disk_is_an_error(disk, parts, code):
    assert Driver(Blk(disk, 1 << 20)).ask(parts)[1][-1] == bytes((code,))
    assert os.fstat(disk).st_size == 1 << 20


def test_a_read_only_disk_stays_as_it_is(disk):
    driver = Driver(Blk(disk, 1 << 20, read_only=True))
    assert driver.ask([head(blk.WRITE), b"x" * 512, 1])[1] == [b"\1"]
    assert os.pread(disk, 512, 0) == bytes(512)
    driver.write(0x14, 0)
    assert driver.read(0x10) & 1 << 5, "VIRTIO_BLK_F_RO"


def test_the_capacity_and_the_name_are_told(disk):
    driver = Driver(Blk(disk, (1 << 20) + 100, serial="a-name"))
    assert driver.mmio.read(0x100, 8) == 2048, "whole sectors"
    assert driver.ask([head(blk.GET_ID), 20, 1]) == (21, [b"a-name".ljust(20, b"\0"), b"\0"])


# --- console ---


@given(st.lists(st.binary(min_size=1, max_size=30), max_size=12), st.lists(st.integers(1, 20), min_size=1, max_size=12))
def test_what_is_typed_comes_once_and_in_order(typed, buffers):
    console = Console(lambda data: None)
    driver = Driver(console)
    queue = driver.mmio.queue(0)
    for data in typed:
        console.push(data, queue)
    whole, got = b"".join(typed), b""
    for size in (*buffers, *[64] * len(typed)):
        if len(got) == len(whole):
            break
        written, (part,) = driver.ask([size])
        got += part[:written]
    assert got == whole


def test_buffers_that_were_there_before_the_device_went_live_are_used():
    """The driver may fill its queues before DRIVER_OK, must not notify until then (3.1.1), and Linux does not afterwards."""
    console = Console(lambda data: None)
    driver = Driver(console)
    driver.mmio._status &= ~4
    console.push(b"early", driver.mmio.queue(0))
    ((place, _),) = driver.offer([16])
    driver.write(0x50, 0)
    assert driver.get("<H", USED + 2) == (0,), "not live yet"
    driver.write(0x70, 1 | 2 | 8 | 4)
    assert driver.get("<H", USED + 2) == (1,) and bytes(driver.ram(place, 5)) == b"early" and driver.pulses == 1


def test_what_is_printed_goes_out_and_the_host_waits_while_the_guest_does_not_read():
    out, rooms = [], []
    console = Console(lambda data: out.append(bytes(data)), lambda: rooms.append(1))
    driver = Driver(console, queue=1)
    assert driver.ask([b"hello ", b"world"]) == (0, [])
    assert b"".join(out) == b"hello world"
    assert console.push(bytes(64 << 10), None) and not console.push(b"x", None)
    reader = Driver(console)
    reader.ask([512])
    assert rooms == [1]
