"""The machine: performs the plan, owns what the plan makes, and gives all of it back.

    with Machine(config, start) as machine:
        machine.build()
        outcome = machine.run()

Whatever fails in between, leaving the `with` block undoes what was done, last thing first.
"""

from __future__ import annotations

import threading

from minivm import kvm
from minivm.boot import layout
from minivm.devices.debug_exit import DebugExit
from minivm.devices.fw_cfg import FwCfg
from minivm.devices.i8042 import Keyboard
from minivm.devices.power import Power
from minivm.devices.rtc import Rtc
from minivm.devices.uart import COM1, DATA, IRQ, LSR, Uart
from minivm.errors import KvmError, MinivmError
from minivm.inspect.exits import ExitCounts
from minivm.machine.bus import Bus, MemoryBus
from minivm.machine.gate import Gate
from minivm.machine.output import burst
from minivm.machine.perform import Made, function
from minivm.machine.plan import machine_plan
from minivm.machine.recorder import Recorder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minivm.boot.start import Start
    from minivm.devices.virtio.console import Console
    from minivm.devices.virtio.loop import Loop
    from minivm.devices.virtio.mmio import Mmio
    from minivm.devices.virtio.path import Path
    from minivm.devices.virtio.vhost_user import Remote
    from minivm.devices.watchdog import Watchdog
    from minivm.inspect.gdb.halt import Halt
    from minivm.machine.config import Config
    from minivm.machine.perform import Done
    from minivm.machine.plan import Operation

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
        self.counters: list[int] = []  # of each processor, where it is: a descriptor of KVM's own counts
        self.times: dict[int, dict[str, Any]] = {}  # processor -> that; see minivm/inspect/times.py
        self.debugger: Halt | None = None  # set before the run: the vCPUs' threads pass through its gate
        self.wake: Callable[[], None] = lambda: None  # gets the thread in the foreground to look again
        self.made = Made()
        self.transports: list[Mmio] = []  # of the virtio devices, in the order of their slots
        self.registers: kvm.GuestMemory | None = None  # their pages
        self.hvc: Console | None = None
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
        for device in (self.uart, Rtc(), *ends, *off, FwCfg(config.memory, config.cpus)):
            self.bus.add(device)
        self._watchdog = self._add_watchdog() if config.watchdog else None
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
        if self.timed and kvm.check_extension(self.made.system, "KVM_CAP_BINARY_STATS_FD"):
            for vcpu in self.vcpus:  # now: in a jail no descriptor can be asked for any more
                fd = kvm.get_stats_fd(vcpu.fd)
                self.undo("close statistics", lambda fd=fd: kvm.close(fd))  # type: ignore[misc]
                self.counters.append(fd)

    def perform(self, operation: Operation) -> int:
        """Make one call of the plan. Returns its result."""
        call = function(operation.call)
        return self.recorder.perform(
            operation.call,
            operation.shown() if self.recorder.telling else (),
            lambda: call(self, **operation.args),
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

    def undo(self, call: str, function: Callable[[], None]) -> None:
        """Have something undone at close(), before what was done before it."""
        self._undo.append((call, function))

    @property
    def paths(self) -> list[Path | Loop | Remote | Watchdog]:
        """What serves the virtio devices' queues, each in a thread of its own; and the watchdog's count."""
        served: list[Path | Loop | Remote | Watchdog] = [path for transport in self.transports for path in transport.paths]
        return [*served, self._watchdog] if self._watchdog else served

    @property
    def connections(self) -> int:
        """How many descriptors the guest may come to hold, by connections to programs of the host."""
        return sum(getattr(transport.device, "most", 0) for transport in self.transports)

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

    def path_thread(self, path: Path | Loop | Remote | Watchdog) -> None:
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
        if self.hvc is None:
            return self.uart.push(data)
        return self.hvc.push(data)

    def hang_up(self) -> None:
        """The console's input has ended. (A virtio-console has no way to say so.)"""
        self.uart.hang_up()

    def drain(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Wait until what the guest has printed is written; `meanwhile` is called again and again."""
        for transport in self.transports:
            if hasattr(transport.device, "drain"):
                transport.device.drain(meanwhile)

    def unread(self) -> None:
        """Nobody reads the console's output any more."""
        self.stop(Outcome(128 + 13, "cannot write the console's output: nobody reads it"))  # SIGPIPE

    def _guest_exit(self, status: int) -> None:
        self.stop(Outcome(status, "", how="exit"))

    def _add_watchdog(self) -> Watchdog:
        from minivm.devices.watchdog import Watchdog

        watchdog = Watchdog(self._bitten, lambda: self.gate.closed or self.debugger is not None)
        self.bus.add(watchdog)
        return watchdog

    def _bitten(self, seconds: float) -> None:
        from minivm.machine.loop import CRASHED

        reason = f"the watchdog has run out: the guest did not reset it for {seconds:g} s"
        self.stop(Outcome(CRASHED, reason, how="watchdog"))

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
        if self.made.irqchip:
            self.irq_line(IRQ, level)

    def press_power(self) -> None:
        """Press the power button, from any thread: a kernel with ACPI tells its user space, which should switch off."""
        for level, why in ((1, "The power button was pressed: an ACPI event."), (0, "An edge is enough.")):
            self.irq_line(layout.EVENT_GSI, level, "power button", why)

    def irq_line(self, irq: int, level: int, side: str = "uart", why: str = "") -> None:
        """Raise or lower an interrupt line, from any thread."""

        def set_line() -> Done:
            kvm.irq_line(self.made.vm, irq, level)
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
