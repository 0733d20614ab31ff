"""What firmware would have done: ACPI and MP tables, CPUID, and a PC's small devices."""

from __future__ import annotations

import calendar
import re
import shutil
import struct
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivm.boot import acpi, aml, layout, mptable
from minivm.devices.i8042 import Keyboard
from minivm.devices.power import Power
from minivm.devices.rtc import Rtc
from minivm.machine.bus import Bus, MemoryBus
from minivm.machine.cpuid import fit

SLOTS = layout.virtio_slots(3)


def tables(processors: int = 2, slots=SLOTS, watchdog: bool = False) -> dict[str, object]:
    pieces, rsdp = acpi.tables(processors, slots, watchdog)
    assert rsdp == layout.ACPI
    return {piece.what: piece for piece in pieces}


# --- ACPI ---


def test_every_table_adds_up_to_zero_and_is_found_from_the_one_before():
    found = tables()
    root = found["ACPI RSDP"].data
    assert sum(root[:20]) % 256 == sum(root) % 256 == 0 and root[:8] == b"RSD PTR "
    by_address = {piece.address: piece.data for piece in found.values()}
    xsdt = by_address[struct.unpack_from("<Q", root, 24)[0]]
    listed = [by_address[at] for at in struct.unpack_from("<2Q", xsdt, 36)]
    dsdt = by_address[struct.unpack_from("<Q", listed[0], 140)[0]]
    for table, signature in ((xsdt, b"XSDT"), (listed[0], b"FACP"), (listed[1], b"APIC"), (dsdt, b"DSDT")):
        assert table[:4] == signature and sum(table) % 256 == 0
        assert struct.unpack_from("<I", table, 4) == (len(table),)


