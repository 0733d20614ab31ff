"""virtio: a driver written from the specification's other side against our devices; and a driver that breaks every rule."""

from __future__ import annotations

import os
import socket
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from virtio_driver import AREA, EVENT_IDX, INDIRECT, PACKED, RAM, VERSION_1, Driver, OldDriver, until

from minivm.devices.virtio import mmio
from minivm.devices.virtio.blk import Blk
from minivm.devices.virtio.console import Console
from minivm.devices.virtio.mmio import Mmio
from minivm.devices.virtio.net import Net
from minivm.devices.virtio.queue import Queue, QueueError
from minivm.devices.virtio.rng import Rng

DESCRIPTORS, DRIVER, DEVICE = AREA, AREA + 0x1000, AREA + 0x2000  # of queue 0
SIZE = 16
KINDS = st.sampled_from([VERSION_1 | a | b | c for a in (0, EVENT_IDX) for b in (0, INDIRECT) for c in (0, PACKED)])


# --- the transport ---


def test_the_registers_say_what_it_is():
    with Driver(Rng()) as driver:
        assert [driver.read(at) for at in (0, 4, 8)] == [0x74726976, 2, 4]
        assert driver.agreed and driver.read(0x44) == 1
        assert driver.offered & PACKED and driver.offered & EVENT_IDX and driver.offered & INDIRECT


def test_packed_queues_need_not_be_offered():
    driver = Driver(Rng(), begin=False)
    assert driver.mmio._offered & PACKED and not Mmio(Rng(), driver.ram, packed=False)._offered & PACKED


def test_features_that_were_not_offered_are_not_agreed_on():
    assert not Driver(Rng(), VERSION_1 | 1 << 40).agreed
    assert not Driver(Rng(), EVENT_IDX).agreed, "a driver of the old interface"
    driver = Driver(Rng(), VERSION_1 | 1 << 40)
    driver.set_up(0)
    assert driver.read(0x44) == 0, "its queue is not in use"


@pytest.mark.parametrize("status", [[7], [15], [3, 7], [3, 11, 15], [1, 0x47], [4]])
def test_a_device_is_live_only_with_features_that_were_agreed_on(status):
    """However the driver goes back and forth in the register, which it must not (2.1.1): only a reset clears a bit."""
    device, begun = Rng(), []
    device.begin = begun.append
    with Driver(device, begin=False) as driver:
        driver.write(0x70, 0)
        for step in (3, *status):
            for half in (0, 1):
                driver.write(0x24, half)
                driver.write(0x20, 0xFFFF_FFFF)
            driver.write(0x70, step)
        assert not begun and not driver.read(0x70) & 12
        driver.negotiate(driver.features)
        driver.write(0x70, 15)
        driver.write(0x70, 3)
        driver.write(0x20, 0xFFFF_FFFF)
        driver.write(0x70, 15)
        assert begun == [driver.features] and driver.read(0x70) == 15 and driver.mmio.features == driver.features


def test_a_reset_forgets_everything():
    with Driver(Rng()) as driver:
        driver.ask([16])
        assert driver.read(0x60) == 1
        driver.write(0x70, 0)
        assert [driver.read(at) for at in (0x60, 0x70, 0x44)] == [0, 0, 0]


def test_an_interrupt_is_pending_until_it_is_acknowledged():
    with Driver(Rng()) as driver:
        driver.ask([16])
        assert (driver.pulses, driver.read(0x60)) == (1, 1)
        driver.write(0x64, 1)
        assert driver.read(0x60) == 0


@given(KINDS)
def test_no_interrupt_where_the_driver_wants_none(features):
    with Driver(Rng(), features) as driver:
        driver.offer([16])
        driver.rings[0].enable(False)
        driver.notify()
        assert driver.collect() and driver.pulses == 0
        driver.ask([16])
        assert driver.pulses == 1


@given(KINDS, st.lists(st.integers(1, 64), min_size=1, max_size=SIZE), st.integers(1, 70))
def test_a_device_fills_every_part_and_rings_go_round(features, sizes, rounds):
    with Driver(Rng(), features) as driver:
        for count in range(rounds):
            written, parts = driver.ask(sizes, indirect=bool(features & INDIRECT and count % 2))
            assert written == sum(sizes) == sum(map(len, parts))
        assert driver.pulses == rounds


@given(KINDS)
def test_counters_wrap(features):
    with Driver(Rng(), features & ~PACKED) as driver:
        ring, queue, start = driver.rings[0], driver.mmio._setups[0].queue, 0xFFF0  # as after that many rounds
        queue.c.next_available = queue.c.next_used = ring.available = ring.used = start
        driver.memory.put("<H", DRIVER + 2, start)
        driver.memory.put("<H", DEVICE + 2, start)
        for _ in range(40):
            assert driver.ask([5])[0] == 5
        assert driver.pulses == 40 and queue.c.next_used == 0x18


