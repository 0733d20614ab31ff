"""The 16550A serial port, a PC's first console, at I/O ports 0x3f8 to 0x3ff and IRQ 4.

National Semiconductor PC16550D data sheet, section 8; names as there. Where bit 7 of LCR (DLAB) is 1, the first
two registers are the divisor of the clock instead.

    port  read                         write                  bits
    +0    RBR received byte            THR byte to send       DLAB: DLL, low half of the divisor
    +1    IER interrupts wanted        same                   |0 0 0 0|EDSSI|ELSI|ETBEI|ERBFI|  DLAB: DLM
    +2    IIR why it interrupts        FCR FIFO control       IIR |FIFO on: 1 1|0 0|reason (3)|0 = pending|
                                                              FCR |trigger (2)|. .|DMA|clear TX|clear RX|on|
    +3    LCR line control             same                   |DLAB|break|parity (3)|stop|word length (2)|
    +4    MCR modem control            same                   |0 0 0|LOOP|OUT2|OUT1|RTS|DTR|
    +5    LSR line status              -                      |FIFO error|TEMT|THRE|BI|FE|PE|OE|DR|
    +6    MSR modem status             -                      |DCD|RI|DSR|CTS|changed: dDCD|TERI|dDSR|dCTS|
    +7    SCR scratch                  same

Reasons in IIR, the most urgent first, with what ends each:
    011  line status      reading LSR
    010  data available   reading RBR until fewer bytes than the trigger level are left
    110  time-out         reading RBR: bytes wait, but fewer than the trigger level
    001  THR empty        reading IIR when it says this, or writing THR
    000  modem status     reading MSR

Simplified: a byte written is sent at once, so THR is always empty again (THRE is always 1), and the time-out comes
at once rather than after four characters' time. Speed, parity and breaks mean nothing on this wire. OUT2 does not
gate the interrupt as it does on a PC's board: many small kernels forget to set it, and run on other hypervisors.
Clearing the receive FIFO gives its bytes back to the host's queue: what was typed or piped before the guest's driver
was ready is not lost. When the host's input ends, carrier (DCD) drops once all bytes have been read.
"""

from __future__ import annotations

import threading
from _collections import deque  # type: ignore[import-not-found]  # collections' half in C, sooner loaded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Uart"]

COM1, IRQ = 0x3F8, 4
FIFO_SIZE = 16
BACKLOG = 4096  # bytes from the host that wait for room in the FIFO, before the host is told to wait

DATA, IER, IIR_FCR, LCR, MCR, LSR, MSR, SCR = range(8)  # offsets

IER_RECEIVED, IER_THR_EMPTY, IER_LINE_STATUS, IER_MODEM_STATUS = 1, 2, 4, 8
IIR_NONE = 0b0001
IIR_LINE_STATUS, IIR_RECEIVED, IIR_TIMEOUT, IIR_THR_EMPTY, IIR_MODEM_STATUS = 0b0110, 0b0100, 0b1100, 0b0010, 0b0000
IIR_FIFO_ON = 0b1100_0000
FCR_ON, FCR_CLEAR_RECEIVED = 1, 2
FCR_TRIGGER = (1, 4, 8, 14)  # bytes, by FCR bits 7 and 6
LCR_DLAB = 0x80
MCR_DTR, MCR_RTS, MCR_OUT1, MCR_OUT2, MCR_LOOP = 1, 2, 4, 8, 16
LSR_RECEIVED, LSR_OVERRUN, LSR_THR_EMPTY, LSR_IDLE = 0x01, 0x02, 0x20, 0x40
MSR_CTS, MSR_DSR, MSR_RI, MSR_DCD = 0x10, 0x20, 0x40, 0x80


