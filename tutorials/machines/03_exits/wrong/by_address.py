"""mmio: counted by address, and not by page: the table has a row for each register.

The check says: counted: 1 exits of page 0xcffff000, 0 answered in C, 1 exits of page 0x1000000, 0 answered in C
"""


class Exits:
    def mmio(self) -> None:
        mmio = self.run.mmio
        address, size = mmio.phys_addr, mmio.len
        self.counts.mmio[address] = self.counts.mmio.get(address, 0) + 1
        if mmio.is_write:
            self.machine.memory_bus.write(address, size, int.from_bytes(bytes(mmio.data[0:size]), "little"))
        else:
            mmio.data[0:size] = self.machine.memory_bus.read(address, size).to_bytes(size, "little")
