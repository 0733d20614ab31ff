"""Memory and registers of a machine whose processors stand still, as an ELF core (minivm/inspect/core.py)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

    from minivm.machine.machine import Machine

__all__ = ["dump", "dump_running"]


def dump(machine: Machine, path: str, file: BinaryIO | None = None) -> int:
    """Write it, after the run. Returns the bytes that are not holes in the file. Raises MinivmError.

    Args:
        file: of that path, where it is open already.
    """
    from minivm.inspect.core import write_core

    for vcpu in machine.vcpus:
        vcpu.settle()
    memory = [(base, pages.view(0, pages.size)) for base, pages in machine.memory]
    return write_core(path, memory, [vcpu.fd for vcpu in machine.vcpus], file)


def dump_running(machine: Machine, path: str) -> int:
    """Write it while the machine runs, from a thread that is none of its processors': it is paused meanwhile."""
    paused = machine.gate.closed
    machine.gate.close()
    try:
        return dump(machine, path)
    finally:
        if not paused:
            machine.gate.open()
