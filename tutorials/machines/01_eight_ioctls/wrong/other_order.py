"""io: the bytes of a number the highest first, as on a network.

The check says: four-bytes: it is not so
"""

from minivm.machine.loop import IN


class Exits:
    def io(self) -> None:
        io = self.run.io
        port, size = io.port, io.size
        data, bus = self.vcpu.data, self.machine.bus
        for start in range(0, len(data), size):
            if io.direction == IN:
                data[start : start + size] = bus.read(port, size).to_bytes(size, "big")
            else:
                bus.write(port, size, int.from_bytes(data[start : start + size], "big"))
