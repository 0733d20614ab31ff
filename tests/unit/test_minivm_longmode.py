"""Page tables and GDT, checked by a walker and a decoder that share no code with the builder."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivm.boot import layout, longmode
from minivm.boot.longmode import GIB1, KIB4, MIB2, NO_EXECUTE, USER, WRITABLE, PageTables

BASE = 0x10000


def walk(memory: bytes, address: int) -> tuple[int, int] | None:
    """Translate as a processor would. Returns (physical address, effective flags) or None."""
    table, writable, user = BASE, True, True
    for level in (4, 3, 2, 1):
        index = (address >> (12 + 9 * (level - 1))) % 512
        (entry,) = struct.unpack_from("<Q", memory, table - BASE + index * 8)
        if not entry & 1:
            return None
        writable, user = writable and bool(entry & 2), user and bool(entry & 4)
        frame = entry & 0x000FFFFFFFFFF000
        if level == 1 or (level < 4 and entry & 0x80):
            size = 1 << (12 + 9 * (level - 1))
            assert frame % size == 0, "a page must be aligned to its own size"
            flags = (WRITABLE if writable else 0) | (USER if user else 0) | entry & NO_EXECUTE
            return frame + address % size, flags
        table = frame
    raise AssertionError("unreachable")


pages = st.integers(1, 3000)
lower_half = st.integers(0, (1 << 47) // KIB4 - 3000).map(lambda n: n * KIB4)
virtuals = lower_half | lower_half.map(lambda a: a + 0xFFFF_8000_0000_0000) | st.sampled_from([0, MIB2, GIB1, 3 * GIB1])
physicals = st.integers(0, (1 << 40) // KIB4).map(lambda n: n * KIB4) | st.sampled_from([0, MIB2, 5 * GIB1])
flag_sets = st.sampled_from([0, WRITABLE, USER, WRITABLE | USER, NO_EXECUTE, WRITABLE | NO_EXECUTE])


@given(virtuals, physicals, pages, flag_sets, st.sampled_from([KIB4, MIB2, GIB1]), st.data())
def test_every_mapped_address_translates_to_what_was_asked(virtual, physical, count, flags, largest, data):
    tables = PageTables(BASE)
    tables.map(virtual, physical, count * KIB4, flags, largest)
    offset = data.draw(st.integers(0, count * KIB4 - 1))
    assert walk(tables.tobytes(), virtual + offset) == (physical + offset, flags)


@given(virtuals, physicals, pages, flag_sets)
def test_what_lies_just_outside_is_not_mapped(virtual, physical, count, flags):
    tables = PageTables(BASE)
    tables.map(virtual, physical, count * KIB4, flags)
    memory = tables.tobytes()
    assert walk(memory, virtual + count * KIB4) is None
    assert virtual == 0 or walk(memory, virtual - 1) is None


def test_a_large_aligned_range_uses_large_pages():
    tables = PageTables(BASE)
    tables.map(0, 0, 64 << 20)
    assert len(tables.tobytes()) == 3 * 4096  # PML4, PDPT, PD, and no table of 4 KiB pages


def test_a_user_page_opens_every_level_and_no_kernel_page():
    tables = PageTables(BASE)
    tables.map(0, 0, MIB2)
    tables.map(MIB2, MIB2, MIB2, WRITABLE | USER)
    memory = tables.tobytes()
    assert walk(memory, 0x1000) == (0x1000, WRITABLE)
    assert walk(memory, MIB2 + 5) == (MIB2 + 5, WRITABLE | USER)


@pytest.mark.parametrize(
    ("virtual", "physical", "size"),
    [(1, 0, KIB4), (0, 1, KIB4), (0, 0, 1), (0, 0, 0), (1 << 47, 0, KIB4), ((1 << 47) - KIB4, 0, 2 * KIB4), (0, 1 << 52, KIB4)],
)
def test_what_no_processor_could_map_is_refused(virtual, physical, size):
    with pytest.raises(ValueError, match="cannot map"):
        PageTables(BASE).map(virtual, physical, size)


def test_mapping_an_address_twice_is_refused():
    for first, second in [(KIB4, KIB4), (MIB2, KIB4), (KIB4, MIB2)]:
        tables = PageTables(BASE)
        tables.map(0, 0, first)
        with pytest.raises(ValueError, match="mapped already"):
            tables.map(0, 0, second)


@given(st.integers(1, 6 << 30).map(lambda n: n // KIB4 * KIB4 + KIB4), st.data())
def test_the_identity_map_covers_all_ram_and_nothing_is_moved(size, data):
    ranges = layout.ram_ranges(size)
    assert sum(length for _, length in ranges) == size
    memory = longmode.identity_map(BASE, ranges).tobytes()
    start, length = data.draw(st.sampled_from(ranges))
    address = start + data.draw(st.integers(0, length - 1))
    assert walk(memory, address) == (address, WRITABLE)


def decode(descriptor: int) -> dict[str, int]:
    """Read a descriptor by its two 32-bit halves, as the manual's figure 3-8 draws it."""
    low, high = descriptor & 0xFFFFFFFF, descriptor >> 32
    limit = low & 0xFFFF | high & 0xF0000
    g = high >> 23 & 1
    return {
        "base": low >> 16 | (high & 0xFF) << 16 | high & 0xFF000000,
        "limit": limit << 12 | 0xFFF if g else limit,
        "type": high >> 8 & 15,
        "s": high >> 12 & 1,
        "dpl": high >> 13 & 3,
        "present": high >> 15 & 1,
        "l": high >> 21 & 1,
        "db": high >> 22 & 1,
        "g": g,
    }


@given(
    st.sampled_from(range(8, 128, 8)),
    st.sampled_from([longmode.CODE, longmode.DATA]),
    st.integers(0, 3),
    st.integers(0, 1),
    st.integers(0, 0xFFFFFFFF),
    st.integers(0, 0xFFFFF),
)
def test_a_descriptor_says_the_same_as_the_segment_register(selector, kind, ring, long, base, limit):
    segment = longmode.Segment(selector, kind, ring=ring, long=long, base=base, limit=limit)
    register = segment.register()
    assert register.pop("selector") == selector | ring
    assert decode(segment.descriptor()) == register


def test_the_gdt_holds_what_the_selectors_name():
    table = longmode.gdt()
    entries = struct.unpack(f"<{len(table) // 8}Q", table)
    assert entries[0] == 0
    for segment in (longmode.KERNEL_CODE, longmode.KERNEL_DATA, longmode.USER_CODE, longmode.USER_DATA):
        assert decode(entries[segment.selector >> 3])["dpl"] == segment.selector & 3
    code = decode(entries[longmode.KERNEL_CODE.selector >> 3])
    assert (code["l"], code["db"], code["type"] & 8) == (1, 0, 8)
    assert entries[longmode.TSS_SELECTOR >> 3 :] == (0, 0)


def test_long_mode_is_whole():
    sregs = longmode.special_registers(BASE, 0x1000, 56)
    assert sregs["cr0"] & 0x80000001 == 0x80000001, "paging and protection"
    assert sregs["cr4"] & 0x20, "PAE"
    assert sregs["efer"] & 0x500 == 0x500, "enabled and active"
    assert sregs["gdt"] == {"base": 0x1000, "limit": 55}
