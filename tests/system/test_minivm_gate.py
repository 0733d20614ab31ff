"""A machine that is paused stands still, and goes on where it stood; its power button is an interrupt."""

from __future__ import annotations

import fcntl
import os
import termios
import threading
import time

import pytest

from minivm import kvm
from minivm.boot import formats, layout, reset
from minivm.machine.config import Config, Program, Rootfs
from minivm.machine.foreground import attend
from minivm.machine.machine import Machine, Outcome

pytestmark = pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="/dev/kvm is missing or not ours to open")
# again: inc dword [0x500]; jmp again        mov ds first: real mode, so the counter is at guest-physical 0x500
COUNTS = bytes.fromhex("31c0 8ed8 66 ff06 0005 eb f9")


def start(image: bytes = COUNTS, console: int = 1) -> Machine:
    config = Config(memory=1 << 20)
    machine = Machine(config, formats.prepare(image, "flat16", config.memory, ""), console=console)
    machine.build()
    return machine


@pytest.fixture
def machine():
    machine = start()
    thread = threading.Thread(target=attend, args=(machine, None, 60))
    thread.start()
    try:
        yield machine
    finally:
        machine.stop(Outcome(0, ""))
        thread.join(30)
        assert not thread.is_alive()
        machine.close()


def count(machine: Machine) -> int:
    return int.from_bytes(machine.bytes_at(0x500, 4), "little")


def moves(machine: Machine) -> bool:
    before, end = count(machine), time.monotonic() + 20
    while count(machine) == before and time.monotonic() < end:
        time.sleep(0.01)
    return count(machine) != before


def test_a_paused_guest_does_not_run_and_goes_on_where_it_stood(machine):
    for _ in range(5):
        assert moves(machine)
        machine.gate.close()
        before, rip = count(machine), kvm.get_regs(machine.vcpus[0].fd).rip
        time.sleep(0.05)
        assert (count(machine), kvm.get_regs(machine.vcpus[0].fd).rip) == (before, rip)
        machine.gate.open()


def test_pauses_from_many_threads_end_in_a_guest_that_runs(machine):
    def hammer() -> None:
        for _ in range(100):
            machine.gate.close()
            machine.gate.open()

    threads = [threading.Thread(target=hammer) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert moves(machine)


def test_a_paused_machine_can_be_ended(machine):
    machine.gate.close()
    machine.stop(Outcome(7, ""))
    machine.gate.close()  # does not wait for threads that are gone
    assert machine.outcome.status == 7


def test_a_machine_paused_before_it_starts_does_not_start():
    machine = start()
    machine.gate.close()
    thread = threading.Thread(target=attend, args=(machine, None, 60))
    thread.start()
    time.sleep(0.2)
    assert count(machine) == 0
    machine.gate.open()
    assert moves(machine)
    machine.stop(Outcome(0, ""))
    thread.join(30)
    machine.close()


def test_a_guest_that_prints_what_nobody_reads_can_be_paused_and_loses_nothing():
    """Whoever pauses it may be the one that reads: the thread that serves a named machine is."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    machine = start(bytes.fromhex("ba f803 b0 41 ee 04 01 eb fb"), writer)  # mov $0x3f8, %dx; mov $'A', %al; out; inc; again
    thread = threading.Thread(target=attend, args=(machine, None, 60))
    thread.start()
    got = b""
    try:
        for _ in range(3):
            while waiting_in(reader) < 60_000:  # a page is left, which poll(2) counts as none
                time.sleep(0.001)
            time.sleep(0.05)  # it has come to wait for room, or will
            pause = threading.Thread(target=machine.gate.close, daemon=True)
            pause.start()
            pause.join(20)
            assert not pause.is_alive(), "it is paused"
            got += os.read(reader, 1 << 20)
            time.sleep(0.05)
            assert waiting_in(reader) == 0, "a paused machine prints nothing"
            machine.gate.open()
    finally:
        machine.stop(Outcome(0, ""))
        thread.join(30)
        assert not thread.is_alive()
        machine.close()
        os.close(reader)
        os.close(writer)
    assert got == bytes((0x41 + place) % 256 for place in range(len(got)))


def waiting_in(fd: int) -> int:
    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), "little")


def test_a_guest_that_jumps_to_the_bios_resets_the_machine():
    """As Linux does to reboot where ACPI is hardware-reduced and there is no EFI: jmp 0xffff:0."""
    machine = start(bytes.fromhex("ea 0000 ffff"))
    place = reset.piece()
    machine.bytes_at(place.address, len(place.data))[:] = place.data
    outcome = machine.run(None, 30)
    machine.close()
    assert (outcome.how, outcome.status) == ("reset", 0) and place.address == 0xFFFF0


@pytest.mark.parametrize("rootfs", [Rootfs("/x", command="true"), Rootfs("/x", program=Program(["true"]))])
def test_a_reset_is_no_success_of_a_program_whose_status_was_to_be_ours(rootfs):
    machine = start(bytes.fromhex("b0fe e664 f4"))  # the keyboard controller's reset, as a kernel that panics does it
    machine.config.rootfs = rootfs
    outcome = machine.run(None, 30)
    machine.close()
    assert (outcome.how, outcome.status) == ("reset", 125) and "before its program ended" in outcome.reason


def test_the_power_button_raises_and_lowers_the_event_line(monkeypatch):
    """What a kernel does then: tests/lab/test_minivm_linux_lab.py, with Debian's."""
    machine, seen = start(), []
    monkeypatch.setattr(kvm, "irq_line", lambda vm, irq, level: seen.append((irq, level)))
    machine.press_power()
    machine.close()
    assert seen == [(layout.EVENT_GSI, 1), (layout.EVENT_GSI, 0)]
