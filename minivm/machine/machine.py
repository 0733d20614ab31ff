"""The machine: performs the plan, owns what the plan makes, and gives all of it back.

    with Machine(config, start) as machine:
        machine.build()
        outcome = machine.run()

Whatever fails in between, leaving the `with` block undoes what was done, last thing first.
"""

from __future__ import annotations

import os
import threading

from minivm import kvm
from minivm.boot import layout
from minivm.devices.debug_exit import DebugExit
from minivm.devices.i8042 import Keyboard
from minivm.devices.power import Power
from minivm.devices.rtc import Rtc
from minivm.devices.uart import COM1, DATA, IRQ, LSR, Uart
from minivm.errors import KvmError, MinivmError
from minivm.inspect.exits import ExitCounts
from minivm.machine.bus import Bus, MemoryBus
from minivm.machine.gate import Gate
from minivm.machine.mapping import file_behind
from minivm.machine.output import burst
from minivm.machine.plan import machine_plan
from minivm.machine.recorder import Recorder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from minivm.boot.start import Bytes, Start
    from minivm.devices.virtio.console import Console
    from minivm.devices.virtio.loop import Loop
    from minivm.devices.virtio.mmio import Mmio
    from minivm.devices.virtio.path import Path
    from minivm.inspect.gdb.halt import Halt
    from minivm.machine.config import Config
    from minivm.machine.plan import Operation

    Done = tuple[int, tuple[str, ...]]  # a call's result, and what is now different

__all__ = ["Machine", "Outcome"]


class Outcome:
    """How a machine ended."""

    __slots__ = ("error", "how", "reason", "status")

    def __init__(self, status: int, reason: str, error: BaseException | None = None, how: str = "") -> None:
        self.how = how  # where the guest ended it: "exit" with a status, "off" or "reset" without one
        self.status = status  # exit status for the command, 0 to 255
        self.reason = reason  # in words, "" where the guest ended it itself
        self.error = error  # what went wrong on our side


