"""refresh_shortcuts: a byte for port 0x3f8 is always sent, also where it is the divisor.

The check says: sent: 13 exits of out 0x3f8, 13 answered in C
"""

from minivm.boot import layout
from minivm.devices.uart import COM1, DATA, LSR


class Machine:
    def refresh_shortcuts(self) -> None:
        if self.recorder.watches("KVM_RUN"):
            return
        lsr, _ = self._shortcuts
        for vcpu in self.vcpus:
            status, data = vcpu.shortcut(0), vcpu.shortcut(1)
            status.port, status.value = COM1 + LSR, lsr or 0
            status.answer_in = lsr is not None
            data.port, data.fd, data.burst = COM1 + DATA, self.console, self._burst
            data.forward_out = True
            if self.registers is not None:
                vcpu.answer_acknowledgements(layout.VIRTIO, self.registers)
                for index, (address, queue, path) in enumerate(self._prompts()):
                    vcpu.prompt(index, address, queue, path)
