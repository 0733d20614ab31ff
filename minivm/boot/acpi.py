"""The ACPI tables: how a machine with no firmware tells its kernel about processors, interrupts and devices.

    RSDP ──> XSDT ──> FADT ──> DSDT     which registers there are (few: "hardware-reduced"); the devices, in AML
                 ├──> MADT              local APICs (one a processor), IOAPIC, where the timer's interrupt goes
                 └──> WDAT              where there is a watchdog: how to use it (wdat.py)

ACPI Specification 6.5, chapter 5 "ACPI Software Programming Model"; each function cites its section. Every table but the
first begins with a header of 36 bytes, in which a checksum makes all its bytes add up to 0 modulo 256.

Hardware-reduced (4.1): no PM timer, no SCI, no legacy interrupt routing; a kernel then probes neither the 8259 nor the
8254. To switch off it writes 0x20 | type << 2 to the sleep control register (devices/power.py). Without an SCI events
come by an interrupt of their own, which the Generic Event Device names (5.6.9.1): its method _EVT, run at each such
interrupt, tells the power button's driver that the button was pressed.
"""

from __future__ import annotations

from struct import pack

from minivm.boot import aml, layout
from minivm.boot.start import Piece

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["S5", "SLEEP_CONTROL", "SLEEP_STATUS", "dsdt", "fadt", "madt", "tables"]

OEM, CREATOR = b"MINIVM", b"MVM "
SLEEP_CONTROL, SLEEP_STATUS = 0x600, 0x601  # I/O ports
RESET_PORT, RESET_VALUE = 0x64, 0xFE  # the keyboard controller's pulse on the reset line (devices/i8042.py)
S5 = 5  # the sleep type that means "off"
PRESSED = 0x80  # what the power button's driver is told: status changed (5.6.6, table 5.163)
UART_PORT, UART_GSI, RTC_PORT = 0x3F8, 4, 0x70
IOAPIC, LAPIC = 0xFEC00000, 0xFEE00000

# Flags of the FADT (table 5.10) and of the boot architecture (5.11)
WBINVD, RESET_REG_SUP, HW_REDUCED = 1 << 0, 1 << 10, 1 << 20
LEGACY_DEVICES, VGA_NOT_PRESENT, MSI_NOT_SUPPORTED = 1 << 0, 1 << 2, 1 << 3


