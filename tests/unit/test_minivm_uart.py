"""The UART's registers: by hand where the data sheet gives an order of events, and as a state machine."""

from __future__ import annotations

from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from minivm.devices.uart import BACKLOG, DATA, IER, IIR_FCR, LCR, LSR, MCR, MSR, SCR, Uart


class Wired:
    """A UART, with what it did to the outside."""

    def __init__(self):
        self.sent = bytearray()
        self.line = 0
        self.rooms = 0
        self.shortcut = None
        self.uart = Uart(self.sent.extend, self._interrupt, self._room, self._shortcut)

    def _interrupt(self, level):
        assert level != self.line, "only changes are reported"
        self.line = level

    def _room(self):
        self.rooms += 1

    def _shortcut(self, *what):
        self.shortcut = what

    def read(self, offset):
        return self.uart.read(offset, 1)

    def write(self, offset, value):
        self.uart.write(offset, 1, value)


def test_a_byte_written_is_sent_and_thr_is_empty_at_once():
    w = Wired()
    w.write(DATA, ord("h"))
    assert w.sent == b"h"
    assert w.read(LSR) == 0x60


def test_the_divisor_hides_behind_dlab():
    w = Wired()
    w.write(LCR, 0x83)
    w.write(DATA, 0x34)
    w.write(IER, 0x12)
    assert (w.read(DATA), w.read(IER), w.sent) == (0x34, 0x12, b"")
    w.write(LCR, 3)
    assert (w.read(IER), w.read(LCR)) == (0, 3)


def test_received_bytes_interrupt_until_read():
    w = Wired()
    w.write(IIR_FCR, 0x01)
    w.write(IER, 1)
    w.uart.push(b"ab")
    assert w.line == 1 and w.read(IIR_FCR) == 0xC4 and w.read(LSR) & 1
    assert (w.read(DATA), w.line) == (ord("a"), 1)
    assert (w.read(DATA), w.line, w.read(LSR) & 1, w.read(IIR_FCR)) == (ord("b"), 0, 0, 0xC1)


def test_below_the_trigger_level_the_reason_is_a_timeout():
    w = Wired()
    w.write(IIR_FCR, 0x81)  # trigger at 8
    w.write(IER, 1)
    w.uart.push(b"1234567")
    assert w.read(IIR_FCR) & 0xF == 0xC
    w.uart.push(b"8")
    assert w.read(IIR_FCR) & 0xF == 4


def test_thr_empty_interrupts_when_wanted_and_is_over_once_seen():
    w = Wired()
    w.write(IER, 2)
    assert w.line == 1 and w.read(IIR_FCR) == 2
    assert w.line == 0 and w.read(IIR_FCR) == 1
    w.write(DATA, 65)
    assert w.line == 1


def test_the_most_urgent_reason_comes_first():
    w = Wired()
    w.write(IER, 0xF)
    w.uart.push(b"x")
    w.uart.hang_up()  # not yet: the byte is to be read first
    assert [w.read(IIR_FCR) & 0xF, w.read(DATA) and w.read(IIR_FCR) & 0xF, w.read(IIR_FCR) & 0xF] == [4, 2, 0]
    assert w.read(MSR) == 0x38 and w.line == 0


def test_carrier_drops_after_the_last_byte_of_the_host():
    w = Wired()
    assert w.read(MSR) & 0x80
    w.uart.push(b"ab")
    w.uart.hang_up()
    assert w.read(DATA) == ord("a") and w.read(MSR) & 0x80
    assert w.read(DATA) == ord("b") and w.read(MSR) & 0x88 == 0x08
    assert w.read(MSR) & 0x88 == 0, "reading clears what has changed"


def test_loop_mode_connects_outputs_to_inputs():
    w = Wired()
    w.write(MCR, 0x1A)  # loop, OUT2, RTS: what Linux's 8250 driver tries
    assert w.read(MSR) & 0xF0 == 0x90
    w.write(DATA, 0x5A)
    assert (w.sent, w.read(DATA)) == (b"", 0x5A)


def test_a_full_fifo_in_loop_mode_overruns_once():
    w = Wired()
    w.write(IIR_FCR, 1)
    w.write(MCR, 0x10)
    for value in range(17):
        w.write(DATA, value)
    assert w.read(LSR) & 2 and not w.read(LSR) & 2
    assert [w.read(DATA) for _ in range(17)] == [*range(16), 0]


def test_clearing_the_fifo_loses_nothing_of_the_host():
    w = Wired()
    w.uart.push(b"typed early")
    w.write(IIR_FCR, 7)
    assert bytes(w.read(DATA) for _ in range(11)) == b"typed early"


def test_the_host_waits_while_the_backlog_is_full():
    w = Wired()
    assert w.uart.push(bytes(BACKLOG))
    assert not w.uart.push(bytes(BACKLOG))
    while not w.rooms:
        w.read(DATA)
    assert w.uart.push(b"")


def test_the_shortcut_is_off_where_reading_or_writing_means_more():
    w = Wired()
    assert w.shortcut == (0x60, True)
    w.uart.push(b"x")
    assert w.shortcut == (0x61, True)
    w.write(IER, 2)
    assert w.shortcut == (0x61, False)
    w.write(IER, 0)
    w.write(LCR, 0x80)
    assert w.shortcut == (0x61, False)


class Machine(RuleBasedStateMachine):
    """What the host pushes comes out of RBR once and in order, whatever else the guest writes.

    LOOP is left out: it is the one mode in which bytes come from elsewhere.
    """

    def __init__(self):
        super().__init__()
        self.w = Wired()
        self.expected: deque[int] = deque()
        self.sent = bytearray()
        self.dlab = False

    @rule(data=st.binary(max_size=40))
    def host_pushes(self, data):
        self.w.uart.push(data)
        self.expected.extend(data)

    @rule()
    def guest_reads(self):
        if not self.dlab:
            ready = self.w.read(LSR) & 1
            assert ready == bool(self.expected)
            value = self.w.read(DATA)
            assert value == (self.expected.popleft() if ready else 0)

    @rule(value=st.integers(0, 255))
    def guest_sends(self, value):
        self.w.write(DATA, value)
        if not self.dlab:
            self.sent.append(value)

    @rule(value=st.integers(0, 255))
    def guest_sets_interrupts(self, value):
        self.w.write(IER, value)
        assert self.dlab or self.w.read(IER) == value & 0xF

    @rule(value=st.integers(0, 255))
    def guest_sets_fifo(self, value):
        self.w.write(IIR_FCR, value)
        assert self.w.read(IIR_FCR) >> 6 == (3 if value & 1 else 0)

    @rule(value=st.integers(0, 255))
    def guest_sets_line(self, value):
        self.w.write(LCR, value)
        self.dlab = bool(value & 0x80)

    @rule(value=st.integers(0, 15))
    def guest_sets_modem(self, value):
        self.w.write(MCR, value)

    @rule(value=st.integers(0, 255))
    def guest_scratches(self, value):
        self.w.write(SCR, value)
        assert self.w.read(SCR) == value

    @rule(offset=st.sampled_from([IIR_FCR, LSR, MSR]))
    def guest_looks(self, offset):
        self.w.read(offset)

    @invariant()
    def nothing_is_lost_or_invented(self):
        assert self.w.sent == self.sent

    @invariant()
    def the_line_is_up_exactly_while_iir_says_so(self):
        before = self.w.line
        reason = self.w.read(IIR_FCR)
        assert before == (not reason & 1)


Machine.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestUartKeepsItsPromises = Machine.TestCase
