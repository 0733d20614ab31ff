"""What a debugger can have of this host's KVM, found by trying it on a few instructions of a machine made for that.

No version or capability tells: KVM_CHECK_EXTENSION says yes to all of it on hosts where half of it does not happen
(a processor that is itself emulated, or a KVM that emulates ring 0). Four programs of 16 bits:

    step     nop                     does KVM_GUESTDBG_SINGLESTEP stop after it?
    int3     int3                    does it come to us, or to the guest (whose handler halts)?
    execute  nop; nop                does debug register 0 stop before the second?
    write    mov [0x2000], byte 5    does debug register 0 stop after it?

And what Linux can have: whether the processor runs the guest's kernel at all, or KVM's emulator does.
"""

from __future__ import annotations

import contextlib

from minivm import kvm
from minivm.errors import KvmError
from minivm.kvm import lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Abilities", "probe", "runs_kernels"]

CODE, HANDLER, DATA, STACK, SIZE = 0x1000, 0x1100, 0x2000, 0x8000, 0x10000
HLT = b"\xf4"
POPCNT = b"\xf3\x0f\xb8\xc0"  # popcnt ax, ax
INVALID = 6  # vector of #UD
LOCAL, EXACT, WRITE_BYTE = 1, 1 << 8 | 1 << 10, 1 << 16  # DR7: L0, LE and the bit that is always 1, R/W0 = 01 (SDM 3B, 17.2.4)


class Abilities:
    """What works here."""

    __slots__ = ("execute", "int3", "step", "write")

    def __init__(self, step: bool, int3: bool, execute: bool, write: bool) -> None:
        self.step = step  # a single step stops the guest
        self.int3 = int3  # so does the instruction int3
        self.execute = execute  # a debug register, before an instruction at its address
        self.write = write  # the same, after a write there

    def describe(self) -> str:
        """Return one line for the log."""
        words = [f"{name} {'yes' if getattr(self, name) else 'no'}" for name in self.__slots__]
        return "what stops the guest on this KVM: " + ", ".join(words)


def probe() -> Abilities:
    """Try it, in one machine. Takes a few milliseconds. Raises KvmError where there is no KVM."""
    enable, hardware = lib.KVM_GUESTDBG_ENABLE, lib.KVM_GUESTDBG_USE_HW_BP
    at, control = [CODE + 1, *[0] * 6], LOCAL | EXACT
    on = [DATA, *[0] * 6]
    with _machine() as (memory, vcpu):
        return Abilities(
            step=_stops(memory, vcpu, b"\x90\x90", enable | lib.KVM_GUESTDBG_SINGLESTEP),
            int3=_stops(memory, vcpu, b"\xcc", enable | lib.KVM_GUESTDBG_USE_SW_BP),
            execute=_stops(memory, vcpu, b"\x90\x90", enable | hardware, [*at, control]),
            write=_stops(memory, vcpu, b"\xc6\x06\x00\x20\x05\x90", enable | hardware, [*on, control | WRITE_BYTE]),
        )


def runs_kernels() -> bool:
    """Say whether what runs in ring 0 runs on the processor, as Linux needs, and not in KVM's instruction emulator.

    That (arch/x86/kvm/emulate.c) has what a kernel does to devices and page tables, and of the rest so much: no popcnt. A processor
    that has none either has the guest's handler called. Takes a few milliseconds. Raises KvmError where there is no KVM.
    """
    with _machine() as (memory, vcpu):
        _load(memory, vcpu, POPCNT)
        return bool(vcpu.run() != lib.KVM_EXIT_INTERNAL_ERROR)


@contextlib.contextmanager
def _machine() -> Iterator[tuple[kvm.GuestMemory, kvm.Vcpu]]:
    """Make a machine without interrupt controllers, in which `hlt` is an exit; it is gone afterwards."""
    system = kvm.open_kvm()
    machine = kvm.create_vm(system)
    memory = kvm.GuestMemory(SIZE)
    kvm.set_user_memory_region(machine, 0, 0, memory)
    vcpu = kvm.Vcpu(kvm.create_vcpu(machine, 0), kvm.get_vcpu_mmap_size(system))
    try:
        yield memory, vcpu
    finally:
        vcpu.close()
        kvm.close(vcpu.fd, machine, system)
        memory.close()


def _stops(memory: kvm.GuestMemory, vcpu: kvm.Vcpu, code: bytes, control: int, registers: list[int] | None = None) -> bool:
    """Run code, then `hlt`. Says whether KVM_EXIT_DEBUG came of it."""
    try:
        _load(memory, vcpu, code)
        kvm.set_guest_debug(vcpu.fd, control, registers or ())
        return bool(vcpu.run() == lib.KVM_EXIT_DEBUG)
    except KvmError:
        return False  # this KVM refuses the request itself


def _load(memory: kvm.GuestMemory, vcpu: kvm.Vcpu, code: bytes) -> None:
    """Put code there, and `hlt` behind it and into the handlers, and let the processor begin with it."""
    memory.view(CODE, len(code) + 1)[:] = code + HLT
    for vector in (1, 3, INVALID):  # debug exception and int3, if they are the guest's
        memory.view(4 * vector, 4)[:] = HANDLER.to_bytes(4, "little")
    memory.view(HANDLER, 1)[:] = HLT
    sregs = kvm.get_sregs(vcpu.fd)
    sregs.cs.base = sregs.cs.selector = 0
    kvm.set_sregs(vcpu.fd, sregs)
    kvm.set_regs(vcpu.fd, kvm.new_regs(rip=CODE, rflags=2, rsp=STACK))
