"""Stopping and starting all processors together.

Each processor's thread passes through a gate before it enters the guest. Whoever wants a stop shuts the gate and gets the
threads out of KVM_RUN; when all are at the gate, the machine stands, and registers and memory are the debugger's.

        vCPU thread                               server's thread
        gate: wait while shut                     go(): open the gate
        KVM_RUN  <--- interrupt ----------------  pause(), or another processor's stop
        an exit: answer it, back to the gate
        KVM_EXIT_DEBUG: stop(): shut the gate     told by `wake` when the last one has arrived
"""

from __future__ import annotations

import threading

from minivm import kvm
from minivm.inspect.gdb.trapflag import clear
from minivm.kvm import lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from minivm.inspect.gdb.breakpoints import Breakpoints

__all__ = ["Halt", "Stop"]

ANSWERED = (lib.KVM_EXIT_IO, lib.KVM_EXIT_MMIO)  # exits in the midst of an instruction
HLT = b"\xf4"
BREAKPOINT = 3  # the exception's vector


class Stop:
    """Why the machine stands."""

    __slots__ = ("number", "signal", "words")

    def __init__(self, number: int, signal: int, words: str = "") -> None:
        self.number = number  # the processor that stopped first
        self.signal = signal  # as gdb numbers them: 5 SIGTRAP, 2 SIGINT
        self.words = words  # of the stop reply


