"""Machine code as text, by capstone, which is imported here alone."""

from __future__ import annotations

from minivm.errors import MinivmError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["at_exit", "disassemble"]

LONGEST = 15  # bytes of an instruction (SDM volume 2A, 2.3.11)
IO = ("in", "out", "insb", "insd", "insw", "outsb", "outsd", "outsw")


def disassemble(code: bytes, address: int, bits: int, count: int = 0) -> list[tuple[int, int, str]]:
    """Return (address, bytes, text) of each instruction.

    Args:
        code: bytes; what is no instruction ends the list.
        address: of the first (uint64_t).
        bits: 16, 32 or 64: the mode.
        count: how many at most; 0 is no limit.

    Raises MinivmError where capstone is not installed.
    """
    try:
        import capstone
    except ImportError:
        raise MinivmError("disassembly needs capstone: pip install 'minirt[inspect]'") from None
    modes = {16: capstone.CS_MODE_16, 32: capstone.CS_MODE_32, 64: capstone.CS_MODE_64}
    engine = capstone.Cs(capstone.CS_ARCH_X86, modes[bits])
    found = engine.disasm_lite(code, address, count)
    return [(place, size, f"{mnemonic} {operands}".strip()) for place, size, mnemonic, operands in found]


def at_exit(code: bytes, before: int, rip: int, bits: int) -> list[dict[str, Any]]:
    """Return the instruction that exited and the two behind it.

    RIP stands before an instruction of I/O or, on some processors, behind it: it is the one of the two that is such.

    Args:
        code: bytes around `rip`, `before` of them in front of it.
    """
    here = disassemble(code[before : before + 3 * LONGEST], rip, bits, 3)
    first = rip
    if not here or here[0][2].partition(" ")[0].removeprefix("rep ") not in IO:
        for length in range(1, min(4, before) + 1):
            found = disassemble(code[before - length : before], rip - length, bits, 1)
            if found and found[0][1] == length and found[0][2].partition(" ")[0] in IO:
                here, first = found + here[:2], rip - length
                break
    return [{"address": address, "text": text, "exits": address == first} for address, _, text in here]
