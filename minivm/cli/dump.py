"""`minivm run --dump`: the guest's memory and registers at the end, as an ELF core."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minivm.machine.machine import Machine

__all__ = ["dump"]


def dump(path: str, machine: Machine) -> None:
    """Write it; the processors have stopped. Raises MinivmError."""
    from minivm.inspect.core import write_core

    for vcpu in machine.vcpus:
        vcpu.settle()
    memory = [(base, pages.view(0, pages.size)) for base, pages in machine.memory]
    written = write_core(path, memory, [vcpu.fd for vcpu in machine.vcpus])
    print(f"minivm: {written >> 10} KiB of memory that is not zero in {path}", file=sys.stderr)
