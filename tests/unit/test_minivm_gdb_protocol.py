"""gdb's remote protocol without a machine: packets, the registers' description, page tables, breakpoints in memory."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from random import Random
from struct import pack_into

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from minivm.boot import longmode
from minivm.errors import MinivmError, UsageError
from minivm.inspect.gdb.breakpoints import Breakpoints
from minivm.inspect.gdb.memory import GuestView
from minivm.inspect.gdb.packets import INTERRUPT, Reader, escape, frame, unescape
from minivm.inspect.gdb.registers import TABLE, target_xml
from minivm.inspect.gdb.server import listen
from minivm.inspect.gdb.trapflag import is_frame
from minivm.inspect.mappings import mappings
from minivm.inspect.paging import Modes, walk
from minivm.inspect.probe import Abilities

PAYLOADS = st.binary(max_size=60).map(escape)


@given(st.binary())
def test_binary_data_gets_through_escaped(data):
    assert unescape(escape(data)) == data
    assert not set(escape(data)) & set(b"#$*")


@given(st.lists(st.one_of(PAYLOADS, st.none()), max_size=8), st.integers(1, 7))
def test_packets_arrive_whole_however_they_are_cut(packets, size):
    stream = b"".join(b"\x03" if payload is None else frame(payload) for payload in packets)
    reader, got = Reader(), []
    for place in range(0, len(stream), size):
        got += reader.feed(stream[place : place + size])
    assert got == [INTERRUPT if payload is None else payload for payload in packets]
    assert reader.replies == b"+" * sum(payload is not None for payload in packets)


@given(PAYLOADS.filter(bool), st.integers(1, 255))
def test_a_damaged_packet_is_asked_for_again_and_the_next_is_taken(payload, change):
    bad = bytearray(frame(payload))
    bad[-1] = ord("0") if bad[-1] != ord("0") else ord("1")
    reader = Reader()
    assert reader.feed(bytes(bad)) == [] and reader.replies == b"-"
    assert reader.feed(frame(payload)) == [payload]


@given(st.lists(st.binary(max_size=50)))
def test_noise_never_raises_and_leaves_a_reader_that_works(pieces):
    reader = Reader()
    for piece in pieces:
        reader.feed(piece)
    reader.feed(b"#00")  # whatever had begun is over
    reader.feed(b"$#00")
    assert reader.feed(frame(b"qC")) == [b"qC"]


def test_a_packet_without_end_is_refused():
    with pytest.raises(ValueError, match="not gdb"):
        Reader().feed(b"$" + b"a" * 70000)


def test_without_acknowledgements_none_is_sent():
    reader = Reader()
    reader.quiet = True
    assert reader.feed(frame(b"g")) == [b"g"] and not reader.replies


def test_the_description_is_xml_whose_registers_are_those_of_the_table_in_order():
    root = ET.fromstring(target_xml().split("\n", 2)[2])
    found = [(reg.get("name"), int(reg.get("bitsize"))) for reg in root.iter("reg")]
    assert found == [(register.name, register.bits) for register in TABLE]
    core = [reg.get("name") for reg in root.find("feature[@name='org.gnu.gdb.i386.core']").iter("reg")]
    assert core[:8] == ["rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp"] and core[-1] == "fop" and len(core) == 40
    known = {"int32", "int64", "code_ptr", "data_ptr", "i387_ext"}
    defined = {node.get("id") for node in root.iter() if node.get("id")}
    assert {reg.get("type") for reg in root.iter("reg")} <= known | defined


@pytest.mark.parametrize("where", ["", "x", "1.2.3.4:", "70000", "-1", "host:port"])
def test_a_place_that_is_none_is_a_mistake_in_the_words(where):
    with pytest.raises(UsageError, match="--gdb"):
        listen(where)


def test_a_place_that_is_taken_is_said_in_one_line(tmp_path):
    with listen(str(tmp_path / "socket")), pytest.raises(MinivmError, match=r"cannot listen there: .*in use"):
        listen(str(tmp_path / "socket"))


# --- the walk ---

LONG = Modes(1 << 31 | 1, 0x1000, 1 << 5, 0x500)


def memory_of(base: int, data: bytes):
    def read(address: int, length: int) -> bytes:
        if not base <= address <= address + length <= base + len(data):
            raise IndexError(address)
        return data[address - base : address - base + length]

    return read


PAGES = st.sampled_from([longmode.KIB4, longmode.MIB2, longmode.GIB1])


@given(st.integers(0, 511), st.integers(0, 511), st.integers(0, 1 << 20), PAGES, st.integers(0, (1 << 30) - 1),
       st.sampled_from([0, longmode.WRITABLE, longmode.USER | longmode.WRITABLE, longmode.NO_EXECUTE]))  # fmt: skip
def test_the_walk_finds_what_the_builder_of_boot_tables_mapped(top, middle, frame_number, page, offset, flags):
    """The builder is another piece of code, by the same manual."""
    linear = top << 39 | middle << 30
    linear |= 0xFFFF << 48 if top >> 8 else 0
    physical = frame_number * page % (1 << 46)
    tables = longmode.PageTables(0x1000)
    tables.map(linear, physical, page, flags, largest=page)
    found = walk(linear + offset % page, LONG, memory_of(0x1000, tables.tobytes()))
    assert (found.physical, found.size) == (physical + offset % page, page)
    assert [entry.level for entry in found.entries] == ["PML4", "PDPT", "PD", "PT"][: {12: 4, 21: 3, 30: 2}[page.bit_length() - 1]]
    assert ("write" in found.rights, "ring 3" in found.rights, "no execution" in found.rights) == (
        bool(flags & longmode.WRITABLE), bool(flags & longmode.USER), bool(flags & longmode.NO_EXECUTE),
    )  # fmt: skip
    assert f"guest-physical {found.physical:#x}" in found.draw()


@settings(max_examples=300)
@given(st.integers(0, 1 << 32), st.integers(0, (1 << 64) - 1),
       st.sampled_from([LONG, Modes(1 << 31, 0x1000, 1 << 5 | 1 << 12, 0x500), Modes(1 << 31, 0x1000, 1 << 5, 0),
                        Modes(1 << 31, 0x1000, 0, 0), Modes(1 << 31, 0x2000, 1 << 4, 0), Modes(0, 0, 0, 0)]))  # fmt: skip
def test_a_walk_through_garbage_ends_with_an_address_or_a_named_fault(seed, linear, modes):
    def garbage(address: int, length: int) -> bytes:
        data = Random(seed ^ address).randbytes(length)
        if not data[0] >> 5:
            raise IndexError(address)
        return data

    found = walk(linear, modes, garbage)
    assert (found.physical is None) == bool(found.fault)
    assert len(found.entries) <= 5 and found.draw()
    assert found.as_dict()["fault"] == (found.fault or None)


def test_five_levels_large_pages_and_faults_are_drawn():
    memory = bytearray(0x6000)
    for place, value in ((0x0FF8, 0x2003), (0x1000 + 8 * 3, 0x3003), (0x2000, 0x4003), (0x3000 + 8, 0x200083 | 1 << 63)):
        pack_into("<Q", memory, place, value)
    modes = Modes(1 << 31, 0x1000, 1 << 5 | 1 << 12, 0x500)
    read = memory_of(0x1000, bytes(memory))
    linear = 0xFF << 56 | 511 << 48 | 3 << 39 | 1 << 21 | 0x1234
    drawing = walk(linear, modes, read).draw()
    assert "PML5 [511]" in drawing and "guest-physical 0x201234, in a page of 2 MiB" in drawing and "no execution" in drawing
    assert "PML4 entry is not present" in walk(0xFFFF << 48, modes, read).draw()
    assert "not canonical" in walk(1 << 60, modes, read).draw()
    assert "outside" in walk(0, Modes(1 << 31, 0x9000000, 1 << 5, 0x500), read).draw()


def test_thirty_two_bits_with_large_pages_and_without():
    memory = bytearray(0x3000)
    pack_into("<I", memory, 4, 0x2003)  # the second 4 MiB: by a table
    pack_into("<I", memory, 8, 0x800083)  # the third: one page
    pack_into("<I", memory, 0x1000 + 4 * 5, 0x123007)
    read, modes = memory_of(0x1000, bytes(memory)), Modes(1 << 31, 0x1000, 1 << 4, 0)
    assert walk(0x405678, modes, read).physical == 0x123678
    assert walk(0x812345, modes, read).physical == 0x812345
    assert walk(0x7000, modes, read).fault == "page fault: the PD entry is not present"


def test_a_large_page_of_thirty_two_bits_may_lie_above_four_gib():
    """PSE-36: bits 20 to 13 of the entry are the address's bits 39 to 32 (SDM 3A, table 4-4)."""
    memory = bytearray(0x1000)
    pack_into("<I", memory, 8, 0x800083 | 3 << 13)
    read, modes = memory_of(0x1000, bytes(memory)), Modes(1 << 31, 0x1000, 1 << 4, 0)
    assert walk(0x812345, modes, read).physical == 3 << 32 | 0x812345
    assert list(mappings(modes, read)) == [(0x800000, 3 << 32 | 0x800000, 4 << 20)]


