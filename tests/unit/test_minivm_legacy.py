"""virtio of before the specification: an old driver against our devices, and one that says what makes no sense."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import subprocess
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from virtio_driver import AREA, EVENT_IDX, INDIRECT, VERSION_1, Driver, OldDriver, until

from minivm.devices.virtio import net
from minivm.devices.virtio.balloon import Balloon
from minivm.devices.virtio.blk import Blk
from minivm.devices.virtio.console import Console
from minivm.devices.virtio.legacy import layout
from minivm.devices.virtio.net import Net
from minivm.devices.virtio.queue import QueueError
from minivm.devices.virtio.rng import Rng
from minivm.machine.host import become_tap, offload

CLONE_NEWNET = 0x40000000  # linux/sched.h
ANY_LAYOUT, NEEDS_RESET = 1 << 27, 0x40
MAC = bytes.fromhex("020102030405")
KINDS = st.sampled_from([a | b for a in (0, EVENT_IDX) for b in (0, INDIRECT)])


@pytest.fixture
def disk(tmp_path):
    with open(tmp_path / "disk", "w+b") as file:
        file.truncate(1 << 20)
        yield file


def written(sector, data):
    """A request to write, as 5.2.6 has it, with room for its status."""
    return [struct.pack("<IIQ", 1, 0, sector), data, 1]


# --- registers ---


def test_the_registers_say_what_it_is():
    with OldDriver(Rng()) as driver:
        assert [driver.read(at) for at in (0, 4, 8)] == [0x74726976, 1, 4]
        assert driver.offered == EVENT_IDX | INDIRECT | ANY_LAYOUT, "32 bits, and no packed queues"
        assert driver.read(0x34) == 1024 and driver.read(0x40) == AREA // 4096
        assert [driver.read(at) for at in (0x44, 0xB0, 0xFC)] == [0, 0, 0], "what came later"
        driver.write(0x30, 1)
        assert [driver.read(at) for at in (0x34, 0x40)] == [0, 0], "it has one queue"


def test_the_page_size_outlives_a_reset_and_nothing_else_does():
    with OldDriver(Rng(), EVENT_IDX) as driver:
        driver.ask([16])
        driver.write(0x70, 0)
        assert [driver.read(at) for at in (0x40, 0x60, 0x70)] == [0, 0, 0] and driver.mmio.features == 0
        driver.memory.bytes[AREA : 2 * AREA] = bytes(AREA)
        driver.features = 0
        driver.rings[0] = driver.set_up(0)  # GuestPageSize is not written again
        driver.begin()
        assert driver.ask([16])[0] == 16


def test_features_that_were_not_offered_are_not_agreed_on_and_those_of_the_first_use_hold():
    with OldDriver(Rng(), EVENT_IDX | 1 << 30 | 1, queues=(), begin=False) as driver:
        for half, value in ((1, 0), (1, 0xFFFF_FFFF)):
            driver.write(0x24, half)
            driver.write(0x20, value)
            assert driver.mmio.features == EVENT_IDX, "there are no others"
        driver.rings = {0: driver.set_up(0)}
        driver.write(0x24, 0)
        driver.write(0x20, 0)
        assert driver.mmio.features == EVENT_IDX
        assert driver.ask([16])[0] == 16


def test_the_configuration_has_no_generation_and_tells_of_a_change():
    ram = OldDriver(Rng()).ram
    with OldDriver(Balloon(ram)) as driver:
        driver.device.aim(8192)
        assert (driver.read(0x100), driver.read(0x60), driver.read(0xFC), driver.pulses) == (2, 2, 0, 1)
        for number, byte in enumerate((0x34, 0x12, 0, 0)):  # as Linux writes to the configuration of such a device
            driver.mmio.write(0x104 + number, 1, byte)
        assert driver.device.held == driver.read(0x104) == 0x1234


# --- queues ---


@given(KINDS, st.sampled_from([1, 2, 16, 64, 256]), st.sampled_from([16, 512, 4096]), st.sampled_from([4, 64, 512, 4096]))
def test_a_queue_is_where_its_page_size_and_alignment_put_it(features, size, page_size, align):
    old = type("", (OldDriver,), {"page_size": page_size, "align": align})
    with old(Rng(), features, size=size) as driver:
        for count in range(3 * size // 2 + 3):
            assert driver.ask([5], indirect=bool(features & INDIRECT and count % 2))[0] == 5
        ring = driver.rings[0]
        assert driver.mmio.queue(0).areas == (ring.descriptors, ring.driver, ring.device)


@given(st.integers(1, 0xFFFF_FFFF), st.integers(0, 31), st.integers(0, 0xFFFF_FFFF), st.integers(0, 31))
def test_no_place_of_a_queue_is_beyond_what_an_address_holds(page, page_bit, size, align_bit):
    descriptors, driver, device = layout(page, 1 << page_bit, size, 1 << align_bit)
    end = driver + 6 + 2 * size
    assert descriptors == page << page_bit and driver == descriptors + 16 * size
    assert end <= device < end + (1 << align_bit) and not device % (1 << align_bit) and device < 1 << 64


@given(st.integers(0, 0xFFFF_FFFF).filter(lambda number: number.bit_count() != 1))
def test_sizes_and_alignments_are_powers_of_two(number):
    for sizes in ((number, 16, 4096), (4096, 16, number)):
        with pytest.raises(QueueError):
            layout(1, *sizes)


WRONG = [
    {0x28: 0}, {0x28: 3}, {0x28: 1}, {0x28: 1 << 31}, {0x28: 0xFFFF_FFFF}, {0x40: 0xFFFF_FFFF}, {0x28: 1 << 31, 0x40: 0xFFFF_FFFF},
    {0x3C: 0}, {0x3C: 1}, {0x3C: 2}, {0x3C: 3}, {0x3C: 1 << 31}, {0x3C: 0xFFFF_FFFF}, {0x38: 0}, {0x38: 12}, {0x38: 2048},
    {0x38: 0xFFFF_FFFF}, {0x38: 1 << 31, 0x3C: 1 << 31, 0x40: 0xFFFF_FFFF, 0x28: 1 << 31},
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_a_queue_that_cannot_be_is_refused_until_a_reset(wrong):
    with OldDriver(Rng(), queues=()) as driver:
        for register, value in ({0x28: 4096, 0x38: 16, 0x3C: 4096, 0x40: 1 + (0x28 in wrong)} | wrong).items():
            driver.write(register, value)
        assert driver.read(0x40) == 0 and driver.read(0x70) & NEEDS_RESET
        driver.write(0x70, 0)
        driver.negotiate(0)
        driver.rings = {0: driver.set_up(0)}
        driver.begin()
        assert driver.read(0x70) == 7 and driver.ask([16])[0] == 16


def test_a_queue_in_use_stays_as_it_is_and_leaves_by_page_zero(disk):
    with OldDriver(Blk(disk.fileno(), 1 << 20, queues=2)) as driver:
        driver.write(0x30, 0)
        for register, value in ((0x28, 1 << 31), (0x38, 3), (0x3C, 0)):
            driver.write(register, value)
        driver.ask(written(0, b"a" * 512), 0)
        driver.write(0x40, 0)
        assert driver.read(0x40) == 0
        driver.offer(written(1, b"b" * 512), 0)
        driver.notify(0)
        driver.ask(written(2, b"c" * 512), 1)
        assert driver.collect(0) is None
        driver.write(0x30, 1)
        assert driver.read(0x40) == 2 * AREA // 4096
    assert os.pread(disk.fileno(), 1536, 0) == b"a" * 512 + bytes(512) + b"c" * 512


# --- the order in which drivers do things ---


def test_a_device_is_used_before_the_driver_says_that_it_is_ready(disk):
    with OldDriver(Rng(), begin=False) as driver:
        assert driver.ask([16])[0] == 16 and driver.read(0x70) == 3
    with OldDriver(Blk(disk.fileno(), 1 << 20), begin=False) as driver:
        kick = os.eventfd(0)
        driver.mmio.kick(0, kick)
        driver.offer(written(3, b"x" * 512))
        os.eventfd_write(kick, 1)  # as KVM does for a write to QueueNotify: the transport does not see it
        assert driver.wait()[1] == 1
    os.close(kick)
    assert os.pread(disk.fileno(), 512, 3 * 512) == b"x" * 512


class Teaching(OldDriver):
    """A driver as some teaching kernels have it: ready before its queue is, with FEATURES_OK, and without QueueAlign."""

    def negotiate(self, features):
        super().negotiate(features)
        for status in (11, 15):
            self.write(0x70, status)
            assert self.read(0x70) == status

    def write(self, offset, value):
        if offset != 0x3C:
            super().write(offset, value)


def test_a_driver_is_ready_before_its_queue_is(disk):
    with Teaching(Blk(disk.fileno(), 1 << 20), INDIRECT, begin=False) as driver:
        driver.ask(written(9, b"z" * 512), indirect=True)
    assert os.pread(disk.fileno(), 512, 9 * 512) == b"z" * 512


# --- devices ---


class Card(OldDriver):
    """A driver of a card, with the host's end of its cable."""

    def __init__(self, kind, features):
        ours, self.host = socket.socketpair(socket.AF_UNIX, kind)
        ours.setblocking(False)
        self.host.settimeout(10)
        self.told, self.ours = [], ours
        tell = (lambda *what: self.told.append(what)) if kind == socket.SOCK_DGRAM else None
        super().__init__(Net(ours.fileno(), MAC, tell), features)

    def close(self):
        super().close()
        self.ours.close()
        self.host.close()

    def receive(self, size):
        self.offer([size], 0)
        self.notify(0)
        _, length, (data,) = self.wait(0)
        return data[:length]


