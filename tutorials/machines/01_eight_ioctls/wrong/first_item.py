"""io: the first item of a string instruction, and not the others.

The check says: many-at-once: it is not so
"""

from minivm.machine.loop import IN


class Exits:
    def io(self) -> None:
        io = self.run.io
        port, size = io.port, io.size
        data, bus = self.vcpu.data, self.machine.bus
        if io.direction == IN:
            data[0:size] = bus.read(port, size).to_bytes(size, "little")
        else:
            bus.write(port, size, int.from_bytes(data[0:size], "little"))
