"""Going through a guest instruction by instruction, and seeing what each has changed (KVM_GUESTDBG_SINGLESTEP)."""

from __future__ import annotations

from minivm import kvm
from minivm.inspect.paging import Modes, walk
from minivm.inspect.registers import CONTROL, GENERAL
from minivm.kvm import lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

__all__ = ["Step", "steps"]

LONGEST = 15  # bytes of an instruction
ANSWERED = (lib.KVM_EXIT_IO, lib.KVM_EXIT_MMIO)  # exits in the midst of an instruction
SEGMENTS = ("cs", "ds", "es", "fs", "gs", "ss", "tr")


class Step:
    """One instruction."""

    __slots__ = ("address", "bits", "changes", "code", "exits", "number")

    def __init__(self, number: int, address: int, code: bytes, bits: int) -> None:
        self.number = number  # from 1
        self.address = address  # linear
        self.code = code  # bytes there, more than the instruction's own
        self.bits = bits  # 16, 32 or 64
        self.exits: list[int] = []  # reasons of the exits that it made
        self.changes: dict[str, tuple[int, int]] = {}  # register -> (before, after)


def steps(
    vcpu: kvm.Vcpu, count: int, bytes_at: Callable[[int, int], memoryview], handlers: Mapping[int, Callable[[], None]],
    over: Callable[[], bool],
) -> Iterator[Step]:  # fmt: skip
    """Yield each of the first instructions, when it has been executed.

    Args:
        count: how many.
        bytes_at: gives guest-physical memory.
        handlers: what answers an exit, by its reason.
        over: says whether the machine has ended.

    Raises KvmError. Afterwards the guest runs freely again.
    """
    vcpu.answer_alone(False)
    state = _state(vcpu.fd)
    kvm.set_guest_debug(vcpu.fd, lib.KVM_GUESTDBG_ENABLE | lib.KVM_GUESTDBG_SINGLESTEP)
    try:
        for number in range(1, count + 1):
            step = Step(number, *_code(vcpu.fd, bytes_at))
            while not over() and (reason := vcpu.run()) != lib.KVM_EXIT_DEBUG:
                step.exits.append(reason)
                if reason not in handlers:
                    return
                handlers[reason]()
                if reason in ANSWERED:
                    vcpu.settle()  # this finishes the instruction; not every KVM stops behind it by itself
                    break
            before, state = state, _state(vcpu.fd)
            step.changes = {name: (before[name], value) for name, value in state.items() if value != before[name]}
            yield step
            if over():
                return
    finally:
        kvm.set_guest_debug(vcpu.fd, 0)
        vcpu.answer_alone(True)


def _state(vcpu: int) -> dict[str, int]:
    regs, sregs = kvm.get_regs(vcpu), kvm.get_sregs(vcpu)
    state = {name: int(getattr(regs, name)) for name in GENERAL} | {name: int(getattr(sregs, name)) for name in CONTROL}
    for name in SEGMENTS:
        state[name] = int(getattr(sregs, name).selector)
    return state | {"gdt": int(sregs.gdt.base), "idt": int(sregs.idt.base)}


def _code(vcpu: int, bytes_at: Callable[[int, int], memoryview]) -> tuple[int, bytes, int]:
    """Return the linear address of the next instruction, the bytes there, and the mode."""
    regs, sregs = kvm.get_regs(vcpu), kvm.get_sregs(vcpu)
    bits = 64 if sregs.cs.l else 32 if sregs.cs.db else 16
    address = int(regs.rip if bits == 64 else sregs.cs.base + regs.rip & 0xFFFF_FFFF)
    out = b""
    while len(out) < LONGEST:
        found = walk(address + len(out), Modes.of(sregs), bytes_at).physical
        if found is None:
            break
        try:
            out += bytes(bytes_at(found, min(LONGEST - len(out), 0x1000 - found % 0x1000)))
        except IndexError:
            break
    return address, out, bits


FLAGS = {0: "CF", 2: "PF", 4: "AF", 6: "ZF", 7: "SF", 8: "TF", 9: "IF", 10: "DF", 11: "OF"}


def as_dict(step: Step) -> dict[str, Any]:
    """Return a step as a JSON object, without its text, for which see disassembly.py."""
    changes = {name: {"before": before, "after": after} for name, (before, after) in step.changes.items()}
    return {"number": step.number, "address": step.address, "code": step.code.hex(), "bits": step.bits, "changes": changes}


def difference(step: Step) -> str:
    """Return what changed, RIP left out: `rsp 0 -> 0x10a000, flags +ZF -CF`."""
    words = []
    for name, (before, after) in step.changes.items():
        if name == "rflags":
            words.append("flags " + " ".join(f"{'+' if after >> bit & 1 else '-'}{flag}" for bit, flag in FLAGS.items()
                                             if (before ^ after) >> bit & 1))  # fmt: skip
        elif name != "rip":
            words.append(f"{name} {before:#x} -> {after:#x}")
    return ", ".join(words)