@pytest.mark.skipif(shutil.which("iasl") is None, reason="acpica-tools is not installed")
@pytest.mark.parametrize(("processors", "count"), [(1, 0), (2, 3), (64, 17)])
def test_acpicas_compiler_reads_the_tables_and_writes_the_same_aml(tmp_path, processors, count):
    for what, piece in tables(processors, layout.virtio_slots(count), watchdog=True).items():
        if what == "ACPI RSDP":
            continue
        name = what.split()[1]
        (tmp_path / f"{name}.aml").write_bytes(piece.data)
        done = subprocess.run(["iasl", "-d", f"{name}.aml"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        text = (tmp_path / f"{name}.dsl").read_text()
        assert done.returncode == 0 and "rror" not in done.stderr + text and "nvalid" not in done.stderr + text
        done = subprocess.run(["iasl", "-p", "again", f"{name}.dsl"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert "0 Errors, 0 Warnings, 0 Remarks" in done.stdout, done.stdout
        if name != "DSDT":  # the compiler's name and revision in the header are its own
            again = (tmp_path / "again.aml").read_bytes()
            assert (again[10:28], again[36:]) == (piece.data[10:28], piece.data[36:])
    done = subprocess.run(["iasl", "-oa", "-p", "again", "DSDT.dsl"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert "0 Errors, 0 Warnings" in done.stdout
    assert (tmp_path / "again.aml").read_bytes()[36:] == (tmp_path / "DSDT.aml").read_bytes()[36:]


@pytest.mark.skipif(shutil.which("iasl") is None, reason="acpica-tools is not installed")
def test_acpicas_disassembler_finds_the_devices_where_they_are(tmp_path):
    (tmp_path / "DSDT.aml").write_bytes(tables()["ACPI DSDT"].data)
    subprocess.run(["iasl", "-d", "DSDT.aml"], cwd=tmp_path, capture_output=True, timeout=60, check=True)
    text = (tmp_path / "DSDT.dsl").read_text()
    assert text.count('"LNRO0005"') == 3 and text.count('"ACPI0007"') == 2 and 'EisaId ("PNP0501")' in text
    for address, gsi in SLOTS:
        assert f"0x{address:08X},         // Address Base" in text and f"0x{gsi:08X},\n" in text


@pytest.mark.skipif(shutil.which("iasl") is None, reason="acpica-tools is not installed")
def test_acpicas_disassembler_reads_the_watchdogs_actions(tmp_path):
    (tmp_path / "WDAT.aml").write_bytes(tables(watchdog=True)["ACPI WDAT"].data)
    subprocess.run(["iasl", "-d", "WDAT.aml"], cwd=tmp_path, capture_output=True, timeout=60, check=True)
    text = (tmp_path / "WDAT.dsl").read_text()
    entries = re.findall(r"Watchdog Action : (\w+).*?Address : (\w+)\n.*?Value : (\w+)\n.*?Register Mask : (\w+)\n", text, re.S)
    assert entries[0] == ("01", "0000000000000611", "00000001", "000000FF")
    assert entries[2] == ("06", "0000000000000614", "00000000", "0000FFFF")
    assert re.search(r"Watchdog Entry Count : 00000009", text) and len(entries) == 9, text


@given(st.integers(0, (1 << 64) - 1))
def test_an_aml_integer_says_its_value_in_the_least_bytes(value):
    code = aml.integer(value)
    got = code[0] if len(code) == 1 else int.from_bytes(code[1:], "little")
    assert got == value and len(code) in ({1} if value < 2 else {2, 3, 5, 9})


@given(st.binary(max_size=70000))
def test_an_aml_package_length_counts_itself_and_its_contents(data):
    code = aml.scope("X", data)
    more = code[1] >> 6
    length = code[1] & 0x3F if not more else code[1] & 0xF | int.from_bytes(code[2 : 2 + more], "little") << 4
    assert length == len(code) - 1 and code.endswith(data)


def test_tables_lie_in_the_reserved_megabyte_below_the_mp_table():
    pieces = acpi.tables(254, layout.virtio_slots(17))[0]
    assert all(piece.address >= layout.ACPI and piece.address + len(piece.data) <= layout.MP_TABLE for piece in pieces)
    layout.check_fit(pieces + mptable.tables(254), 1 << 21)


# --- MP table ---


@given(st.integers(1, 254))
def test_the_mp_table_lists_the_processors_and_adds_up(count):
    pointer, table = mptable.tables(count)
    assert pointer.address % 16 == 0 and pointer.data[:4] == b"_MP_" and sum(pointer.data) % 256 == 0
    assert struct.unpack_from("<I", pointer.data, 4) == (table.address,)
    data = table.data
    assert data[:4] == b"PCMP" and sum(data) % 256 == 0 and struct.unpack_from("<H", data, 4) == (len(data),)
    place, entries = 44, []
    while place < len(data):
        size = 20 if data[place] == 0 else 8
        entries.append(data[place : place + size])
        place += size
    assert struct.unpack_from("<H", data, 34) == (len(entries),)
    processors = [entry for entry in entries if entry[0] == 0]
    assert [entry[1] for entry in processors] == list(range(count))
    assert [entry[3] & 2 for entry in processors] == [2] + [0] * (count - 1), "one starts"
    ioapics = [entry[1] for entry in entries if entry[0] == 2]
    assert ioapics == [count], "its id is nobody else's"


# --- CPUID ---


class Leaf:
    def __init__(self, function, index=0, **registers):
        self.function, self.index = function, index
        self.eax = self.ebx = self.ecx = self.edx = 0
        for name, value in registers.items():
            setattr(self, name, value)


class Leaves:
    def __init__(self, *entries):
        self.entries, self.nent = entries, len(entries)


@given(st.integers(1, 254), st.data())
def test_cpuid_says_which_processor_of_how_many(count, data):
    number = data.draw(st.integers(0, count - 1))
    one, threads, cores, amd = Leaf(1, ebx=0xFFFFFFFF), Leaf(0xB, 0), Leaf(0xB, 1), Leaf(0x80000008, ecx=0xFFFFFFFF)
    leaves = Leaves(one, threads, cores, amd)
    for processor in range(number + 1):  # the same leaves are fitted to one after the other
        fit(leaves, processor, count, True)
    assert (one.ebx >> 24, one.ebx >> 16 & 0xFF) == (number, count)
    assert one.ecx >> 31 == 1 and one.ecx >> 24 & 1 == 1 and one.edx >> 28 & 1 == (count > 1)
    assert threads.edx == cores.edx == number and cores.ebx == count and number >> cores.eax == 0
    assert amd.ecx & 0xFF == count - 1 and 1 << (amd.ecx >> 12 & 0xF) >= count


# --- devices ---


@given(st.integers(0, calendar.timegm((2100, 1, 1, 0, 0, 0))))
def test_the_clock_tells_the_time_in_bcd(seconds):
    rtc = Rtc(lambda: seconds)

    def read(register):
        rtc.write(0, 1, register)
        value = rtc.read(1, 1)
        assert value & 0xF < 10 and value >> 4 < 10
        return value // 16 * 10 + value % 16

    told = (read(0x32) * 100 + read(9), read(8), read(7), read(4), read(2), read(0))
    assert calendar.timegm(told) == seconds
    assert read(6) == (calendar.weekday(*told[:3]) + 1) % 7 + 1, "Sunday is 1"


def test_the_clock_is_ready_and_keeps_bytes():
    rtc = Rtc()
    for register, value in ((0xA, 0x26), (0xB, 0x02), (0xD, 0x80)):
        rtc.write(0, 1, 0x80 | register)  # bit 7 masks the NMI
        assert rtc.read(1, 1) == value
    rtc.write(0, 1, 0x40)
    rtc.write(1, 1, 0x5A)
    assert (rtc.read(0, 1), rtc.read(1, 1)) == (0x40, 0x5A)


@given(st.integers(0, 255), st.integers(0, 255))
def test_only_fe_resets_and_only_s5_switches_off(command, control):
    done = []
    bus = Bus()
    bus.add(Keyboard(lambda: done.append("reset")))
    bus.add(Power(lambda: done.append("off")))
    bus.write(0x60, 1, command)
    bus.write(0x64, 1, command)
    bus.write(0x600, 1, control)
    bus.write(0x601, 1, control)
    assert done == ["reset"] * (command == 0xFE) + ["off"] * (control & 0x3C == 0x34)
    assert [bus.read(port, 1) for port in (0x60, 0x61, 0x64, 0x600)] == [0, 0xFF, 0, 0]


def test_registers_in_memory_belong_to_a_page():
    class Device:
        name = "thing"

        def __init__(self):
            self.seen = []

        def read(self, offset, size):
            return offset + size

        def write(self, offset, size, value):
            self.seen.append((offset, size, value))

    bus, device = MemoryBus(), Device()
    bus.add(0xD0000000, device)
    bus.write(0xD0000050, 4, 7)
    bus.write(0xD0001050, 4, 7)
    assert device.seen == [(0x50, 4, 7)]
    assert (bus.read(0xD0000010, 4), bus.read(0xD0001000, 2)) == (0x14, 0xFFFF)
    for address in (0xD0000000, 0xD0001800):
        with pytest.raises(ValueError, match="thing"):
            bus.add(address, device)
