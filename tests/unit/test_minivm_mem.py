"""virtio-mem: blocks are plugged and unplugged as the driver asks, within what is requested; what goes is the host's again."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from virtio_driver import EVENT_IDX, INDIRECT, VERSION_1, Driver

from minivm.devices.virtio.mem import BLOCK, Mem
from minivm.devices.virtio.queue import Ram
from minivm.errors import UsageError
from minivm.kvm import GuestMemory
from minivm.machine.config import parse_hotplug

BASE, COUNT = 1 << 32, 8
PLUG, UNPLUG, UNPLUG_ALL, STATE = range(4)
ACK, NACK, _, ERROR = range(4)


class Guest(Driver):
    def __init__(self, requested=COUNT):
        self.region = GuestMemory(COUNT * BLOCK)
        mem = Mem(Ram([(BASE, self.region)]), BASE, COUNT * BLOCK, requested * BLOCK)
        super().__init__(mem, VERSION_1 | EVENT_IDX | INDIRECT)

    def close(self):
        super().close()
        self.region.close()

    def request(self, kind, first=0, count=1, offset=0):
        words = struct.pack("<HxxxxxxQHxxxxxx", kind, (BASE + first * BLOCK + offset) % (1 << 64), count)
        written, (answer,) = self.ask([words, 10])
        assert written == 10
        return struct.unpack("<HxxxxxxH", answer)

    def told(self):
        """What the configuration says: (block, address, region, usable, plugged, requested)."""
        block, address, region, usable, plugged, requested = struct.unpack("<QxxxxxxxxQQQQQ", self.mmio._page[0x100:0x138])
        return block, address, region // BLOCK, usable // BLOCK, plugged // BLOCK, requested // BLOCK


def test_the_configuration_says_what_there_may_be_and_is():
    with Guest(requested=3) as guest:
        assert guest.told() == (BLOCK, BASE, COUNT, COUNT, 0, 3)
        assert guest.request(PLUG, 0, 2) == (ACK, 0) and guest.told()[4:] == (2, 3)
        assert guest.request(PLUG, 2, 2)[0] == NACK, "more than is requested"
        before = guest.read(0xFC)
        guest.device.request(5 * BLOCK)
        assert guest.told()[4:] == (2, 5) and guest.read(0xFC) != before and guest.read(0x60) & 2, "the driver is told"
        assert guest.request(PLUG, 2, 2)[0] == ACK


def test_what_is_unplugged_costs_nothing_and_is_zeroes_afterwards():
    with Guest() as guest:
        assert guest.request(PLUG, 1, 2) == (ACK, 0)
        guest.region.view(BLOCK, 2 * BLOCK)[:] = b"x" * 2 * BLOCK
        assert guest.request(UNPLUG, 1, 1) == (ACK, 0)
        assert bytes(guest.region.view(BLOCK, BLOCK)) == bytes(BLOCK) and guest.region.view(2 * BLOCK, 1) == b"x"
        assert guest.request(UNPLUG_ALL) == (ACK, 0) and guest.told()[4] == 0
        assert guest.region.view(2 * BLOCK, 1) == b"\0"


REQUESTS = st.tuples(
    st.sampled_from((PLUG, UNPLUG, UNPLUG_ALL, STATE, 4, 0xFFFF)), st.integers(-2, COUNT + 1), st.integers(0, COUNT + 2)
)


@settings(max_examples=80, deadline=None)
@given(st.lists(REQUESTS, max_size=30), st.integers(0, COUNT))
def test_it_answers_as_a_set_of_blocks_would(requests, requested):
    model: set[int] = set()
    with Guest(requested) as guest:
        for kind, first, count in requests:
            blocks = set(range(first, first + count))
            answer, state = guest.request(kind, first, count)
            if kind == UNPLUG_ALL:
                model, expected = set(), (ACK, 0)
            elif kind > STATE or not blocks or not blocks <= set(range(COUNT)):
                expected = (ERROR, 0)
            elif kind == STATE:
                expected = (ACK, 0 if blocks <= model else 2 if blocks & model else 1)
            elif kind == PLUG:
                expected = (ERROR if blocks & model else NACK if len(model) + count > requested else ACK, 0)
                model |= blocks if expected[0] == ACK else set()
            else:
                expected = (ACK if blocks <= model else ERROR, 0)
                model -= blocks if expected[0] == ACK else set()
            assert (answer, state) == expected and guest.told()[4] == len(model)


def test_an_address_within_a_block_is_an_error_and_a_short_request_breaks_the_device():
    with Guest() as guest:
        assert guest.request(PLUG, 0, 1, offset=4096) == (ERROR, 0) and guest.told()[4] == 0
        guest.offer([b"short", 10])
        guest.notify()
        assert guest.read(0x70) & 0x40, "DEVICE_NEEDS_RESET"


def test_words_of_memory_that_comes_later():
    found = parse_hotplug("1g,plugged=64m")
    assert (found.size, found.requested) == (1 << 30, 64 << 20) and parse_hotplug("4m").requested == 0
    for wrong in ("", "0", "3m", "1g,plugged=2g", "1g,plugged=1m", "1g,plugged=2m,plugged=2m", "1g,pluged=2m"):
        with pytest.raises(UsageError):
            parse_hotplug(wrong)
