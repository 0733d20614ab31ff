"""refresh_shortcuts: reading LSR is answered in C also where reading it changes it.

The check says: overrun: 0x0
"""

from minivm.boot import layout
from minivm.devices.uart import COM1, DATA, LSR


class Machine:
    def refresh_shortcuts(self) -> None:
        if self.recorder.watches("KVM_RUN"):
            return
        lsr, direct = self._shortcuts
        for vcpu in self.vcpus:
            status, data = vcpu.shortcut(0), vcpu.shortcut(1)
            status.port, status.value, status.answer_in = COM1 + LSR, lsr or 0, True
            data.port, data.fd, data.burst, data.forward_out = COM1 + DATA, self.console, self._burst, direct
            if self.registers is not None:
                vcpu.answer_acknowledgements(layout.VIRTIO, self.registers)
                for index, (address, queue, path) in enumerate(self._prompts()):
                    vcpu.prompt(index, address, queue, path)
