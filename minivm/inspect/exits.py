"""Exits by their kernel names, told and counted.

An exit is the guest's way of asking the hypervisor for something, and each costs about as much as ten thousand
guest instructions: what a machine exits for, and how often, is most of what there is to know of its speed.
"""

from __future__ import annotations

import threading

from minivm.kvm import lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["WHY", "ExitCounts", "reason_name"]

NAMES = {getattr(lib, name): name for name in dir(lib) if name.startswith("KVM_EXIT_") and "_IO_" not in name}
IN = lib.KVM_EXIT_IO_IN

WHY = {
    "KVM_EXIT_IO": "The guest executed `in` or `out`: a device of ours must answer.",
    "KVM_EXIT_MMIO": "The guest touched an address where it has no memory: a device's register, or a mistake.",
    "KVM_EXIT_HLT": "The guest has nothing to do and no interrupt controller could wake it: the machine ends.",
    "KVM_EXIT_SHUTDOWN": "A fault while handling a fault while handling a fault: a PC would reset now.",
    "KVM_EXIT_INTR": "A signal for us; the guest has asked for nothing.",
    "KVM_EXIT_SYSTEM_EVENT": "The guest asked the kernel's part of the machine to end it.",
    "KVM_EXIT_INTERNAL_ERROR": "KVM met something that it cannot emulate.",
    "KVM_EXIT_FAIL_ENTRY": "The processor refused to enter the guest in this state.",
}


def reason_name(reason: int) -> str:
    """Return an exit reason's kernel name."""
    return NAMES.get(reason, f"exit reason {reason}")


class ExitCounts:
    """How often the guest exited, by reason and place.

    `io` and `mmio` are written by the vCPU's loop; the key of an I/O exit is port << 1 | direction.
    """

    def __init__(self, port_name: Callable[[int], str], address_name: Callable[[int], str]) -> None:
        self.io: dict[int, int] = {}
        self.mmio: dict[int, int] = {}  # by page of the address
        self.other: dict[int, int] = {}  # by reason
        self.in_c: dict[int, int] = {}  # keys as io: those that the loop in C answered
        self.acknowledged = self.prompted = 0  # interrupts and notifications of virtio devices, by the loop in C
        self._port_name, self._address_name = port_name, address_name
        self._lock = threading.Lock()

    def another(self) -> ExitCounts:
        """Return one for the same machine, with nothing counted yet."""
        return ExitCounts(self._port_name, self._address_name)

    def add(self, other: ExitCounts) -> None:
        """Add what another has counted; any thread may call this."""
        with self._lock:
            self.acknowledged += other.acknowledged
            self.prompted += other.prompted
            for name in ("io", "mmio", "other", "in_c"):
                ours = getattr(self, name)
                for key, count in getattr(other, name).items():
                    ours[key] = ours.get(key, 0) + count

    def rows(self) -> list[dict[str, Any]]:
        """Return one JSON object for each kind of exit, the most frequent first."""
        rows = []
        for key in self.io.keys() | self.in_c.keys():
            port, direction = key >> 1, "in" if key & 1 == IN else "out"
            in_c = self.in_c.get(key, 0)
            what = f"{direction} {port:#x}"
            device = self._port_name(port) or "nobody"
            rows.append(_row("KVM_EXIT_IO", what, device, self.io.get(key, 0) + in_c, in_c))
        for page, count in self.mmio.items():
            rows.append(_row("KVM_EXIT_MMIO", f"page {page:#x}", self._address_name(page) or "nobody", count, 0))
        for what, count in (("InterruptACK", self.acknowledged), ("QueueNotify", self.prompted)):
            if count:
                rows.append(_row("KVM_EXIT_MMIO", what, "virtio", count, count))
        rows += [_row(reason_name(reason), "", "", n, 0) for reason, n in self.other.items()]
        return sorted(rows, key=lambda row: -row["count"])

    def table(self) -> str:
        """Return the same as a table for a person."""
        rows = self.rows()
        lines = [f"{'exits':>9}  {'in C':>9}  reason"]
        for row in rows:
            what = f"  {row['what']}" if row["what"] else ""
            device = f"  ({row['device']})" if row["device"] else ""
            lines.append(f"{row['count']:>9}  {row['in_c'] or '-':>9}  {row['reason']}{what}{device}")
        total, in_c = (sum(row[column] for row in rows) for column in ("count", "in_c"))
        lines.append(f"{total:>9}  {in_c or '-':>9}  total")
        return "\n".join(lines)


def _row(reason: str, what: str, device: str, count: int, in_c: int) -> dict[str, Any]:
    return {"reason": reason, "what": what, "device": device, "count": count, "in_c": in_c}
