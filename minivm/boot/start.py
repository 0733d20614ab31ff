"""What it takes to start a guest: pieces of memory, and registers. Every boot format produces one `Start`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    Registers = Mapping[str, "int | Mapping[str, int]"]
    Bytes = bytes | memoryview  # a file's contents, read or mapped

__all__ = ["Piece", "Start"]


class Piece:
    """Bytes to put into guest memory before the first instruction."""

    __slots__ = ("address", "data", "what", "why")

    def __init__(self, address: int, data: Bytes, what: str, why: str) -> None:
        self.address = address  # guest-physical, bytes
        self.data = data
        self.what = what  # a few words, for listings
        self.why = why  # one sentence for a learner


class Start:
    """A guest that is ready to be put into a machine.

    `sregs` and `regs` hold what differs from the state after reset, by the field names of struct kvm_sregs and
    struct kvm_regs; a segment or a table register is a mapping of its own fields.
    """

    __slots__ = ("irqchip", "pieces", "regs", "sregs", "why_regs", "why_sregs")

    def __init__(
        self,
        pieces: list[Piece],
        sregs: Registers,
        regs: Mapping[str, int],
        *,
        irqchip: bool,
        why_sregs: str,
        why_regs: str,
    ) -> None:
        self.pieces = pieces
        self.sregs = sregs
        self.regs = regs
        self.irqchip = irqchip  # whether such guests expect interrupt controllers and a timer
        self.why_sregs = why_sregs
        self.why_regs = why_regs
