"""The vCPU's loop: run the guest, look why it stopped, answer, run it again."""

from __future__ import annotations

from time import monotonic_ns

from minivm.inspect.exits import IN, WHY, reason_name
from minivm.inspect.times import Clock
from minivm.kvm import lib
from minivm.machine.machine import Outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minivm.kvm import Vcpu
    from minivm.machine.machine import Machine

__all__ = ["CRASHED", "loop"]

CRASHED = 134  # exit status of a guest that died of a fault: 128 + SIGABRT, as a shell shows for a process
REGISTERS_AT_FIRST = 256  # exits whose registers a trace holds


def loop(machine: Machine, number: int) -> None:
    """Run a vCPU until the machine has an outcome. Raises KvmError."""
    vcpu = machine.vcpus[number]
    exits = Exits(machine, vcpu)
    machine.gate.wait(vcpu)
    clock = Clock(vcpu, *machine.counters[number : number + 1]) if machine.timed else None
    try:
        if machine.debugger:
            machine.debugger.loop(number, exits.handlers, exits.unknown)
            return
        if machine.recorder.watches("KVM_RUN"):
            _told_loop(machine, number, exits)
            return
        vcpu.answer_absent(machine.bus.absent())
        machine.refresh_shortcuts()
        run, handle = vcpu.run, exits.handlers.get
        while machine.outcome is None:
            handle(run(), exits.unknown)()
    finally:
        exits.collect()
        if clock:
            machine.times[number] = clock.stop()


def _told_loop(machine: Machine, number: int, exits: Exits) -> None:
    """The same, telling each exit with what was answered."""
    from minirt.trace import Event
    from minivm.inspect.registers import as_dict
    from minivm.inspect.sites import Sites

    recorder, vcpu, count = machine.recorder, machine.vcpus[number], 0
    registers, sites = vcpu.show_registers(), Sites(vcpu.special(), machine.bytes_at)
    while machine.outcome is None:
        begin = monotonic_ns()
        recorder.inject("KVM_RUN")
        reason = vcpu.run()
        duration = monotonic_ns() - begin
        count += 1
        state = as_dict(registers) if count <= REGISTERS_AT_FIRST and reason != lib.KVM_EXIT_INTR else None
        site = sites.describe(registers.rip) if reason != lib.KVM_EXIT_INTR else {}
        recorder.hold()
        data: dict[str, Any] = {}
        args: tuple[str, ...] = ()
        try:
            exits.handlers.get(reason, exits.unknown)()
            args, data = exits.describe(reason)
        finally:
            data |= site
            if state:
                data["registers"] = state
            name = reason_name(reason)
            recorder.release(
                Event(
                    name,
                    args,
                    side=f"vcpu{number}",
                    step="run",
                    why=WHY.get(name, ""),
                    time=begin,
                    duration=duration,
                    data=data or None,
                )
            )