def test_with_pae_the_four_entries_of_the_top_say_nothing_of_rights():
    """Their bits for writing and for ring 3 must be 0 (SDM 3A, table 4-8): what holds is below them."""
    memory = bytearray(0x3000)
    for place, value in ((8, 0x2001), (0x1000, 0x3007), (0x2000, 0x5007), (0x2008, 0x6001)):
        pack_into("<Q", memory, place, value)
    read, modes = memory_of(0x1000, bytes(memory)), Modes(1 << 31, 0x1000, 1 << 5, 0)
    assert walk(0x4000_0123, modes, read).rights == ["write", "ring 3"]
    assert walk(0x4000_1123, modes, read).rights[0].startswith("read only") and "ring 0" in walk(0x4000_1123, modes, read).rights[1]


def test_a_page_at_a_level_that_has_none_is_a_fault():
    """PS in a PML4 or PML5 entry is a reserved bit (SDM 3A, 4.5.4)."""
    memory = bytearray(0x3000)
    pack_into("<Q", memory, 0, 0x2083)
    pack_into("<Q", memory, 0x1000, 0x83)
    read = memory_of(0x1000, bytes(memory))
    found = walk(0x123, LONG, read)
    assert found.physical is None and "reserved" in found.fault and "PML4" in found.fault
    assert not list(mappings(LONG, read))