SPLIT = [
    (lambda m: m.put("<H", DRIVER + 2, SIZE + 1), "more buffers are available"),
    (lambda m: m.put("<H", DRIVER + 4, SIZE), "not in its table"),
    (lambda m: m.put("<QIHH", DESCRIPTORS, 0x80000, 4, 3, 0), "a circle"),
    (lambda m: m.put("<QIHH", DESCRIPTORS, RAM - 1, 4, 2, 0), "not all in memory"),
    (lambda m: m.put("<QIHH", DESCRIPTORS, (1 << 64) - 1, 0xFFFFFFFF, 2, 0), "not all in memory"),
    (lambda m: m.put("<QIHH", DESCRIPTORS, 0x8000, 24, 4, 0), "indirect descriptor"),
    (lambda m: (m.put("<QIHH", DESCRIPTORS, 0x30000, 16, 4, 0), m.put("<QIHH", 0x30000, 0x30000, 16, 4, 0)), "indirect descriptor"),
    (lambda m: m.put("<QIHH", DESCRIPTORS, DESCRIPTORS, 16 * SIZE, 4, 0), "indirect descriptor"),
]
WRAPPED = 0x80  # available in the first round
PACKED_RING = [
    (lambda m: [m.put("<QIHH", DESCRIPTORS + 16 * n, 0x80000, 4, 0, WRAPPED | 3) for n in range(SIZE)], "longer than its queue"),
    (lambda m: m.put("<QIHH", DESCRIPTORS, RAM - 1, 4, 0, WRAPPED | 2), "not all in memory"),
    (lambda m: m.put("<QIHH", DESCRIPTORS, (1 << 64) - 8, 0xFFFFFFFF, 0, WRAPPED | 2), "not all in memory"),
    (lambda m: m.put("<QIHH", DESCRIPTORS, 0x8000, 24, 0, WRAPPED | 4), "indirect descriptor"),
    (lambda m: m.put("<QIHH", DESCRIPTORS, 0x8000, 16 * (SIZE + 1), 0, WRAPPED | 4), "indirect descriptor"),
    (lambda m: m.put("<QIHH", DESCRIPTORS, DESCRIPTORS, 16 * SIZE, 0, WRAPPED | 4), "indirect descriptor"),
]


@pytest.mark.parametrize(("packed", "spoil", "why"), [*((0, *case) for case in SPLIT), *((PACKED, *case) for case in PACKED_RING)])
@pytest.mark.parametrize("kind", ["rng", "blk"])
def test_a_broken_rule_stops_the_device_until_it_is_reset(tmp_path, kind, packed, spoil, why):
    with open(tmp_path / "disk", "w+b") as file:
        device = Rng() if kind == "rng" else Blk(file.fileno(), 1 << 20)
        with Driver(device, VERSION_1 | EVENT_IDX | INDIRECT | packed, begin=False) as driver:
            driver.offer([16])
            spoil(driver.memory)
            driver.write(0x70, 15)
            until(lambda: driver.read(0x70) & 0x40)
            assert why in driver.mmio._setups[0].queue.why
            assert (driver.read(0x60), driver.pulses) == (2, 1), "the driver is told"
            driver.notify()
            driver.write(0x70, 0)
            assert driver.read(0x70) == 0
            driver.negotiate(driver.features)
            driver.memory.bytes[AREA : 2 * AREA] = bytes(AREA)
            driver.rings[0] = driver.set_up(0)
            driver.write(0x70, 15)
            assert driver.ask([16] if kind == "rng" else [struct.pack("<IIQ", 8, 0, 0), 20, 1])[0] in (16, 21)


ACTIONS = st.one_of(
    st.tuples(st.just("write"), st.sampled_from(sorted({*mmio.ADDRESSES, *range(0, 0x110, 4)})), st.integers(0, 0xFFFFFFFF)),
    st.tuples(st.just("write"), st.sampled_from([0x30, 0x38, 0x3C, 0x40, 0x44, 0x50, 0x70]), st.integers(0, 255)),
    st.tuples(st.just("write"), st.sampled_from([0x28, 0x38, 0x3C, 0x40]), st.integers(0, 31).map(lambda bit: 1 << bit)),
    st.tuples(st.just("memory"), st.integers(AREA, AREA + 0x3100), st.binary(min_size=1, max_size=16)),
    st.tuples(st.just("read"), st.integers(0, 0xFF8), st.sampled_from([1, 2, 4, 8])),
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([Driver, OldDriver]), st.sampled_from(["rng", "blk", "console", "net", "tap"]), KINDS,
       st.lists(ACTIONS, max_size=60))  # fmt: skip
def test_nothing_that_a_guest_writes_gets_out_of_the_device(interface, kind, features, actions):
    fd = os.memfd_create("disk")
    os.truncate(fd, 64 << 10)
    packets = socket.SOCK_SEQPACKET if kind == "tap" else socket.SOCK_STREAM
    ours, theirs = socket.socketpair(socket.AF_UNIX, packets | socket.SOCK_NONBLOCK)
    device = {
        "rng": Rng, "blk": lambda: Blk(fd, 64 << 10), "console": lambda: Console(fd),
        "net": lambda: Net(ours.fileno(), bytes(6), None), "tap": lambda: Net(ours.fileno(), bytes(6), lambda *what: None),
    }[kind]()  # fmt: skip
    with ours, theirs, interface(device, features) as driver:
        theirs.send(bytes(99))
        driver.offer([b"\0" * 16, 512, 1] if kind == "blk" else [64])
        for action, where, what in actions:
            if action == "write":
                driver.write(where, what)
            elif action == "memory":
                driver.memory.bytes[where : where + len(what)] = what
            else:
                assert 0 <= driver.read(where, what) < 1 << 8 * what
    assert kind in ("console", "net", "tap") or os.fstat(fd).st_size == 64 << 10
    assert len(driver.memory.bytes) == RAM
    os.close(fd)


@pytest.mark.parametrize("packed", [False, True])
def test_tables_outside_of_memory_are_refused(packed):
    driver = Driver(Rng())
    for areas in ((RAM, DRIVER, DEVICE), (DESCRIPTORS, RAM - 2, DEVICE), (8, DRIVER, DEVICE), (DESCRIPTORS, DRIVER, (1 << 64) - 4)):
        with pytest.raises(QueueError):
            Queue(driver.ram, SIZE, *areas, packed=packed)
    for size in (0, 1025, *(() if packed else (12,))):
        with pytest.raises(QueueError):
            Queue(driver.ram, size, DESCRIPTORS, DRIVER, DEVICE, packed=packed)