class Exits:
    """One method for each exit reason; `handlers` finds it."""

    def __init__(self, machine: Machine, vcpu: Vcpu) -> None:
        self.machine, self.vcpu = machine, vcpu
        self.run = vcpu.kvm_run
        self._io, self._bus, self._page = vcpu.kvm_run.io, machine.bus, vcpu.page  # to look them up for each exit costs a tenth
        self.counts = machine.exits.another()  # of its own: two threads that add to one number lose some
        self.handlers: dict[int, Callable[[], None]] = {
            lib.KVM_EXIT_IO: self.io,
            lib.KVM_EXIT_MMIO: self.mmio,
            lib.KVM_EXIT_HLT: self.hlt,
            lib.KVM_EXIT_INTR: self.intr,
            lib.KVM_EXIT_SHUTDOWN: self.shutdown,
            lib.KVM_EXIT_SYSTEM_EVENT: self.system_event,
            lib.KVM_EXIT_FAIL_ENTRY: self.fail_entry,
            lib.KVM_EXIT_INTERNAL_ERROR: self.internal_error,
        }

    def io(self) -> None:
        """`in` and `out`, and with a count above 1 their string forms."""
        io, bus = self._io, self._bus
        port, size, direction = io.port, io.size, io.direction
        key = port << 1 | direction
        self.counts.io[key] = self.counts.io.get(key, 0) + 1
        if size == io.count == 1:  # as nearly always: without slices
            if direction == IN:
                self._page[io.data_offset] = bus.read(port, 1)
            else:
                bus.write(port, 1, self._page[io.data_offset])
            return
        data = self.vcpu.data
        for start in range(0, len(data), size):
            if direction == IN:
                data[start : start + size] = bus.read(port, size).to_bytes(size, "little")
            else:
                bus.write(port, size, int.from_bytes(data[start : start + size], "little"))

    def mmio(self) -> None:
        """A read or write where there is no RAM."""
        mmio = self.run.mmio
        address, size = mmio.phys_addr, mmio.len
        page = address & ~0xFFF
        self.counts.mmio[page] = self.counts.mmio.get(page, 0) + 1
        if mmio.is_write:
            self.machine.memory_bus.write(address, size, int.from_bytes(bytes(mmio.data[0:size]), "little"))
        else:
            mmio.data[0:size] = self.machine.memory_bus.read(address, size).to_bytes(size, "little")

    def hlt(self) -> None:
        """Only without the irqchip: nothing can wake the guest, so this is its end."""
        self._count()
        self.machine.stop(Outcome(0, ""))

    def intr(self) -> None:
        """A signal, stop(): the loop looks for an outcome. Or a pause, which is waited for here."""
        self._count(lib.KVM_EXIT_INTR)  # exit_reason may still hold the exit before
        self.machine.gate.wait(self.vcpu)

    def shutdown(self) -> None:
        self._count()
        self.machine.stop(Outcome(CRASHED, f"the guest died of a triple fault at {self._where()}"))

    def system_event(self) -> None:
        self._count()
        crashed = self.run.system_event.type == lib.KVM_SYSTEM_EVENT_CRASH
        self.machine.stop(Outcome(CRASHED if crashed else 0, "the guest reports a crash" if crashed else ""))

    def fail_entry(self) -> None:
        self._count()
        reason = self.run.fail_entry.hardware_entry_failure_reason
        self.machine.stop(Outcome(125, f"the processor refuses to enter the guest (hardware reason {reason:#x})"))

    def internal_error(self) -> None:
        self._count()
        suberror = self.run.internal.suberror
        text = {lib.KVM_INTERNAL_ERROR_EMULATION: "an instruction that it cannot emulate"}.get(suberror, "")
        self.machine.stop(Outcome(125, f"KVM gave up at {self._where()}: {text or f'internal error {suberror}'}"))

    def unknown(self) -> None:
        self._count()
        self.machine.stop(Outcome(125, f"minivm does not handle {reason_name(self.run.exit_reason)}"))

    def describe(self, reason: int) -> tuple[tuple[str, ...], dict[str, Any]]:
        """Return the exit just handled, for an event: its arguments, and the same as data."""
        if reason == lib.KVM_EXIT_IO:
            io = self.run.io
            direction = "in" if io.direction == IN else "out"
            value, device = bytes(self.vcpu.data), self.machine.bus.name(io.port)
            shown = f"{int.from_bytes(value, 'little'):#x}" if io.count == 1 else repr(value)
            data = {"direction": direction, "port": io.port, "size": io.size, "count": io.count, "value": value.hex()}
            return (direction, f"port={io.port:#x}", f"size={io.size}", shown, device or "no device"), data
        if reason == lib.KVM_EXIT_MMIO:
            mmio = self.run.mmio
            verb, value = "write" if mmio.is_write else "read", bytes(mmio.data[0 : mmio.len])
            data = {"direction": verb, "address": mmio.phys_addr, "size": mmio.len, "value": value.hex()}
            shown = f"{int.from_bytes(value, 'little'):#x}"
            device = self.machine.memory_bus.name(mmio.phys_addr)
            return (verb, f"{mmio.phys_addr:#x}", f"size={mmio.len}", shown, device or "no device"), data
        return (), {}

    def collect(self) -> None:
        """Add what the loop in C has answered to the counts, and all of them to the machine's."""
        for index in range(lib.SHORTCUTS):
            cut = self.vcpu.shortcut(index)
            for direction, count in ((lib.KVM_EXIT_IO_IN, cut.ins), (lib.KVM_EXIT_IO_OUT, cut.outs)):
                if count:
                    self.counts.in_c[cut.port << 1 | direction] = int(count)
        self.counts.in_c.update(self.vcpu.absent)
        self.counts.acknowledged, self.counts.prompted = self.vcpu.window
        self.machine.exits.add(self.counts)

    def _count(self, reason: int | None = None) -> None:
        reason = self.run.exit_reason if reason is None else reason
        self.counts.other[reason] = self.counts.other.get(reason, 0) + 1

    def _where(self) -> str:
        from minivm.kvm import get_regs

        return f"rip {get_regs(self.vcpu.fd).rip:#x}"
