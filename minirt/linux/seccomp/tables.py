"""What the kernel calls things: architectures, and each call's number on each of them.

All of it comes from the kernel's headers by way of syscalls.tbl; see generate_tables.py.
A number means nothing without its architecture: 1 is write(2) on x86_64 and exit(2) on i386, and a
64-bit kernel takes both kinds of call from one process. Hence a filter checks the architecture first.
"""

from __future__ import annotations

import os
import sys

from minirt.errors import MinirtError

__all__ = ["X32_BIT", "Architecture", "SeccompError", "architecture", "names", "native", "numbers"]

X32_BIT = 0x40000000  # __X32_SYSCALL_BIT, asm/unistd.h: an x32 call on x86_64, which shares its AUDIT_ARCH

# What uname(2) calls the machine -> the OCI's name for its native convention. Both byte orders of a machine
# have one name on MIPS ("mips64"): there the interpreter's own byte order tells.
MACHINES = {
    "x86_64": "X86_64",
    "i386": "X86",
    "i486": "X86",
    "i586": "X86",
    "i686": "X86",
    "aarch64": "AARCH64",
    "armv6l": "ARM",
    "armv7l": "ARM",
    "armv8l": "ARM",
    "riscv64": "RISCV64",
    "loongarch64": "LOONGARCH64",
    "ppc64le": "PPC64LE",
    "ppc64": "PPC64",
    "ppc": "PPC",
    "s390x": "S390X",
    "s390": "S390",
    "mips": "MIPS" if sys.byteorder == "big" else "MIPSEL",
    "mips64": "MIPS64" if sys.byteorder == "big" else "MIPSEL64",
    "parisc": "PARISC",
    "parisc64": "PARISC64",
    "m68k": "M68K",
}


class SeccompError(MinirtError, ValueError):
    """A profile that cannot become a filter; the message is one line and names the place in the JSON."""


class Architecture:
    """One calling convention that a filter can tell from another."""

    __slots__ = ("audit", "bits", "column", "name", "order")

    def __init__(self, name: str, audit: str, column: str, bits: str, order: str) -> None:
        self.name = name  # the OCI's: SCMP_ARCH_X86_64
        self.audit = int(audit, 16)  # AUDIT_ARCH_*, u32, as in seccomp_data.arch
        self.column = column  # of syscalls.tbl
        self.bits = int(bits)  # of an argument: 32 or 64
        self.order = order  # "little" or "big"


_loaded: tuple[dict[str, Architecture], list[str], list[list[str]]] | None = None
_numbers: dict[str, dict[str, int]] = {}


def _table() -> tuple[dict[str, Architecture], list[str], list[list[str]]]:
    """Read syscalls.tbl once: the architectures, the names of the columns, the rows."""
    global _loaded
    if _loaded is None:
        path = os.path.join(os.path.dirname(__file__), "syscalls.tbl")
        with open(path, encoding="ascii") as file:
            head, _, body = file.read().partition("\n\n")
        lines = [line.split() for line in head.splitlines() if not line.startswith("#")]
        rows = [line.split() for line in body.splitlines()]
        _loaded = {line[0]: Architecture(*line) for line in lines}, rows[0], rows[1:]
    return _loaded


def architecture(name: str, where: str = "architecture") -> Architecture:
    """Return the architecture of an OCI name, "SCMP_ARCH_AARCH64" or short "aarch64".

    where: the place in the JSON that named it, for the message.
    Raises SeccompError for a name that runtime-spec config-linux.md#seccomp does not list.
    """
    known = _table()[0]
    found = known.get(name) or known.get("SCMP_ARCH_" + name.upper())
    if found is None:
        raise SeccompError(f"{where}: unknown architecture {name!r}")
    return found


def names() -> list[str]:
    """Return the OCI's names of all architectures that there is a table for."""
    return list(_table()[0])


def native(machine: str | None = None) -> Architecture:
    """Return the native architecture of a machine as uname(2) names it; by default of this one."""
    machine = machine or os.uname().machine
    if machine not in MACHINES:
        raise SeccompError(f"architecture: no table of system calls for the machine {machine!r}")
    return architecture("SCMP_ARCH_" + MACHINES[machine])


def numbers(column: str) -> dict[str, int]:
    """Return name -> number (u32, without X32_BIT) of one column of syscalls.tbl."""
    if column not in _numbers:
        _, columns, rows = _table()
        at = columns.index(column)
        _numbers[column] = {row[0]: int(row[at]) for row in rows if row[at] != "."}
    return _numbers[column]
