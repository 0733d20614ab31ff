"""Where the guest is to stop: breakpoints in its code, and in the processor's debug registers; watched memory.

A software breakpoint replaces the beginning of an instruction. Which bytes, is found by probing (inspect/probe.py):

    int3   cc       one byte; where KVM passes int3 to us, it stops the guest at once
    jmp .  eb fe    elsewhere: the processor jumps in place, losing nothing, in any ring, interrupts or not; somebody looks
                    every few milliseconds whether one stands there (Halt.look)

`hlt`, which also is one byte, does not do: with interrupt controllers in the kernel it is no exit, and the next interrupt
goes on behind it. `out %al, (%dx)` is an exit, but for the ports that the kernel answers, which a guest's DX may name.
Simplified: where the instruction is one byte long and other code jumps to the one after it, that code meets the half of
`jmp .`; a real debugger on a real processor has int3.

Four debug registers hold addresses to stop at or to watch (SDM volume 3B, 17.2), where they work. Where they do not, watched
memory is compared after each single step, which is slow and right.
"""

from __future__ import annotations

from minivm.inspect.gdb.memory import WRAP
from minivm.kvm import lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minivm.inspect.gdb.memory import GuestView
    from minivm.inspect.probe import Abilities

__all__ = ["Breakpoints", "Watch"]

INT3, JUMP = b"\xcc", b"\xeb\xfe"
SOFT, HARD, WRITE, READ, ACCESS = range(5)  # the kinds in Z and z packets
FIELDS = {HARD: 0b00, WRITE: 0b01, READ: 0b11, ACCESS: 0b11}  # DR7's R/W: x86 has no "read alone"
WORDS = {WRITE: "watch", READ: "rwatch", ACCESS: "awatch"}
SIZES = {1: 0b00, 2: 0b01, 4: 0b11, 8: 0b10}  # DR7's LEN
MOST_WATCHED = 0x4000  # bytes that are compared after each step
ALWAYS = 1 << 8 | 1 << 10  # DR7: LE, and a bit that is always 1


class Watch:
    """Memory that is compared after each step."""

    __slots__ = ("address", "before", "pieces")

    def __init__(self, address: int, pieces: list[tuple[int, int]], before: bytes) -> None:
        self.address, self.pieces, self.before = address, pieces, before


