"""What KVM says of page tables: where addresses lead, and who may touch what. The observer's own machine has them in its memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from minivm import kvm
from minivm.boot import longmode
from tutorials.tutor.world import World

STORY = ("minivm", "run", "--fail", "KVM_RUN=EIO")  # up to the first instruction
BASE, CODE, DATA, SIZE = 0x10000, 0x8000, 0x400000, 0x1000000
WRITABLE, USER, NO_EXECUTE = longmode.WRITABLE, longmode.USER, longmode.NO_EXECUTE
PAGE, LARGE = 0x1000, 0x200000


class Wanted:
    """Addresses drawn anew for each check."""

    def __init__(self, world: World) -> None:
        self.low = world.number("low", 1 << 12, (1 << 26) - 2) * LARGE  # anywhere in the lower half
        self.high = 0xFFFF_8000_0000_0000 + world.number("high", 1 << 12, (1 << 26) - 2) * LARGE
        self.large = self.high + LARGE  # beside it, as one page of 2 MiB
        self.frame = DATA + world.number("frame", 0, 64) * PAGE
        self.maps = [
            (0, 0, LARGE, WRITABLE | USER),
            (self.low, self.frame, PAGE, 0),
            (self.low + PAGE, self.frame + 2 * PAGE, PAGE, WRITABLE | USER),
            (self.low + 2 * PAGE, self.frame + 4 * PAGE, PAGE, WRITABLE | NO_EXECUTE),
            (self.high, self.frame + PAGE, 3 * PAGE, WRITABLE),
            (self.large, 3 * LARGE, LARGE, WRITABLE),
        ]


def observe(world: World) -> Iterator[tuple[str, object]]:
    yield "boots", world.run("minivm", "run", "--timeout", world.patience).stdout.startswith("Hello from the minivm guest")
    wanted, byte = Wanted(world), world.number("byte", 1, 255)
    again = (wanted.low, wanted.frame, PAGE, 0)
    words = [":".join(map(str, one)) for one in [*wanted.maps, again, (wanted.large, 0, PAGE, 0)]]
    *refused, tables = world.script(Path(__file__).with_name("tables.py"), str(BASE), *words).split("\n")[:-1]
    with Machine(bytes.fromhex(tables)) as machine:
        for name in ("low", "high", "large"):
            address = getattr(wanted, name) + world.number(name, 0, PAGE)
            yield f"leads-{name}", hex(machine.translate(address) or 0)
        yield "neighbours", [machine.translate(a) is None for a in (wanted.low - 1, wanted.low + 3 * PAGE, wanted.high + 3 * PAGE)]
        machine.memory.view(wanted.frame, PAGE)[:] = bytes([byte]) * PAGE
        yield "read", machine.does(read(wanted.low)) == byte
        yield "written", machine.does(write(wanted.high + PAGE, byte ^ 255)) == 1
        yield "arrived", machine.memory.view(wanted.frame + 2 * PAGE, 1)[0] == byte ^ 255
        yield "read-only", machine.does(write(wanted.low, byte))
        yield "ring-3", machine.does(read(wanted.low + PAGE), ring=3) == byte ^ 255
        yield "not-ring-3", machine.does(read(wanted.high), ring=3)
        machine.memory.view(wanted.frame + 2 * PAGE, 32)[:] = b"".join([read(wanted.low + PAGE), b"\xf4"]).ljust(32)
        yield "executed", machine.does(b"", at=wanted.low + PAGE) == 0x48  # its own first byte
    yield "twice", len(refused)


def read(address: int) -> bytes:
    """mov rax, address; mov al, [rax]; mov dx, 0x501; out dx, al."""
    return b"\x48\xb8" + address.to_bytes(8, "little") + bytes.fromhex("8a 00  66 ba 01 05  ee")


def write(address: int, value: int) -> bytes:
    """mov rax, address; mov byte [rax], value; mov al, 1; mov dx, 0x501; out dx, al."""
    return b"\x48\xb8" + address.to_bytes(8, "little") + b"\xc6\x00" + bytes([value]) + bytes.fromhex("b0 01  66 ba 01 05  ee")


class Machine:
    """A machine in long mode whose page tables are given."""

    def __init__(self, tables: bytes) -> None:
        self.system = kvm.open_kvm()
        self.vm = kvm.create_vm(self.system)
        self.memory = kvm.GuestMemory(SIZE)
        kvm.set_user_memory_region(self.vm, 0, 0, self.memory)
        self.memory.view(BASE, len(tables))[:] = tables
        self.memory.view(0x6000, len(longmode.gdt()))[:] = longmode.gdt()
        self.vcpu = kvm.Vcpu(kvm.create_vcpu(self.vm, 0), kvm.get_vcpu_mmap_size(self.system))
        kvm.set_cpuid2(self.vcpu.fd, kvm.get_supported_cpuid(self.system))
        self.enter(0)

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self.vcpu.close()
        kvm.close(self.vcpu.fd, self.vm, self.system)
        self.memory.close()

    def enter(self, ring: int) -> None:
        """Set the registers for long mode in a ring."""
        code, data = (longmode.USER_CODE, longmode.USER_DATA) if ring else (longmode.KERNEL_CODE, longmode.KERNEL_DATA)
        sregs = kvm.get_sregs(self.vcpu.fd)
        for name, value in longmode.special_registers(BASE, 0x6000, len(longmode.gdt()), code, data).items():
            if isinstance(value, dict):
                for field, number in value.items():
                    setattr(getattr(sregs, name), field, number)
            else:
                setattr(sregs, name, value)
        kvm.set_sregs(self.vcpu.fd, sregs)

    def translate(self, address: int) -> int | None:
        """Ask KVM for the walk of an address."""
        return kvm.translate(self.vcpu.fd, address)

    def does(self, code: bytes, ring: int = 0, at: int = CODE) -> int | str:
        """Run a few instructions, at a virtual address; return what they send to port 0x501, or that they fault."""
        self.memory.view(CODE, len(code))[:] = code
        self.enter(ring)
        kvm.set_regs(self.vcpu.fd, kvm.new_regs(rip=at, rsp=0x7000, rflags=2 | (3 << 12 if ring else 0)))
        if self.vcpu.run() != kvm.lib.KVM_EXIT_IO:
            return "a fault"
        return int(self.vcpu.data[0])
