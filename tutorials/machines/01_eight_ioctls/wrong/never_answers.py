"""io: `in` is asked of the device, and its answer given to nobody.

The check says: read-back: it is not so
"""

from minivm.machine.loop import IN


class Exits:
    def io(self) -> None:
        io = self.run.io
        port, size = io.port, io.size
        data, bus = self.vcpu.data, self.machine.bus
        for start in range(0, len(data), size):
            if io.direction == IN:
                bus.read(port, size)
            else:
                bus.write(port, size, int.from_bytes(data[start : start + size], "little"))