class Machine:
    """One machine.

    Args:
        config: what it is asked to be.
        start: how its guest starts (minivm.boot.formats.prepare).
        recorder: told of each call and exit.
        console: file descriptor that the UART's output goes to.
    """

    def __init__(self, config: Config, start: Start, recorder: Recorder | None = None, console: int = 1) -> None:
        self.config = config
        self.plan = machine_plan(config, start)
        self.recorder = recorder or Recorder()
        self.recorder.check(operation.call for operation in self.plan)
        self.console = console
        self.outcome: Outcome | None = None
        self.vcpus: list[kvm.Vcpu] = []
        self.memory: list[tuple[int, kvm.GuestMemory]] = []  # (guest-physical address, pages)
        self.timed = False  # whether it is measured where the processors' time goes
        self.times: dict[int, dict[str, Any]] = {}  # processor -> that; see minivm/inspect/times.py
        self.debugger: Halt | None = None  # set before the run: the vCPUs' threads pass through its gate
        self.wake: Callable[[], None] = lambda: None  # gets the thread in the foreground to look again
        self._system = self._vm = -1
        self._vcpu_fds: list[int] = []
        self._run_size = 0
        self._irqchip = False
        self.opened: list[int] = []  # by the plan for the device that comes next
        self.shown_as: dict[str, str] = {}  # path of a disk -> a file where it is shown as raw
        self._eventfd = -1  # made last
        self.transports: list[Mmio] = []  # of the virtio devices, in the order of their slots
        self.registers: kvm.GuestMemory | None = None  # their pages
        self._hvc: Console | None = None
        self._offered: set[str] = set()  # capabilities
        self._leaves: Any = None
        self._sregs: Any = None
        self._undo: list[tuple[str, Callable[[], None]]] = []
        self.gate = Gate(self)
        self._runners: dict[int, int] = {}  # processor -> the thread inside its KVM_RUN
        self._stopping = threading.RLock()  # a signal's handler may come while its thread is in stop()
        self._shortcuts: tuple[int | None, bool] = (None, False)
        self._burst = burst(console)

        self.uart = Uart(self.send, self._uart_interrupt, lambda: self.wake(), self._uart_shortcut)
        self.bus = Bus()
        ends = DebugExit(self._guest_exit), DebugExit(self._guest_exit, qemu=True)
        off = Keyboard(self._guest_reset), Power(self._guest_off)
        for device in (self.uart, Rtc(), *ends, *off):
            self.bus.add(device)
        self.memory_bus = MemoryBus()
        self.memory_bus.add(layout.DEBUG_EXIT, ends[0])
        self.exits = ExitCounts(self.bus.name, self.memory_bus.name)

    # --- building and taking down ---

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def build(self) -> None:
        """Perform the plan up to KVM_RUN. Raises KvmError, MinivmError."""
        for operation in self.plan:
            if operation.call != "KVM_RUN":
                self.perform(operation)

    def perform(self, operation: Operation) -> int:
        """Make one call of the plan. Returns its result."""
        function: Callable[..., Done] = getattr(self, "_do_" + operation.call.lower())
        return self.recorder.perform(
            operation.call,
            operation.shown() if self.recorder.telling else (),
            lambda: function(**operation.args),
            side="minivm",
            step=operation.step,
            why=operation.why,
        )

    def close(self) -> None:
        """Give everything back; may be called again."""
        while self._undo:
            call, function = self._undo.pop()
            why = "Give back what was taken, last thing first."

            def done(function: Callable[[], None] = function) -> Done:
                function()
                return 0, ()

            name, _, shown = call.partition(" ")
            self.recorder.perform(name, (shown,), done, side="minivm", step="close", why=why)
        self.vcpus.clear()
        self.memory.clear()

    def _do_open(self, path: str) -> Done:
        self._system = fd = kvm.open_kvm(path)
        self._undo.append(("close kvm", lambda: kvm.close(fd)))
        return fd, (f"descriptor {fd} is the kernel's KVM interface",)

    def _do_kvm_get_api_version(self) -> Done:
        version = kvm.get_api_version(self._system)
        if version != kvm.lib.KVM_API_VERSION:
            raise MinivmError(f"this kernel's KVM interface is version {version}, and minivm needs 12")
        return version, ()

    def _do_kvm_check_extension(self, capability: str, optional: bool = False) -> Done:
        value = kvm.check_extension(self._system, capability)
        if value:
            self._offered.add(capability)
        elif not optional:
            raise MinivmError(f"this kernel's KVM lacks {capability}: `minivm doctor` shows what it has")
        return value, ()

    def _do_kvm_create_vm(self, kind: int) -> Done:
        self._vm = fd = kvm.create_vm(self._system, kind)
        self._undo.append(("close vm", lambda: kvm.close(fd)))
        return fd, (f"descriptor {fd} is the machine",)

    def _do_kvm_set_identity_map_addr(self, address: int) -> Done:
        kvm.set_identity_map_addr(self._vm, address)
        return 0, ()

    def _do_kvm_set_tss_addr(self, address: int) -> Done:
        kvm.set_tss_addr(self._vm, address)
        return 0, ()

    def _do_kvm_create_irqchip(self) -> Done:
        kvm.create_irqchip(self._vm)
        self._irqchip = True
        return 0, ("ports 0x20, 0x21, 0xa0, 0xa1 and addresses 0xfec00000, 0xfee00000 are answered by the kernel",)

    def _do_kvm_create_pit2(self, flags: str) -> Done:
        kvm.create_pit2(self._vm, getattr(kvm.lib, flags))
        return 0, ("ports 0x40 to 0x43 and 0x61 are answered by the kernel",)

    def _do_write(self, path: str) -> Done:
        from minivm.machine.placement import join_cgroup

        join_cgroup(path)
        return 0, (f"this process is in the control group {path}",)

    def _do_openat(self, path: str, flags: str) -> Done:
        from minivm.machine.host import open_file

        fd = open_file(self.shown_as.get(path, path), flags)
        self.opened.append(fd)
        self._undo.append((f"close {path}", lambda: kvm.close(fd)))
        return fd, (f"descriptor {fd} is {path}",)

    def _do_flock(self, shared: bool) -> Done:
        from minivm.machine.host import lock_file

        lock_file(self.opened[-1], shared)
        return 0, ()

    def _do_tunsetiff(self, name: str, flags: str) -> Done:
        from minivm.machine.host import become_tap

        become_tap(self.opened[-1], name, flags)
        return 0, (f"what we write comes in at {name}",)

    def _do_tunsetvnethdrsz(self, size: int) -> Done:
        from minivm.machine.host import set_header_size

        set_header_size(self.opened[-1], size)
        return 0, ()

    def _do_socketpair(self, kind: str) -> Done:
        from minivm.machine.host import socket_pair

        pair = socket_pair()
        self.opened.extend(pair)
        self._undo.append((f"close {kind} pair", lambda: kvm.close(*pair)))
        return 0, ()

    def _do_execve(self, program: str, **args: Any) -> Done:
        from minivm.machine.helpers import start

        helper = start(program, self, **args)
        self._undo.append((f"kill {program}", helper.stop))
        return helper.pid, (f"process {helper.pid} is {program}",)

    def _do_eventfd2(self, device: str) -> Done:
        self._eventfd = fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._undo.append((f"close eventfd of {device}", lambda: kvm.close(fd)))
        return fd, ()

    def _do_kvm_irqfd(self, device: str, address: int, gsi: int) -> Done:
        from minivm.machine.virtio import transport

        kvm.irqfd(self._vm, self._eventfd, gsi)
        made = transport(self, len(self.transports), self._eventfd)
        self._undo.append((f"close virtio-{device}", made.close))
        self.opened.clear()
        self.transports.append(made)
        self.memory_bus.add(address, made)
        if device == "console" and self.config.hvc:
            self._hvc = made.device  # type: ignore[assignment]
        return 0, (f"a virtio-{device} answers at {address:#x}",)

    def _do_kvm_ioeventfd(self, device: str, address: int, queue: int) -> Done:
        from minivm.devices.virtio.mmio import QUEUE_NOTIFY

        kvm.ioeventfd(self._vm, self._eventfd, address + QUEUE_NOTIFY, queue)
        self.transports[-1].kick(queue, self._eventfd)
        return 0, (f"virtio-{device} is woken by writes of {queue} to {address + QUEUE_NOTIFY:#x}",)

    def undo(self, call: str, function: Callable[[], None]) -> None:
        """Have something undone at close(), before what was done before it."""
        self._undo.append((call, function))

    @property
    def paths(self) -> list[Path | Loop]:
        """What serves the virtio devices' queues, each in a thread of its own."""
        return [path for transport in self.transports for path in transport.paths]

    def _do_mmap(self, length: int = 0, fd: str = "", what: str = "", data: Bytes = b"", address: int = 0, offset: int = 0) -> Done:
        if data:
            return self._map_file(address, length, data, offset)
        return self._map_run(fd) if fd else self._map_registers(length) if what else self._map_memory(length)

    def _map_file(self, address: int, length: int, data: Bytes, offset: int) -> Done:
        file = file_behind(data)
        assert file is not None
        for base, pages in self.memory:
            if base <= address < base + pages.size:
                pages.map_file(address - base, length, file.fd, offset)
        file.forget()  # what was read of its headers: the guest's mapping is another
        return length, ()

    def _map_memory(self, length: int) -> Done:
        pages = kvm.GuestMemory(length)
        base = self.memory[-1][0] + self.memory[-1][1].size if self.memory else 0
        self.memory.append((base, pages))  # the slot, next in the plan, says where it really is
        self._undo.append(("munmap memory", pages.close))
        return 0, (f"{length >> 10} KiB at {pages.address:#x} of this process are to be the guest's",)

    def _map_registers(self, length: int) -> Done:
        self.registers = pages = kvm.GuestMemory(length)
        self._undo.append(("munmap registers", pages.close))
        return 0, (f"{length >> 10} KiB at {pages.address:#x} are to be registers",)

    def _map_run(self, name: str) -> Done:
        vcpu = kvm.Vcpu(self._vcpu_fds[int(name[4:])], self._run_size)
        self.vcpus.append(vcpu)
        self._undo.append(("munmap kvm_run", vcpu.close))
        return 0, (f"{self._run_size} bytes are shared with the kernel",)

    def _do_kvm_set_user_memory_region(self, slot: int, address: int, length: int, flags: str = "") -> Done:
        pages = self.registers if flags else self.memory[slot][1]
        assert pages is not None
        kvm.set_user_memory_region(self._vm, slot, address, pages, getattr(kvm.lib, flags) if flags else 0)
        if not flags:
            self.memory[slot] = address, pages
        last = address + length - 1
        return 0, (f"guest-physical {address:#x} to {last:#x} is this process's {pages.address:#x} and on",)

    def _do_kvm_create_vcpu(self, number: int) -> Done:
        fd = kvm.create_vcpu(self._vm, number)
        self._vcpu_fds.append(fd)
        self._undo.append((f"close vcpu{number}", lambda: kvm.close(fd)))
        return fd, (f"descriptor {fd} is the processor",)

    def _do_kvm_get_vcpu_mmap_size(self) -> Done:
        self._run_size = kvm.get_vcpu_mmap_size(self._system)
        return self._run_size, ()

    def _do_kvm_get_supported_cpuid(self) -> Done:
        self._leaves = kvm.get_supported_cpuid(self._system)
        return 0, (f"{self._leaves.nent} leaves",)

    def _do_kvm_set_cpuid2(self, number: int) -> Done:
        from minivm.machine.cpuid import fit

        fit(self._leaves, number, self.config.cpus, "KVM_CAP_TSC_DEADLINE_TIMER" in self._offered)
        kvm.set_cpuid2(self._vcpu_fds[number], self._leaves)
        return 0, ()

    def _do_kvm_set_msrs(self, number: int, msrs: Mapping[int, int]) -> Done:
        done = kvm.set_msrs(self._vcpu_fds[number], msrs)
        return done, () if done == len(msrs) else (f"this KVM has no MSR {list(msrs)[done]:#x}",)

    def _do_memcpy(self, address: int, what: str, data: Bytes) -> Done:
        self.bytes_at(address, len(data))[:] = data
        file = file_behind(data)
        if file is not None:
            file.forget()  # else it would count as memory of this process
        return len(data), ()

    def _do_kvm_get_sregs(self) -> Done:
        self._sregs = kvm.get_sregs(self._vcpu_fds[0])
        return 0, ()

    def _do_kvm_set_sregs(self, **changes: Any) -> Done:
        for name, value in changes.items():
            if isinstance(value, int):
                setattr(self._sregs, name, value)
            else:
                for field, number in value.items():
                    setattr(getattr(self._sregs, name), field, number)
        kvm.set_sregs(self._vcpu_fds[0], self._sregs)
        return 0, ()

    def _do_kvm_set_regs(self, **registers: int) -> Done:
        kvm.set_regs(self._vcpu_fds[0], kvm.new_regs(**registers))
        return 0, ()

    # --- memory ---

    def bytes_at(self, address: int, length: int) -> memoryview:
        """Return guest memory itself, not a copy; valid until close().

        Args:
            address: guest-physical (uint64_t).

        Raises IndexError where it is not all RAM of one slot.
        """
        for base, pages in self.memory:
            if base <= address < base + pages.size:
                return pages.view(address - base, length)
        raise IndexError(f"guest-physical {address:#x} is no RAM")

    # --- running ---

    def run(self, stdin: int | None = None, timeout: float | None = None) -> Outcome:
        """Run the guest to its end.

        Each vCPU gets a thread of its own; this one attends to input, signals and time meanwhile.

        Args:
            stdin: file descriptor for the console's input; None: the console has none.
            timeout: seconds after which the machine is stopped with status 124.
        """
        from minivm.machine.foreground import attend

        return attend(self, stdin, timeout)

    def stop(self, outcome: Outcome) -> None:
        """End the machine, from any thread; the first outcome counts."""
        with self._stopping:
            self.outcome = self.outcome or outcome
            self.interrupt()
        self.gate.open()
        if self.debugger:
            self.debugger.release()
        self.wake()

    def interrupt(self) -> int:
        """Get every processor's thread, but the caller's, out of the guest. Returns how many there are."""
        with self._stopping:
            others = {number: thread for number, thread in self._runners.items() if thread != threading.get_ident()}
            for number, thread in others.items():
                self.vcpus[number].interrupt(thread)
            return len(others)

    def vcpu_thread(self, number: int) -> None:
        """Run a vCPU until the machine has an outcome: the body of its thread."""
        from minivm.machine.loop import loop

        with self._stopping:
            self._runners[number] = threading.get_ident()
        try:
            self._pin(number)
            loop(self, number)
        except KvmError as error:
            self.stop(Outcome(error.status, str(error), error))
        except BaseException as error:
            self.stop(Outcome(MinivmError.status, f"{type(error).__name__}: {error}", error))
        finally:
            with self._stopping:
                del self._runners[number]

    def path_thread(self, path: Path | Loop) -> None:
        """Serve a device's queues until path.stop(): the body of its thread."""
        try:
            path.run()
        except BaseException as error:
            self.stop(Outcome(MinivmError.status, f"{type(error).__name__}: {error}", error))

    def _pin(self, number: int) -> None:
        """Let this thread run only where the processor is to be."""
        affinity = self.config.affinity
        if not affinity:
            return
        from minivm.machine.placement import pin

        cpus = affinity[number % len(affinity)]

        def call() -> Done:
            pin(cpus)
            return 0, ()

        why = "The thread of this virtual processor runs on these processors of the host, and on no other."
        shown = ",".join(map(str, sorted(cpus)))
        self.recorder.perform("sched_setaffinity", (shown,), call, side=f"vcpu{number}", step="run", why=why)

    # --- what the devices are given ---

    def type(self, data: bytes) -> bool:
        """Give the guest console input. Returns False when to wait, until wake() is called."""
        if self._hvc is None:
            return self.uart.push(data)
        return self._hvc.push(data)

    def hang_up(self) -> None:
        """The console's input has ended. (A virtio-console has no way to say so.)"""
        self.uart.hang_up()

    def drain(self) -> None:
        """Wait until what the guest has printed is written."""
        for transport in self.transports:
            if hasattr(transport.device, "drain"):
                transport.device.drain()

    def unread(self) -> None:
        """Nobody reads the console's output any more."""
        self.stop(Outcome(128 + 13, "cannot write the console's output: nobody reads it"))  # SIGPIPE

    def _guest_exit(self, status: int) -> None:
        self.stop(Outcome(status, "", how="exit"))

    def _guest_off(self) -> None:
        self.stop(Outcome(0, "", how="off"))

    def _guest_reset(self) -> None:
        root = self.config.rootfs
        if root and (root.program or root.command):  # its exit status was to be ours, and nobody knows it
            reason = "the machine was reset before its program ended: --cmdline loglevel=7 shows more"
            self.stop(Outcome(MinivmError.status, reason, how="reset"))
        self.stop(Outcome(0, "", how="reset"))

    def send(self, data: bytes | memoryview) -> None:
        from minivm.machine.foreground import send

        send(self, data)

    def _uart_interrupt(self, level: int) -> None:
        if self._irqchip:
            self.irq_line(IRQ, level)

    def press_power(self) -> None:
        """Press the power button, from any thread: a kernel with ACPI tells its user space, which should switch off."""
        for level, why in ((1, "The power button was pressed: an ACPI event."), (0, "An edge is enough.")):
            self.irq_line(layout.EVENT_GSI, level, "power button", why)

    def irq_line(self, irq: int, level: int, side: str = "uart", why: str = "") -> None:
        """Raise or lower an interrupt line, from any thread."""

        def set_line() -> Done:
            kvm.irq_line(self._vm, irq, level)
            return 0, ()

        why = why or ("Bytes have come in, or the modem lines changed." if level else "The guest has seen to it.")
        if self.recorder.watches("KVM_IRQ_LINE"):
            args = (f"irq={irq}", f"level={level}")
            self.recorder.perform("KVM_IRQ_LINE", args, set_line, side=side, step="run", why=why)
        else:
            set_line()

    def _uart_shortcut(self, lsr: int | None, direct: bool) -> None:
        self._shortcuts = lsr, direct
        self.refresh_shortcuts()

    def _prompts(self) -> list[tuple[int, int, Any]]:
        """Return what a vCPU's own thread serves when it is notified: (address of the registers, queue, path in C)."""
        return [
            (layout.VIRTIO + slot * layout.VIRTIO_SIZE, queue, path.c)
            for slot, transport in enumerate(self.transports)
            for path in transport.paths
            for queue in path.prompt
        ]

    def refresh_shortcuts(self) -> None:
        """Let the loop in C answer for the UART what needs no thought, unless somebody is told of each exit."""
        if self.recorder.watches("KVM_RUN"):
            return
        lsr, direct = self._shortcuts
        for vcpu in self.vcpus:
            status, data = vcpu.shortcut(0), vcpu.shortcut(1)
            status.port, status.value = COM1 + LSR, lsr or 0
            status.answer_in = lsr is not None
            data.port, data.fd, data.burst = COM1 + DATA, self.console, self._burst
            data.forward_out = direct
            if self.registers is not None:
                vcpu.answer_acknowledgements(layout.VIRTIO, self.registers)
                for index, (address, queue, path) in enumerate(self._prompts()):
                    vcpu.prompt(index, address, queue, path)
