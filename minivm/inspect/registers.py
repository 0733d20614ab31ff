"""A processor's registers, as JSON and for a person."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["as_dict", "as_text"]

GENERAL = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", *(f"r{n}" for n in range(8, 16)), "rip", "rflags")
CONTROL = ("cr0", "cr2", "cr3", "cr4", "efer")
SEGMENTS = ("cs", "ds", "es", "fs", "gs", "ss", "tr", "ldt")


def as_dict(regs: Any) -> dict[str, int]:
    """Return a struct kvm_regs by register name."""
    return {name: int(getattr(regs, name)) for name in GENERAL}


def as_text(regs: Any, sregs: Any) -> str:
    """Return struct kvm_regs and kvm_sregs as a few lines, as a crashed guest's user wants to see them."""
    cells = [f"{name:>7} {getattr(regs, name):016x}" for name in GENERAL]
    cells += [f"{name:>7} {getattr(sregs, name):016x}" for name in CONTROL]
    lines = ["".join(cells[i : i + 4]) for i in range(0, len(cells), 4)]
    for name in SEGMENTS:
        segment = getattr(sregs, name)
        lines.append(f"{name:>7} {segment.selector:04x} base {segment.base:016x} limit {segment.limit:08x}")
    return "\n".join(lines)