class Uart:
    """The device.

    Args:
        send: called with each byte that the guest sends, as bytes.
        interrupt: called with 1 or 0 when the interrupt line changes.
        room: called when push() may be called again after it returned False.
        shortcut: called with (lsr, direct) when what the vCPU loop may answer by itself changes: reading LSR gives
            `lsr` with no side effect (None: it has one), and a byte written to +0 is simply sent (direct).

    Threads: read() and write() by the vCPU's, push() and hang_up() by the host's.
    """

    name = "uart"
    ports = range(COM1, COM1 + 8)

    def __init__(
        self,
        send: Callable[[bytes], None],
        interrupt: Callable[[int], None],
        room: Callable[[], None] = lambda: None,
        shortcut: Callable[[int | None, bool], None] = lambda lsr, direct: None,
    ) -> None:
        self._send, self._interrupt, self._room, self._shortcut = send, interrupt, room, shortcut
        self._lock = threading.Lock()
        self._received: deque[int] = deque()  # the FIFO, or the one byte of RBR while it is off
        self._backlog: deque[int] = deque()
        self._ended = self._full = False
        self._ier = self._lcr = self._mcr = self._scr = 0
        self._fcr = 0
        self._overrun = False  # LSR.OE
        self._thr_empty_event = False  # the THR-empty interrupt waits to be seen
        self._divisor = 12  # 9600 baud
        self._modem = MSR_DCD | MSR_DSR | MSR_CTS  # what the other end shows; and, low half, what changed
        self._line = 0  # level of the interrupt line as last reported
        self._told: tuple[int | None, bool] | None = None
        self._update()

    # --- the host's side ---

    def push(self, data: bytes) -> bool:
        """Take bytes from the host. Returns False when it should wait for room() before the next call."""
        with self._lock:
            self._backlog.extend(data)
            self._full = len(self._backlog) > BACKLOG
            self._refill()
            self._update()
            return not self._full

    def hang_up(self) -> None:
        """The host's input has ended: drop carrier after the last byte."""
        with self._lock:
            self._ended = True
            self._refill()
            self._update()

    # --- the guest's side ---

    def read(self, offset: int, size: int) -> int:
        """Read a register (of 8 bits; `size` is not looked at)."""
        with self._lock:
            value = self._read(offset)
            self._update()
            return value

    def write(self, offset: int, size: int, value: int) -> None:
        """Write a register."""
        with self._lock:
            sent = self._write(offset, value & 0xFF)
            self._update()
        if sent is not None:
            self._send(sent)  # outside the lock: the host's terminal may be slow to take it

    def _read(self, offset: int) -> int:
        dlab = self._lcr & LCR_DLAB
        if offset == DATA:
            return self._divisor & 0xFF if dlab else self._take()
        if offset == IER:
            return self._divisor >> 8 if dlab else self._ier
        if offset == IIR_FCR:
            reason = self._reason()
            if reason == IIR_THR_EMPTY:
                self._thr_empty_event = False
            return reason | (IIR_FIFO_ON if self._fcr & FCR_ON else 0)
        if offset == LSR:
            value, self._overrun = self._lsr(), False
            return value
        if offset == MSR:
            value, self._modem = self._msr(), self._modem & 0xF0
            return value
        return {LCR: self._lcr, MCR: self._mcr, SCR: self._scr}[offset]

    def _write(self, offset: int, value: int) -> bytes | None:
        """Write a register. Returns what is to be sent."""
        dlab = self._lcr & LCR_DLAB
        if offset == DATA and dlab:
            self._divisor = self._divisor & 0xFF00 | value
        elif offset == DATA:
            return self._transmit(value)
        elif offset == IER and dlab:
            self._divisor = self._divisor & 0xFF | value << 8
        elif offset == IER:
            if value & ~self._ier & IER_THR_EMPTY:
                self._thr_empty_event = True  # THR is empty, and now somebody wants to know
            self._ier = value & 0x0F
        elif offset == IIR_FCR:
            self._set_fifo(value)
        elif offset == LCR:
            self._lcr = value
        elif offset == MCR:
            self._set_modem_control(value & 0x1F)
        elif offset == SCR:
            self._scr = value
        return None

    def _transmit(self, value: int) -> bytes | None:
        """Return the byte to send; or with MCR.LOOP receive it, and then the other end hears nothing."""
        self._thr_empty_event = True
        if self._mcr & MCR_LOOP:
            self._receive(value)
            return None
        return bytes((value,))

    def _receive(self, value: int) -> None:
        """Put a byte into the FIFO; with no room left, the newest is lost and LSR.OE says so."""
        if len(self._received) >= self._capacity():
            self._overrun = True
        else:
            self._received.append(value)

    def _take(self) -> int:
        """Give the oldest byte to the guest, and refill from the backlog."""
        value = self._received.popleft() if self._received else 0
        self._refill()
        return value

    def _refill(self) -> None:
        """Move bytes of the host into the FIFO (in loop mode they wait), and tell the host when there is room again."""
        if self._mcr & MCR_LOOP:
            return
        while self._backlog and len(self._received) < self._capacity():
            self._received.append(self._backlog.popleft())
        if self._full and len(self._backlog) < BACKLOG // 2:
            self._full = False
            self._room()
        if self._ended and not self._backlog and not self._received and self._modem & MSR_DCD:
            self._modem = self._modem & ~MSR_DCD | MSR_DCD >> 4

    def _set_fifo(self, value: int) -> None:
        """Write FCR. Turning the FIFO on or off empties it; the other bits count only while it is on."""
        if value & FCR_CLEAR_RECEIVED or (value ^ self._fcr) & FCR_ON:
            if not self._mcr & MCR_LOOP:
                self._backlog.extendleft(reversed(self._received))
            self._received.clear()
        self._fcr = value if value & FCR_ON else 0
        self._refill()

    def _set_modem_control(self, value: int) -> None:
        """Write MCR. In loop mode its outputs come back as the inputs of MSR, and changes are seen there."""
        before = self._msr()
        self._mcr = value
        changed = (before ^ self._msr()) & 0xF0
        if changed & MSR_RI and not before & MSR_RI:
            changed &= ~MSR_RI  # TERI reports only that the ring ends
        self._modem |= changed >> 4
        self._refill()

    # --- what follows from the state ---

    def _capacity(self) -> int:
        return FIFO_SIZE if self._fcr & FCR_ON else 1

    def _lsr(self) -> int:
        received = LSR_RECEIVED if self._received else 0
        return LSR_IDLE | LSR_THR_EMPTY | received | (LSR_OVERRUN if self._overrun else 0)

    def _msr(self) -> int:
        if not self._mcr & MCR_LOOP:
            return self._modem
        pairs = ((MCR_RTS, MSR_CTS), (MCR_DTR, MSR_DSR), (MCR_OUT1, MSR_RI), (MCR_OUT2, MSR_DCD))
        return self._modem & 0x0F | sum(inside for output, inside in pairs if self._mcr & output)

    def _reason(self) -> int:
        """Return IIR's low four bits: the most urgent event that is wanted."""
        if self._ier & IER_LINE_STATUS and self._overrun:
            return IIR_LINE_STATUS
        if self._ier & IER_RECEIVED and self._received:
            trigger = FCR_TRIGGER[self._fcr >> 6] if self._fcr & FCR_ON else 1
            return IIR_RECEIVED if len(self._received) >= trigger else IIR_TIMEOUT
        if self._ier & IER_THR_EMPTY and self._thr_empty_event:
            return IIR_THR_EMPTY
        if self._ier & IER_MODEM_STATUS and self._modem & 0x0F:
            return IIR_MODEM_STATUS
        return IIR_NONE

    def _update(self) -> None:
        """After any change: set the interrupt line, and say what the vCPU loop may answer by itself."""
        line = int(self._reason() != IIR_NONE)
        if line != self._line:
            self._line = line
            self._interrupt(line)
        direct = not (self._lcr & LCR_DLAB or self._mcr & MCR_LOOP or self._ier & IER_THR_EMPTY)
        told = (None if self._overrun else self._lsr(), direct)
        if told != self._told:
            self._told = told
            self._shortcut(*told)