class Breakpoints:
    """All of one machine's. Changed only while its processors stand still.

    Args:
        memory: where software breakpoints are put.
        abilities: what works on this KVM.
    """

    def __init__(self, memory: GuestView, abilities: Abilities) -> None:
        self.memory, self._can = memory, abilities
        self.code = INT3 if abilities.int3 else JUMP
        self.soft: dict[int, list[int]] = {}  # virtual address -> where each byte of the code lies, physical
        self.hard: dict[tuple[int, int, int], int] = {}  # (kind, address, size) -> number of the debug register
        self.watches: dict[tuple[int, int, int], Watch] = {}

    @property
    def must_look(self) -> bool:
        """Whether somebody must look where the processors stand: for `jmp .`, and for Halt._wake_up, which is needed where int3 is
        not to be had either."""
        return self.code is JUMP

    def describe(self) -> str:
        """Return a line for the log: how each kind is made here."""
        soft = "int3" if self.code is INT3 else "`jmp .`, looked for every few milliseconds, for int3 does not come to us"
        hard = "debug registers" if self._can.execute else "as software ones: debug registers do not stop the guest"
        watch = "debug registers" if self._can.write else "single steps, comparing (slow)" if self._can.step else "none"
        return f"software breakpoints: {soft}; hardware: {hard}; watchpoints: {watch}"

    def add(self, vcpu: int, kind: int, address: int, size: int) -> bool:
        """Set one; setting it again changes nothing.

        Args:
            vcpu: file descriptor of a processor whose page tables translate the address.
            kind: of the Z packet.

        Returns False where this KVM has no such kind. Raises IndexError (no memory there), ValueError (no register is free, or
        another breakpoint is too near).
        """
        if kind == SOFT or (kind == HARD and not self._can.execute):
            if address not in self.soft:
                places = [self.memory.translate(vcpu, address + n & WRAP)[0] for n in range(len(self.code))]
                if any(set(other) & set(places) and other != places for other in self.soft.values()):
                    raise ValueError(f"{address:#x} is too near to another breakpoint for two bytes each")
                self.memory.patch(places, self.code)
                self.soft[address] = places
            return True
        if kind == HARD or (kind in FIELDS and self._can.write):
            return self._register((kind, address, size))
        if kind == WRITE and self._can.step:
            if size > MOST_WATCHED:
                raise ValueError(f"{size} bytes to watch: {MOST_WATCHED} bytes are the most")
            pieces = list(self.memory.pieces(vcpu, address, size))
            self.watches[kind, address, size] = Watch(address, pieces, self.memory.snapshot(pieces))
            return True
        return False

    def _register(self, key: tuple[int, int, int]) -> bool:
        """Give a debug register to an address, whose size must be 1, 2, 4 or 8 and divide it."""
        kind, address, size = key
        if kind != HARD and (size not in SIZES or address % size):
            raise ValueError(f"a debug register watches 1, 2, 4 or 8 bytes that are aligned, not {size} at {address:#x}")
        if key not in self.hard:
            free = [number for number in range(4) if number not in self.hard.values()]
            if not free:
                raise ValueError("all four debug registers are in use")
            self.hard[key] = free[0]
        return True

    def remove(self, kind: int, address: int, size: int) -> None:
        """Take one away; none there is none to take away."""
        if kind == SOFT or (kind == HARD and not self._can.execute):
            places = self.soft.pop(address, [])
            if places not in self.soft.values():  # another address may mean the same memory, and still have its breakpoint
                self.memory.restore(places)
            return
        self.hard.pop((kind, address, size), None)
        self.watches.pop((kind, address, size), None)

    def clear(self) -> None:
        """Take all away."""
        for address in list(self.soft):
            self.remove(SOFT, address, 1)
        self.hard.clear()
        self.watches.clear()

    # --- what a processor is told, and what it says ---

    def control(self, stepping: bool, block_interrupts: bool) -> tuple[int, list[int]]:
        """Return what set_guest_debug wants.

        Args:
            stepping: gdb asked for one step of this processor.
            block_interrupts: KVM can keep interrupts away meanwhile, so that the step is not into a handler.
        """
        control = lib.KVM_GUESTDBG_ENABLE
        if self.code is INT3:
            control |= lib.KVM_GUESTDBG_USE_SW_BP
        if stepping or self.watches:
            control |= lib.KVM_GUESTDBG_SINGLESTEP
        if stepping and block_interrupts:
            control |= lib.KVM_GUESTDBG_BLOCKIRQ
        return (control | lib.KVM_GUESTDBG_USE_HW_BP, self._debug_registers()) if self.hard else (control, [])

    def _debug_registers(self) -> list[int]:
        registers = [0] * 8
        registers[7] = ALWAYS
        for (kind, address, size), number in self.hard.items():
            registers[number] = address
            length = 0 if kind == HARD else SIZES[size]
            registers[7] |= 1 << 2 * number | (FIELDS[kind] | length << 2) << 16 + 4 * number
        return registers

    def hit(self, dr6: int) -> str | None:
        """Return a stop reply's words for the debug register that DR6 names, None where it names none."""
        for (kind, address, _), number in self.hard.items():
            if dr6 >> number & 1:
                return "hwbreak:;" if kind == HARD else f"{WORDS[kind]}:{address:x};"
        return None

    def changed(self) -> str | None:
        """Return the same for watched memory that has changed since this was last asked, None where none has."""
        for watch in self._changes():
            return f"watch:{watch.address:x};"
        return None

    def _changes(self) -> Iterator[Watch]:
        for watch in self.watches.values():
            now = self.memory.snapshot(watch.pieces)
            if now != watch.before:
                watch.before = now
                yield watch
