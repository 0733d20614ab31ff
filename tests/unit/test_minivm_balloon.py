"""virtio-balloon: pages that are given up are dropped from this process, as /proc says, and statistics are learned."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from virtio_driver import EVENT_IDX, PACKED, RAM, VERSION_1, Driver

from minivm.devices.virtio import balloon as module
from minivm.devices.virtio.balloon import Balloon

KINDS = [VERSION_1 | EVENT_IDX, VERSION_1 | PACKED]
FREE = 0x100000  # guest memory that the driver of these tests does not use


class Guest(Driver):
    def __init__(self, features=VERSION_1, **more):
        super().__init__(Balloon(None, **more), features | module.F_STATS_VQ | module.F_REPORTING, queues=(0, 1, 2, 3))
        self.device._ram = self.ram

    def resident(self, address, pages):
        """Which of so many pages take memory of this process (man 5 proc, /proc/PID/pagemap: bit 63)."""
        place = (self.memory.pages.address + address) // 4096
        with open("/proc/self/pagemap", "rb") as file:
            file.seek(8 * place)
            return [bool(word >> 63) for (word,) in struct.iter_unpack("<Q", file.read(8 * pages))]

    def touch(self, address, pages):
        self.memory.bytes[address : address + 4096 * pages] = b"\xaa" * 4096 * pages


@pytest.fixture(params=KINDS)
def guest(request):
    with Guest(request.param) as guest:
        guest.touch(FREE, 16)
        yield guest


def test_pages_in_the_balloon_take_no_memory_and_are_zeroes_afterwards(guest):
    first = FREE // 4096
    guest.ask([struct.pack("<5I", first + 3, first + 1, first + 2, first + 9, first + 3)], 0)
    assert guest.resident(FREE, 16) == [n not in (1, 2, 3, 9) for n in range(16)]
    assert guest.device.dropped == 4 * 4096
    assert bytes(guest.memory.bytes[FREE + 4096 : FREE + 3 * 4096]) == bytes(2 * 4096)
    guest.ask([struct.pack("<I", first + 1)], 1)


def test_free_blocks_that_are_reported_take_no_memory(guest):
    guest.next = FREE + 4 * 4096
    guest.offer([8 * 4096], 3)
    guest.notify(3)
    assert guest.rings[3].get()
    assert guest.resident(FREE, 16) == [not 4 <= n < 12 for n in range(16)]


@pytest.mark.parametrize("numbers", [struct.pack("<I", RAM // 4096), struct.pack("<I", 0xFFFFFFFF), b"abc", bytes(4100)])
def test_a_page_that_there_is_not_breaks_the_rules(guest, numbers):
    guest.offer([numbers], 0)
    guest.notify(0)
    assert guest.read(0x70) & 0x40
    assert all(guest.resident(FREE, 16)) and guest.device.dropped == 0


def test_the_balloon_aims_and_the_driver_says_how_far_it_is(guest):
    guest.device.aim(3 << 20)
    assert guest.read(0x100) == 768 and guest.read(0x60) & 2
    guest.mmio.write(0x104, 4, 500)
    assert guest.device.held == 500 and guest.read(0x104) == 500
    guest.mmio.write(0x100, 4, 1)
    assert guest.read(0x100) == 768, "the target is not the driver's to write"


def test_statistics_are_renewed_when_they_are_asked_for(guest):
    guest.offer([struct.pack("<HQHQHQ", 4, 1000, 99, 5, 5, 2000)], 2)
    guest.notify(2)
    assert guest.device.statistics == {"free_memory": 1000, "total_memory": 2000}
    assert guest.collect(2) is None, "the device keeps the buffer until it asks"
    guest.device.ask()
    assert guest.collect(2)
    guest.offer([struct.pack("<HQ", 4, 900)], 2)
    guest.notify(2)
    assert guest.device.statistics["free_memory"] == 900


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.one_of(st.binary(min_size=1, max_size=40), st.integers(1, 5000))), max_size=20))
def test_no_buffer_does_harm(buffers):
    with Guest() as guest:
        for queue, part in buffers:
            if guest.rings[queue].taken and guest.offer([part], queue) is None:
                continue
            guest.offer([part], queue)
            guest.notify(queue)
        assert guest.device.dropped <= len(buffers) * 2 * RAM