class Halt:
    """The gate of one machine.

    Args:
        vcpus: the processors, which may come later, but before any thread does.
        count: how many there will be.
        breakpoints: of the machine.
        over: says whether the machine has an outcome.
        wake: called when the machine stands, by the thread that came last.
        waiting: whether it stands from the beginning.
    """

    def __init__(
        self,
        vcpus: Sequence[kvm.Vcpu],
        count: int,
        breakpoints: Breakpoints,
        over: Callable[[], bool],
        wake: Callable[[], None],
        waiting: bool,
        block_interrupts: bool,
    ) -> None:
        self._vcpus, self._count = vcpus, count
        self._breakpoints, self._over, self._wake = breakpoints, over, wake
        self._block = block_interrupts
        self._gate = threading.Condition()
        self._shut = waiting
        self._steps: set[int] = set()  # processors that are to make one step
        self._held: set[int] = set()  # those that are to stand while others go
        self._threads: dict[int, int] = {}
        self._parked: set[int] = set()
        self._control: dict[int, tuple[int, list[int]]] = {}  # what each has been told last
        self.why: Stop | None = Stop(0, 5) if waiting else None

    # --- the processors' threads ---

    def loop(self, number: int, handlers: Mapping[int, Callable[[], None]], unknown: Callable[[], None]) -> None:
        """Run a processor until the machine has an outcome: the body of its thread, in place of machine/loop.py's."""
        vcpu = self._vcpus[number]
        vcpu.answer_alone(False)
        with self._gate:
            self._threads[number] = threading.get_ident()
        try:
            while self._enter(number, vcpu):
                reason = vcpu.run()
                if reason == lib.KVM_EXIT_DEBUG:
                    self._debug(number, vcpu)
                    continue
                handlers.get(reason, unknown)()
                if reason in ANSWERED and (number in self._steps or self._breakpoints.watches):
                    vcpu.settle()  # this finishes the instruction; not every KVM stops behind it by itself
                    self._stepped(number, self._breakpoints.changed())
        finally:
            with self._gate:
                del self._threads[number]
                self._parked.discard(number)
                self._arrived()

    def _enter(self, number: int, vcpu: kvm.Vcpu) -> bool:
        """Wait at the gate. Returns False where the machine is over."""
        with self._gate:
            if self._stands_on_a_breakpoint(vcpu):
                self._stop(Stop(number, 5, "swbreak:;"))
            while not self._over() and (self._shut or number in self._held):
                if number not in self._parked:
                    vcpu.settle()  # from now on the registers are true
                    self._parked.add(number)
                    self._arrived()
                self._gate.wait()
            self._parked.discard(number)
            vcpu.kvm_run.immediate_exit = 0  # whoever wants us out says so again, after this
            control = self._breakpoints.control(number in self._steps, self._block)
        self._wake_up(vcpu.fd)
        if self._control.get(number) != control:
            self._tell(number, vcpu.fd, control)
        return not self._over()

    def _wake_up(self, vcpu: int) -> None:
        """Let a processor run that KVM believes to be in `hlt` though it is elsewhere.

        Seen on kvm-pvm after steps, in the handler of an interrupt that had ended a `hlt`: there interrupts are off, and nothing
        would ever wake it.
        """
        if kvm.get_mp_state(vcpu) == lib.KVM_MP_STATE_HALTED:
            try:
                asleep = self._breakpoints.memory.own().read(vcpu, place(vcpu) - 1, 1) == HLT
            except IndexError:
                return
            if not asleep:
                kvm.set_mp_state(vcpu, lib.KVM_MP_STATE_RUNNABLE)

    def _tell(self, number: int, vcpu: int, control: tuple[int, list[int]]) -> None:
        """Tell KVM what is to stop a processor; the guest is not to find what steps have left behind."""
        before = self._control.get(number, (0, []))[0]
        kvm.set_guest_debug(vcpu, *control)
        self._control[number] = control
        if before & ~control[0] & lib.KVM_GUESTDBG_SINGLESTEP:
            clear(vcpu, self._breakpoints.memory)

    def _stands_on_a_breakpoint(self, vcpu: kvm.Vcpu) -> bool:
        """Say whether the processor jumps in place at one; where int3 is used, its exit says so."""
        if self._shut or not self._breakpoints.must_look:
            return False
        return place(vcpu.fd) in self._breakpoints.soft

    def _debug(self, number: int, vcpu: kvm.Vcpu) -> None:
        """A step is done, or a debug register or int3 was met."""
        seen = vcpu.kvm_run.debug.arch
        if seen.exception == BREAKPOINT:
            if place(vcpu.fd) in self._breakpoints.soft:
                self.stop(Stop(number, 5, "swbreak:;"))
            else:
                self._control.pop(number, None)  # the guest's own: give it back, once
                kvm.set_guest_debug(vcpu.fd, lib.KVM_GUESTDBG_ENABLE | lib.KVM_GUESTDBG_INJECT_BP)
            return
        words = self._breakpoints.hit(seen.dr6) or self._breakpoints.changed()
        if not words and number not in self._steps and not self._breakpoints.watches:
            clear(vcpu.fd, self._breakpoints.memory)  # the end of a step long ago
        self._stepped(number, words)

    def _stepped(self, number: int, words: str | None) -> None:
        """An instruction is over: stop where something is to be told, or one step was all that was asked for."""
        if words:
            self.stop(Stop(number, 5, words))
        elif number in self._steps:
            self.stop(Stop(number, 5))

    def stop(self, why: Stop) -> None:
        """Shut the gate, and get everybody there; the first reason counts."""
        with self._gate:
            self._stop(why)

    def _stop(self, why: Stop) -> None:
        if not self._shut:
            self._shut, self.why = True, why
        self._kick()

    def _arrived(self) -> None:
        """Tell the server when the last one has come to the gate."""
        if self._shut and self.standing():
            self._wake()

    # --- the server's thread ---

    def standing(self) -> bool:
        """Say whether all processors are at the gate, and it is shut."""
        return self._shut and set(self._threads) <= self._parked and len(self._threads) == self._count

    def go(self, steps: set[int], held: set[int]) -> None:
        """Open the gate.

        Args:
            steps: processors that make one step, after which all stop.
            held: those that stand meanwhile.
        """
        with self._gate:
            self._steps, self._held, self._shut, self.why = steps, held, False, None
            self._parked &= held
            self._gate.notify_all()

    def look(self) -> None:
        """Get each processor to its gate once, where it is seen whether it stands on a breakpoint."""
        with self._gate:
            self._kick()

    def release(self) -> None:
        """Let everybody see that the machine is over; any thread may call this."""
        with self._gate:
            self._gate.notify_all()

    def _kick(self) -> None:
        for number, thread in self._threads.items():
            if number not in self._parked and thread != threading.get_ident():
                self._vcpus[number].interrupt(thread)


def place(vcpu: int) -> int:
    """Return the linear address of a processor's next instruction."""
    regs, code = kvm.get_regs(vcpu), kvm.get_sregs(vcpu).cs
    return int(regs.rip if code.l else code.base + regs.rip & 0xFFFF_FFFF)