@pytest.mark.parametrize("features", [0, EVENT_IDX | net.F_GUEST_CSUM | net.F_GUEST_TSO4])
def test_a_packets_header_is_shorter(features):
    header, frame = bytes(range(10)), os.urandom(1514)
    with Card(socket.SOCK_DGRAM, features) as card:
        assert card.told == [(bool(features), bool(features), False, 10)]
        card.ask([header, frame], 1)
        assert card.host.recv(2000) == header + frame
        card.host.send(header + frame)
        assert card.receive(70_000 if features else 1528) == header + frame
        card.host.send(header + frame)
        assert card.receive(1524) == header + frame, "by way of a buffer of ours, as the largest might not fit"


def test_it_is_as_it_is_now_where_buffers_may_be_put_together():
    with Card(socket.SOCK_DGRAM, net.F_MRG_RXBUF) as card:
        assert card.told == [(False, False, False, 12)]
        card.host.send(bytes(12) + b"f" * 100)
        assert card.receive(2000) == bytes(10) + b"\1\0" + b"f" * 100


@pytest.mark.skipif(os.geteuid() or not os.path.exists("/dev/net/tun"), reason="not root, or no /dev/net/tun")
@pytest.mark.parametrize(("features", "header"), [(0, 10), (net.F_MRG_RXBUF, 12)])
def test_a_real_tap_has_the_drivers_header(features, header):
    """In a network namespace of a thread's own; a packet socket there says what passed, and sends."""
    frame, seen, failed = b"\2\0\0\0\0\1\2\0\0\0\0\2\x88\xb5" + os.urandom(100), [], []

    def passes():
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        become_tap(tap, "mvm-old", "IFF_TAP|IFF_NO_PI|IFF_VNET_HDR")
        for words in ("addrgenmode none", "up"):
            subprocess.run(["ip", "link", "set", "mvm-old", *words.split()], check=True)
        with (
            socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88B5)) as wire,
            OldDriver(Net(tap, MAC, lambda *what: offload(tap, *what)), features) as driver,
        ):
            wire.bind(("mvm-old", 0x88B5))
            wire.settimeout(10)
            driver.ask([bytes(header) + frame], 1)
            seen.append(wire.recv(2000))
            for _ in range(8):  # the kernel may say something of its own
                driver.offer([2000], 0)
            driver.notify(0)
            wire.send(frame)
            until(lambda: frame in came(driver, header))
        os.close(tap)

    def came(driver, header):
        if got := driver.collect(0):
            seen.append(got[2][0][header : got[1]])
        return seen[1:]

    def body():
        try:
            passes()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert not failed and seen[0] == seen[-1] == frame


