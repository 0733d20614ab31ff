"""Run minivm with a UART that has a wire: after each byte there is no room for a while, and what is written then is lost.

minivm's own always has room, so that a driver that does not wait for it would not be noticed. Words: minivm's.
"""

import sys

import minivm.machine.machine as machine
from minivm.cli.main import main
from minivm.devices.uart import DATA, LCR_DLAB, LSR, LSR_IDLE, LSR_THR_EMPTY, Uart

BUSY = 3  # reads of LSR that find no room


class Slow(Uart):
    """It answers each exit by itself, so that no shortcut is offered."""

    def __init__(self, send, interrupt, room, shortcut):
        self._busy = 0
        super().__init__(send, interrupt, room)

    def _lsr(self):
        return super()._lsr() & ~(LSR_THR_EMPTY | LSR_IDLE if self._busy else 0)

    def read(self, offset, size):
        value = super().read(offset, size)
        if offset == LSR:
            self._busy = max(0, self._busy - 1)
        return value

    def write(self, offset, size, value):
        if offset == DATA and not self._lcr & LCR_DLAB:
            if self._busy:
                return
            self._busy = BUSY
        super().write(offset, size, value)


machine.Uart = Slow
sys.exit(main(sys.argv[1:]))