def tables(processors: int, virtio: Sequence[tuple[int, int]], watchdog: bool = False) -> tuple[list[Piece], int]:
    """Return the tables as pieces, and the guest-physical address of the RSDP.

    Args:
        processors: how many; their APIC ids count from 0.
        virtio: (guest-physical address, interrupt) of each virtio-mmio device.
        watchdog: whether there is one.
    """
    pieces: list[Piece] = []

    def place(what: str, data: bytes) -> int:
        at = -(-(pieces[-1].address + len(pieces[-1].data)) // 16) * 16 if pieces else layout.ACPI + 64  # behind the RSDP
        pieces.append(Piece(at, data, f"ACPI {what}", WHY[what]))
        return at

    described = place("DSDT", dsdt(processors, virtio))
    listed = [place("FADT", fadt(described)), place("MADT", madt(processors))]
    if watchdog:
        from minivm.boot import wdat

        listed.append(place("WDAT", _table(b"WDAT", 1, wdat.body())))
    root = place("XSDT", _table(b"XSDT", 1, pack(f"<{len(listed)}Q", *listed)))
    pieces.append(Piece(layout.ACPI, rsdp(root), "ACPI RSDP", "Where the other tables are; the kernel is told."))
    return pieces, layout.ACPI


WHY = {
    "DSDT": "The devices that no bus lets a kernel find by itself: serial port, clock, virtio, power button.",
    "FADT": "Which ACPI registers there are: to switch off, and to reset.",
    "MADT": "The processors and the interrupt controllers.",
    "WDAT": "Which registers start, reset and stop the watchdog.",
    "XSDT": "The list of the tables.",
}


def rsdp(xsdt: int) -> bytes:
    """Return the root system description pointer (5.2.5.3): two checksums, of the first 20 bytes and of all 36."""
    first = pack("<8sB6sBI", b"RSD PTR ", 0, OEM, 2, 0)
    first = first[:8] + bytes((-sum(first) & 0xFF,)) + first[9:]
    whole = first + pack("<IQB3x", 36, xsdt, 0)
    return whole[:32] + bytes((-sum(whole) & 0xFF,)) + whole[33:]


def _table(signature: bytes, revision: int, body: bytes) -> bytes:
    """Return a table with its header (5.2.6)."""
    size = 36 + len(body)
    head = pack("<4sIBB6s8sI4sI", signature, size, revision, 0, OEM, b"MINIVM  ", 1, CREATOR, 1)
    whole = head + body
    return whole[:9] + bytes((-sum(whole) & 0xFF,)) + whole[10:]


def _port(port: int) -> bytes:
    """Return a generic address structure (5.2.3.2) for one byte of I/O space."""
    return pack("<BBBBQ", 1, 8, 0, 1, port)


def fadt(dsdt_address: int) -> bytes:
    """Return the fixed ACPI description table (5.2.9), 276 bytes; offsets are the specification's."""
    table = bytearray(276 - 36)

    def put(offset: int, data: bytes) -> None:
        table[offset - 36 : offset - 36 + len(data)] = data

    put(109, pack("<H", LEGACY_DEVICES | VGA_NOT_PRESENT | MSI_NOT_SUPPORTED))  # IAPC_BOOT_ARCH
    put(112, pack("<I", WBINVD | RESET_REG_SUP | HW_REDUCED))
    put(116, _port(RESET_PORT))
    put(128, bytes((RESET_VALUE,)))
    put(131, b"\5")  # minor version: 6.5
    put(140, pack("<Q", dsdt_address))  # X_DSDT
    put(244, _port(SLEEP_CONTROL))
    put(256, _port(SLEEP_STATUS))
    put(268, OEM + b"  ")  # hypervisor vendor identity
    return _table(b"FACP", 6, bytes(table))


def madt(processors: int) -> bytes:
    """Return the multiple APIC description table (5.2.12)."""
    body = pack("<II", LAPIC, 0)
    for number in range(processors):
        body += pack("<BBBBI", 0, 8, number, number, 1)  # local APIC: processor uid, APIC id, enabled
    body += pack("<BBBBII", 1, 12, 0, 0, IOAPIC, 0)  # IOAPIC 0, from global system interrupt 0 on
    body += pack("<BBBBIH", 2, 10, 0, 0, 2, 0)  # ISA's IRQ 0, the timer, is wired to input 2
    return _table(b"APIC", 5, body)


def dsdt(processors: int, virtio: Sequence[tuple[int, int]]) -> bytes:
    """Return the differentiated system description table (5.2.11.1): a table whose body is AML."""
    devices = [
        aml.device(
            "COM1",
            aml.name("_HID", aml.eisa_id("PNP0501")),  # a 16550 with FIFO
            aml.name("_UID", aml.integer(0)),
            aml.name("_CRS", aml.resources(aml.io_ports(UART_PORT, 8), aml.interrupt(UART_GSI))),
        ),
        aml.device(
            "RTC",
            aml.name("_HID", aml.eisa_id("PNP0B00")),
            aml.name("_CRS", aml.resources(aml.io_ports(RTC_PORT, 2))),
        ),
    ]
    for number in range(processors):
        devices.append(
            aml.device(
                f"C{number:03X}", aml.name("_HID", aml.string("ACPI0007")), aml.name("_UID", aml.integer(number))
            )
        )
    for number, (address, gsi) in enumerate(virtio):
        devices.append(
            aml.device(
                f"V{number:03X}",
                aml.name("_HID", aml.string("LNRO0005")),  # Linux's id for virtio-mmio
                aml.name("_UID", aml.integer(number)),
                aml.name("_CCA", aml.integer(1)),  # its reads and writes of memory are coherent with the caches
                aml.name("_CRS", aml.resources(aml.memory32(address, layout.VIRTIO_SIZE), aml.interrupt(gsi))),
            )
        )
    devices += [
        aml.device("PWRB", aml.name("_HID", aml.eisa_id("PNP0C0C"))),  # a control method power button (4.8.2.2.1.2)
        aml.device(
            "GED",
            aml.name("_HID", aml.string("ACPI0013")),
            aml.name("_UID", aml.integer(0)),
            aml.name("_CRS", aml.resources(aml.interrupt(layout.EVENT_GSI))),
            aml.method("_EVT", 1, aml.notify("\\_SB.PWRB", PRESSED)),  # there is one event: no need to ask which
        ),
    ]
    off = aml.name("\\_S5", aml.package(aml.integer(S5), aml.integer(0), aml.integer(0), aml.integer(0)))
    return _table(b"DSDT", 2, off + aml.scope("\\_SB", *devices))