# --- breakpoints in memory ---


def test_watched_memory_is_compared_after_each_step_and_so_has_a_most():
    """A peer may ask for 2^62 bytes, with `monitor physical on` for addresses that are all there: each page would be one more."""
    view = GuestView(lambda address, length: memoryview(bytes(length)), [], lambda text: None)
    view.physical = True
    breakpoints = Breakpoints(view, Abilities(step=True, int3=False, execute=False, write=False))
    assert breakpoints.add(0, 2, 0xFFF, 0x1000)
    for size in (0x4001, 1 << 62, (1 << 64) - 1):
        with pytest.raises(ValueError, match="bytes are the most"):
            breakpoints.add(0, 2, 0, size)
    assert len(breakpoints.watches) == 1


class Patching(RuleBasedStateMachine):
    """However breakpoints come and go, gdb reads what the guest's program is, and at the end it is there."""

    def __init__(self):
        super().__init__()
        self.memory = bytearray(range(64))
        self.program = bytearray(self.memory)
        self.view = GuestView(lambda address, length: memoryview(self.memory)[address : address + length], [], lambda text: None)
        self.view.physical = True
        self.breakpoints = Breakpoints(self.view, Abilities(True, False, False, False))
        self.set: set[int] = set()

    @rule(address=st.integers(0, 61))
    def insert(self, address):
        if self.set & {address - 1, address + 1}:
            with pytest.raises(ValueError, match="too near"):
                self.breakpoints.add(0, 0, address, 1)
        else:
            assert self.breakpoints.add(0, 0, address, 1)
            self.set.add(address)

    @rule(address=st.integers(0, 61))
    def remove(self, address):
        self.breakpoints.remove(0, address, 1)
        self.set.discard(address)

    @rule(address=st.integers(0, 60), data=st.binary(min_size=1, max_size=3))
    def write(self, address, data):
        self.view.write(0, address, data)
        self.program[address : address + len(data)] = data

    @rule()
    def leave(self):
        self.breakpoints.clear()
        self.set.clear()
        assert self.memory == self.program

    @invariant()
    def gdb_sees_the_program(self):
        assert self.view.read(0, 0, 64) == self.program

    @invariant()
    def each_breakpoint_is_in_memory(self):
        for address in self.set:
            assert self.memory[address : address + 2] == b"\xeb\xfe"


TestPatching = Patching.TestCase


@pytest.mark.parametrize(("words", "frame"), [
    ((0x10117A, 8, 0x346, 0x1035C8, 0x10), True), ((0x401000, 0x33, 0x346, 0x7FFE0000, 0x2B), True),
    ((0x10117A, 8, 0x246, 0x1035C8, 0x10), False), ((0x10117A, 8, 0x1_0000_0346, 0x1035C8, 0x10), False),
    ((0x10117A, 8, 0x346, 0x1035C8, 0x2B), False), ((0x10117A, 0x12345, 0x346, 0x1035C8, 0x10), False),
    ((0, 0, 0x302, 0, 0), False),
])  # fmt: skip
def test_only_what_an_interrupt_pushes_during_a_step_is_taken_for_its_frame(words, frame):
    assert is_frame(*words) == frame
