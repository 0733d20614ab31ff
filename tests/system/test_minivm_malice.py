"""A guest that writes anything to any register, in any order: no device raises, spins, or answers more than was asked for.

The devices are those of a built machine, with its memory, eventfds and threads; what the guest's accesses become in
machine/loop.py is done here by hand.
"""

from __future__ import annotations

import os
import sys

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from minivm.boot import formats, layout
from minivm.machine.config import Config, Disk
from minivm.machine.machine import Machine

pytestmark = [
    pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="/dev/kvm is missing or not ours to open"),
    pytest.mark.timeout(120),
]
MEMORY = 8 << 20
MOST_LINES = 20_000  # of Python that one access may execute: a queue of the largest size, full, takes a quarter of it
PAGE, DEVICES = 0x1000, 3
PORTS = st.sampled_from([*range(0x3F8, 0x400), 0x70, 0x71, 0x60, 0x61, 0x64, 0xF4, 0xF5, 0x501, 0x600, 0x601, 0x80, 0xFFFF])
SIZES, WIDE = st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 4, 4, 4, 8])
EDGES = [0, 1, 2, 3, 4, 7, 8, 11, 15, 16, 0x80, 0xFF, 256, 1 << 15, 1 << 16, (1 << 32) - 1, 1 << 31, (1 << 64) - 1, 0x100000,
         MEMORY - 16, MEMORY, 0xFFFF_F000]  # fmt: skip
VALUES = st.one_of(st.sampled_from(EDGES), st.integers(0, (1 << 64) - 1))
NAMED = [0x14, 0x10, 0x20, 0x24, 0x30, 0x38, 0x44, 0x50, 0x64, 0x70, 0x80, 0x84, 0x90, 0x94, 0xA0, 0xA4]
REGISTERS = st.one_of(st.sampled_from(NAMED), st.integers(0, PAGE - 1))
ELSEWHERE = st.sampled_from([layout.DEBUG_EXIT, layout.DEBUG_EXIT + 0xFFF, 0xFEE00000, 1 << 40, (1 << 64) - 1])
SOMEWHERE = st.sampled_from([0x200000, 0x300000, 0x400000, MEMORY - 4096, MEMORY, 0, 1 << 63])
PLACES = st.sampled_from([0x200000, 0x300000, 0x400000, 0x100000, MEMORY - 4096])


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

    def __init__(self) -> None:
        super().__init__()
        self.disk = os.memfd_create("disk", 0)
        os.truncate(self.disk, 1 << 16)
        self.null = os.open(os.devnull, os.O_RDWR)
        config = Config(memory=MEMORY, disks=[Disk(f"/proc/self/fd/{self.disk}")], rng=True, hvc=True)
        kernel = formats.read_kernel(formats.default_kernel())
        start = formats.prepare(kernel, "auto", config.memory, "", processors=1, virtio=DEVICES)
        self.machine = Machine(config, start, console=self.null)
        self.machine.build()
        self.pages = [address for address, _ in layout.virtio_slots(DEVICES)]

    def teardown(self) -> None:
        self.machine.close()
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
        words += [(0x30, queue), (0x38, size)]
        for register, place in zip((0x80, 0x90, 0xA0), places, strict=True):
            words += [(register, place & 0xFFFF_FFFF), (register + 4, place >> 32)]
        with LineCount():
            for register, value in (*words, (0x44, 1), (0x70, 15), (0x50, queue)):
                self.machine.memory_bus.write(page + register, 4, value)

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
        bus.write(page + 0x70, 4, 0)
        assert [bus.read(page + at, 4) for at in (0x00, 0x04, 0x44, 0x60, 0x70)] == [0x74726976, 2, 0, 0, 0]

    @invariant()
    def what_ends_the_machine_is_a_status_or_nothing(self):
        outcome = self.machine.outcome
        assert outcome is None or (outcome.error is None and 0 <= outcome.status <= 255)


Malice.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
TestMalice = Malice.TestCase
