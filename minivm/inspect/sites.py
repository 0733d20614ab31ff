"""The code at an exit: its bytes are read once for each instruction that exits, and go into the trace; and once for each page of
code the walk through the page tables that leads there."""

from __future__ import annotations

from minivm.inspect.paging import Modes, walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["Sites"]

BEFORE, BEHIND = 16, 48  # bytes
MOST = 4096  # instructions: a guest that makes its code anew is not to fill our memory


class Sites:
    """The instructions of one processor that have exited so far.

    Args:
        sregs: its special registers as at the last exit (struct kvm_sregs).
        bytes_at: gives guest-physical memory.
    """

    def __init__(self, sregs: Any, bytes_at: Callable[[int, int], memoryview]) -> None:
        self._sregs, self._bytes_at = sregs, bytes_at
        self._seen: set[int] = set()
        self._walked: set[int] = set()  # pages

    def describe(self, rip: int) -> dict[str, Any]:
        """Return where an exit came from, as data of its event; the first time with the code there."""
        data: dict[str, Any] = {"rip": rip}
        if rip not in self._seen and len(self._seen) < MOST:
            self._seen.add(rip)
            data |= self._code(rip)
        return data

    def _code(self, rip: int) -> dict[str, Any]:
        sregs = self._sregs
        bits = 64 if sregs.cs.l else 32 if sregs.cs.db else 16
        linear = rip if bits == 64 else int(sregs.cs.base) + rip
        modes = Modes.of(sregs)
        before = self._read(linear - BEFORE, BEFORE, modes) if linear % 0x1000 >= BEFORE else b""
        behind = self._read(linear, min(BEHIND, 0x1000 - linear % 0x1000), modes)
        found = {"code": (before + behind).hex(), "code_before": len(before), "code_bits": bits} if behind else {}
        return found | self._walk(linear, modes)

    def _walk(self, linear: int, modes: Modes) -> dict[str, Any]:
        """Return the walk to an address, the first time that its page is asked for; nothing where there is no paging."""
        if not modes.levels() or linear >> 12 in self._walked:
            return {}
        self._walked.add(linear >> 12)
        return {"walk": walk(linear, modes, self._bytes_at).as_dict()}

    def _read(self, linear: int, length: int, modes: Modes) -> bytes:
        """Return memory that lies in one page; nothing where it is not there."""
        physical = walk(linear, modes, self._bytes_at).physical
        try:
            return bytes(self._bytes_at(physical, length)) if physical is not None else b""
        except IndexError:
            return b""