@settings(max_examples=20, deadline=None)
@given(KINDS, st.integers(15, 1514).map(os.urandom))
def test_frames_pass_through_a_stream(features, frame):
    with Card(socket.SOCK_STREAM, features) as card:
        card.ask([bytes(10) + frame], 1)
        assert card.host.recv(2000) == struct.pack(">I", len(frame)) + frame
        card.host.sendall(struct.pack(">I", len(frame)) + frame)
        assert card.receive(1524) == bytes(10) + frame


@pytest.mark.parametrize("size", [10, 24])
def test_what_is_no_packet_is_dropped(size):
    with Card(socket.SOCK_DGRAM, 0) as card:
        card.ask([bytes(size)], 1)
        card.ask([bytes(10) + b"z" * 15], 1)
        assert card.host.recv(2000) == bytes(10) + b"z" * 15


def test_an_old_driver_writes_the_address_of_its_card_and_another_does_not():
    """As Linux does, a byte at a time; what stands behind the address is not for a driver to write."""
    for interface, seen in ((OldDriver, bytes.fromhex("52540012ab42")), (Driver, MAC)):
        ours, theirs = socket.socketpair()
        with ours, theirs, interface(Net(ours.fileno(), MAC, None), VERSION_1 * (interface is Driver)) as driver:
            for number, byte in enumerate(bytes.fromhex("52540012ab42ffff")):
                driver.mmio.write(0x100 + number, 1, byte)
            driver.mmio.write(0x103, 4, 0xFFFF_FFFF)
            assert bytes(driver.read(0x100 + number, 1) for number in range(6)) == seen and driver.read(0x106, 2) == 1


def test_a_console_prints_and_hears():
    here, there = os.pipe2(os.O_NONBLOCK)
    with OldDriver(Console(there), EVENT_IDX) as driver:
        driver.ask([b"said by an old driver"], 1)
        assert until(lambda: os.read(here, 100)) == b"said by an old driver"
        driver.offer([64], 0)
        driver.notify(0)
        driver.device.push(b"typed")
        assert driver.wait(0)[2][0][:5] == b"typed"
    os.close(here)
    os.close(there)
