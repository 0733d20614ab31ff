"""Where a processor's time goes: inside KVM_RUN, in the loop in C around it, in Python, and asleep.

    |<------------------------- wall ------------------------->|
    | Python |<------- vcpu_run, in C ------->| Python | ...
             | C |<--- KVM_RUN --->| C |  ...
                 | guest, KVM; asleep in `hlt` |

The kernel counts the time that a thread spends in guest mode (man 5 proc_pid_stat, guest_time) in ticks of its clock, and tells
of a guest that sleeps only that its thread used no processor: so "asleep" is wall time less processor time, and
holds waiting for a processor, too.
"""

from __future__ import annotations

import os
from time import perf_counter_ns, thread_time_ns

from minivm.kvm import read_stats

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minivm.kvm import Vcpu

__all__ = ["Clock", "table"]

GUEST_TIME = 42  # field of /proc/PID/stat, counted from 0


class Clock:
    """Measures one processor, from construction to stop(), both in its thread.

    Args:
        vcpu: which.
        counters: a descriptor of what KVM counts for it (kvm.get_stats_fd), where there is one.
    """

    def __init__(self, vcpu: Vcpu, counters: int = -1) -> None:
        self._vcpu, self._counters = vcpu, counters
        vcpu.measure()
        self._wall, self._used = perf_counter_ns(), thread_time_ns()

    def stop(self) -> dict[str, Any]:
        """Return seconds, by what they were spent in."""
        wall, used = perf_counter_ns() - self._wall, thread_time_ns() - self._used
        inside, here = self._vcpu.times
        parts = {"wall": wall, "kvm_run": inside, "c": here - inside, "python": max(0, wall - here), "asleep": max(0, wall - used)}
        row: dict[str, Any] = {name: value / 1e9 for name, value in parts.items()}
        row |= {"guest": _guest_seconds(), "entries": self._vcpu.entries}
        return row | ({"kvm": read_stats(self._counters)} if self._counters >= 0 else {})


def _guest_seconds() -> float:
    """Return the seconds that this thread has spent in guest mode, by the kernel's count; 0 where there is no /proc (a jail)."""
    try:
        with open("/proc/thread-self/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return int(fields[GUEST_TIME - 2]) / os.sysconf("SC_CLK_TCK")


WORDS = {
    "kvm_run": "in KVM_RUN: the guest, and KVM",
    "c": "in C, around it",
    "python": "in Python: devices",
    "asleep": "of these asleep, or waiting for a processor",
    "guest": "of these in guest mode, by the ticks of the host's clock",
}
# Of what KVM counts, what is said to a person. io_exits is counted by Intel's and AMD's part of KVM alone, and not by kvm-pvm.
SHOWN = ("exits", "io_exits", "mmio_exits", "halt_exits", "hypercalls", "irq_injections", "insn_emulation")


def table(times: dict[int, dict[str, Any]]) -> str:
    """Return a few lines a processor, with bars."""
    lines = []
    for number, row in sorted(times.items()):
        lines.append(f"vcpu{number}: {row['wall']:.3f} s, {row['entries']} entries into the guest")
        for name, words in WORDS.items():
            part = row[name] / row["wall"] if row["wall"] else 0.0
            lines.append(f"{row[name]:>10.3f} s {part:>6.1%}  {bar(part)}  {words}")
        counts = row.get("kvm", {})
        if counts:
            lines.append(f"   KVM counts {', '.join(f'{name} {counts[name]}' for name in SHOWN if counts.get(name))}")
    return "\n".join(lines)


def bar(part: float, width: int = 20) -> str:
    """Return a bar of so much of its width, in eighths of a character."""
    eighths = round(max(0.0, min(1.0, part)) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("\u2588" * full + (" \u258f\u258e\u258d\u258c\u258b\u258a\u2589"[rest] if rest else "")).ljust(width)
