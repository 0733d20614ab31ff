"""mmio: the highest byte first, as in a network's packets; a PC has the lowest first.

The check says: written: it is not so
"""


class Exits:
    def mmio(self) -> None:
        mmio = self.run.mmio
        address, size = mmio.phys_addr, mmio.len
        page = address & ~0xFFF
        self.counts.mmio[page] = self.counts.mmio.get(page, 0) + 1
        if mmio.is_write:
            self.machine.memory_bus.write(address, size, int.from_bytes(bytes(mmio.data[0:size]), "big"))
        else:
            mmio.data[0:size] = self.machine.memory_bus.read(address, size).to_bytes(size, "little")
