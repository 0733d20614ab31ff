"""The MP table: processors, IOAPIC and interrupt wiring, for kernels that know no ACPI.

Intel MultiProcessor Specification 1.4, chapter 4. A kernel finds the floating pointer, "_MP_", at a multiple of 16
between 0xf0000 and 0xfffff; it points to the configuration table, "PCMP". In both, all bytes add up to 0 modulo 256.
"""

from __future__ import annotations

from struct import pack

from minivm.boot import layout
from minivm.boot.start import Piece

__all__ = ["tables"]

PROCESSOR, BUS, IOAPIC, IO_INTERRUPT, LOCAL_INTERRUPT = range(5)  # entry types
ENABLED, BOOTS = 1, 2
VERSION = 0x14  # of the local APIC and the IOAPIC: integrated in the processor
INT, NMI, EXTINT = 0, 1, 3  # kinds of interrupt
TIMER, TIMER_PIN = 0, 2
ALL = 0xFF


def tables(processors: int) -> list[Piece]:
    """Return floating pointer and configuration table for so many processors, whose APIC ids count from 0."""
    at = layout.MP_TABLE + 16
    why = "For kernels that look for processors in the MP table rather than in ACPI's."
    return [
        Piece(layout.MP_TABLE, _floating_pointer(at), "MP floating pointer", why),
        Piece(at, _configuration(processors), "MP configuration table", why),
    ]


def _sum_to_zero(data: bytes, place: int) -> bytes:
    return data[:place] + bytes((-sum(data) & 0xFF,)) + data[place + 1 :]


def _floating_pointer(table: int) -> bytes:
    """Return the structure of section 4.1: version 1.4, no default configuration, PICs wired to the boot processor."""
    return _sum_to_zero(pack("<4sIBBBBI", b"_MP_", table, 1, 4, 0, 0, 0), 10)


def _configuration(processors: int) -> bytes:
    """Return the table of section 4.2 with its entries of 4.3."""
    ioapic = processors  # ids of APICs must differ
    entries = [
        pack("<BBBBIIQ", PROCESSOR, n, VERSION, ENABLED | (0 if n else BOOTS), 0x600, 0x201, 0) for n in range(processors)
    ]
    entries.append(pack("<BB6s", BUS, 0, b"ISA   "))
    entries.append(pack("<BBBBI", IOAPIC, ioapic, VERSION, ENABLED, 0xFEC00000))
    for irq in range(16):
        if irq != TIMER_PIN:  # the cascade of the two PICs: its input is the timer's
            pin = TIMER_PIN if irq == TIMER else irq
            entries.append(pack("<BBHBBBB", IO_INTERRUPT, INT, 0, 0, irq, ioapic, pin))
    entries.append(pack("<BBHBBBB", LOCAL_INTERRUPT, EXTINT, 0, 0, 0, ALL, 0))
    entries.append(pack("<BBHBBBB", LOCAL_INTERRUPT, NMI, 0, 0, 0, ALL, 1))
    body = b"".join(entries)
    head = pack("<4sHBB8s12sIHHIHBB", b"PCMP", 44 + len(body), 4, 0, b"MINIVM  ", b"MINIVM      ", 0, 0,
                len(entries), 0xFEE00000, 0, 0, 0)  # fmt: skip
    return _sum_to_zero(head + body, 7)
