"""Symbols, kallsyms, page-table ranges, cores: without a machine."""

from __future__ import annotations

import io
from random import Random
from struct import pack

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given, settings
from hypothesis import strategies as st

from minivm.boot import longmode
from minivm.errors import MinivmError
from minivm.inspect.core import open_core
from minivm.inspect.kallsyms import kallsyms
from minivm.inspect.mappings import mappings
from minivm.inspect.paging import Modes, walk
from minivm.inspect.profile import Profile
from minivm.inspect.symbolfile import symbol_file
from minivm.inspect.symbols import Symbols, parse_map
from minivm.inspect.times import bar
from minivm.inspect.vmcoreinfo import vmcoreinfo

BASE = 0xFFFFFFFF81000000


def align(data: bytes, unit: int = 8) -> bytes:
    return data + bytes(-len(data) % unit)


def parts(symbols: list[tuple[int, str, str]], unit: int = 8) -> list[bytes]:
    """What scripts/kallsyms.c writes but for the addresses: number, names, markers, tokens, their index.

    Without its compression, but for one token of two letters.
    """
    tokens = [chr(n).encode() if 32 < n < 127 else b"in" if n == 200 else b"\x01" for n in range(256)]
    names, markers = b"", []
    for number, (_, kind, name) in enumerate(symbols):
        if number % 256 == 0:
            markers.append(len(names))
        text = (kind + name).encode().replace(b"in", bytes([200]))
        size = bytes([len(text)]) if len(text) < 128 else bytes([len(text) & 0x7F | 0x80, len(text) >> 7])
        names += size + text
    places, place = [], 0
    for token in tokens:
        places.append(place)
        place += len(token) + 1
    tables = [names, pack(f"<{len(markers)}I", *markers), b"".join(token + b"\0" for token in tokens), pack("<256H", *places)]
    return [pack("<Q", len(symbols)), *(align(table, unit) for table in tables)]


def tables(symbols: list[tuple[int, str, str]], order: str) -> bytes:
    """The same with the addresses, in the order of a kernel."""
    offsets = [address if kind == "A" else BASE - 1 - address for address, kind, _ in symbols]
    first = [align(pack(f"<{len(offsets)}i", *offsets)), align(pack("<Q", BASE))]
    rest = parts(symbols)
    seqs = align(Random(0).randbytes(3 * len(symbols)))
    whole = {"6.1": first + rest, "6.2": first + rest[:3] + [seqs] + rest[3:], "6.4": [*rest, *first, seqs]}[order]
    return b"".join([bytes(64), *whole, b"\x90" * 64])


def close_tables(symbols: list[tuple[int, str, str]]) -> bytes:
    """The form of 7.3, in an ELF file of one segment: aligned to 4 bytes, and an address is the distance from its own place."""
    number, *rest = parts(symbols, 4)
    body = number[:4] + b"".join(rest)
    where, begin = BASE + 0x200_0000, 64 + 56
    place = where + begin + len(body)
    body += b"".join(pack("<i", address - place - 4 * n) for n, (address, _, _) in enumerate(symbols)) + b"\x90" * 64
    size = begin + len(body)
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return header + pack("<IIQQQQQQ", 1, 5, 0, where, where, size, size, 4096) + body


def some(random: Random, count: int) -> list[tuple[int, str, str]]:
    """So many symbols with different names, of all lengths."""
    letters = "abcdefghijklmnopqrstuvwxyz_0123456789."
    names = {"".join(random.choices(letters, k=random.choice((3, 9, 20, 140)))) for _ in range(count)}
    return sorted((BASE + random.randrange(1 << 24), random.choice("TtDdBrW"), name) for name in names)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(260, 900), st.sampled_from(["6.1", "6.2", "6.4"]))
def test_what_a_kernel_carries_is_read_back_in_each_order(seed, count, order):
    symbols = some(Random(seed), count)
    symbols[3] = (0x1234, "A", "per_cpu")
    assert kallsyms(tables(symbols, order)) == sorted(symbols)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(260, 900))
def test_what_a_kernel_without_a_base_carries_is_read_back(seed, count):
    symbols = some(Random(seed), count)
    assert kallsyms(close_tables(symbols)) == sorted(symbols)
    with pytest.raises(ValueError, match="no kallsyms"):
        kallsyms(close_tables(symbols)[64 + 56 :])


@given(st.binary(max_size=600))
def test_garbage_has_no_symbols(data):
    for image in (data, b"".join(b"%d\0" % n for n in range(10)) + data, data + b"".join(b"%d\0" % n for n in range(10))):
        with pytest.raises(ValueError, match="no kallsyms"):
            kallsyms(image)


def test_an_address_is_named_by_the_function_before_it():
    symbols = Symbols(parse_map("ffffffff81000000 T _stext\nffffffff81000010 t helper\t[module]\nffffffff82000000 D jiffies\n"))
    assert symbols.name(0xFFFFFFFF81000013) == "helper+0x3" and symbols.name(0xFFFFFFFF81000000) == "_stext"
    assert symbols.name(0xFFFFFFFF82000000) == "0xffffffff82000000", "data is no function, and too far from one"
    assert symbols.address("jiffies") == 0xFFFFFFFF82000000 and symbols.function(5) is None


def test_symbols_follow_the_kernel_to_where_it_is():
    symbols = Symbols(parse_map("0000000000001000 A per_cpu\nffffffff81000000 T _stext\nffffffff81000010 t helper\n"))
    moved = symbols.with_code_at(0xFFFFFFFFA9E00000)
    assert moved.address("helper") == 0xFFFFFFFFA9E00010 and moved.address("per_cpu") == 0x1000
    assert moved.with_code_at(0xFFFFFFFF81000000).all == symbols.all, "and back"
    assert symbols.with_code_at(None) is symbols and Symbols([]).with_code_at(5).all == []


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(1, 60))
def test_the_file_for_gdb_is_an_elf_file_whose_symbols_are_those_given(seed, count):
    symbols = some(Random(seed), count)
    elf = ELFFile(io.BytesIO(symbol_file(sorted(symbols))))
    found = list(elf.get_section_by_name(".symtab").iter_symbols())[1:]
    assert {(symbol["st_value"], symbol.name) for symbol in found} == {(address, name) for address, _, name in symbols}
    for symbol in found:
        section = elf.get_section(symbol["st_shndx"])
        assert section["sh_addr"] <= symbol["st_value"] <= section["sh_addr"] + section["sh_size"]
    binds = [symbol["st_info"]["bind"] for symbol in found]
    assert binds == sorted(binds, reverse=True), "local symbols come first"


RANGES = st.lists(st.tuples(st.integers(0, 600), st.integers(0, 1 << 20), st.integers(1, 700)), min_size=1, max_size=5)


@settings(max_examples=60, deadline=None)
@given(RANGES, st.booleans())
def test_ranges_are_what_walks_find_page_by_page(ranges, high):
    tables = longmode.PageTables(0x1000)
    expected = {}
    for virtual, physical, pages in ranges:
        start = (virtual << 12) + (0xFFFF_8000_0000_0000 if high else 0)
        try:
            tables.map(start, physical << 12, pages << 12)
        except ValueError:
            continue  # mapped already: what was mapped before that stays
    data, modes = tables.tobytes(), Modes(1 << 31, 0x1000, 1 << 5, 0x500)

    def read(address: int, length: int) -> bytes:
        return data[address - 0x1000 : address - 0x1000 + length]

    found = {virtual + n: physical + n for virtual, physical, size in mappings(modes, read) for n in range(0, size, 4096)}
    base = 0xFFFF_8000_0000_0000 if high else 0
    for page in range(1400):
        physical = walk(base + (page << 12), modes, read).physical
        if physical is not None:
            expected[base + (page << 12)] = physical
    assert found == expected


def test_tables_that_point_to_themselves_come_to_an_end():
    table = pack("<512Q", *[0x1003] * 512)
    count = 0
    for _ in mappings(Modes(1 << 31, 0x1000, 1 << 5, 0x500), lambda address, length: table):
        count += 1
        if count > 1000:
            break
    assert count


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.booleans())
def test_a_damaged_dump_is_refused_in_one_line(tmp_path_factory, noise, elf):
    path = tmp_path_factory.getbasetemp() / "damaged.core"
    start = b"\x7fELF\x02\x01\x01" + bytes(9) + pack("<HHI", 4, 62, 1) if elf else b""
    path.write_bytes(start + noise)
    with pytest.raises(MinivmError) as error, open_core(str(path)):
        raise AssertionError("it was opened")
    assert "\n" not in str(error.value)


@given(st.floats(-1, 2), st.integers(1, 40))
def test_a_bar_is_as_wide_as_it_is_told_to_be(part, width):
    assert len(bar(part, width)) == width


def test_a_profile_of_nothing_is_a_table_of_nothing():
    assert Profile().table(None).splitlines()[-1].split() == ["0", "total"] and Profile().rows(None) == []


def note(text: bytes, name: bytes = b"VMCOREINFO\0", size: int | None = None) -> bytes:
    """An ELF note of type 0, at the beginning of a page of its own."""
    data = pack("<3I", len(name), len(text) if size is None else size, 0) + name.ljust(12, b"\0") + text
    return data + bytes(-len(data) % 4096)


def lines(release: str, loaded: int) -> bytes:
    return f"OSRELEASE={release}\nSYMBOL(_stext)=ffffffff81000000\nNUMBER(phys_base)={loaded}\nKERNELOFFSET=0\n".encode()


def found_in(memory: bytes, base: int = 0x40000) -> bytes:
    """What is found in memory whose page tables, at 4 KiB, map the kernel's code to 16 MiB."""
    tables = longmode.PageTables(0x1000)
    tables.map(BASE, 0x100_0000, 0x1000)
    ranges = [(0x1000, memoryview(tables.tobytes())), (base, memoryview(memory))]

    def read(address: int, length: int) -> memoryview:
        for start, view in ranges:
            if start <= address <= address + length <= start + len(view):
                return view[address - start : address - start + length]
        raise IndexError(address)

    return vmcoreinfo(ranges, Modes(1 << 31, 0x1000, 1 << 5, 0x500), read)


def test_what_a_kernel_says_of_itself_is_found_where_a_page_begins():
    assert found_in(bytes(4096) + note(lines("6.1", 0))) == lines("6.1", 0)
    assert found_in(bytes(96) + note(lines("6.1", 0)), base=0x40000 - 96) == lines("6.1", 0), "the guest's page, not the range's"
    assert not found_in(bytes(96) + note(lines("6.1", 0)) + bytes(4000))
    assert not found_in(bytes(8192))


def test_of_several_kernels_it_is_the_one_that_is_mapped():
    assert found_in(note(lines("6.0", -0x20_0000)) + note(lines("6.1", 0)) + note(lines("6.2", 4096))) == lines("6.1", 0)
    assert found_in(note(lines("6.0", 4096)) + note(lines("6.2", 8192))) == lines("6.0", 4096), "of two strangers the first"


@pytest.mark.parametrize("size", [4097 * 16, 1 << 31, (1 << 32) - 1])
def test_a_note_that_says_it_is_longer_than_memory_is_none(size):
    assert not found_in(note(lines("6.1", 0), size=size))


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 300))
def test_any_text_of_the_guests_is_found_as_it_is(text, cut):
    whole = (b"OSRELEASE=" + text)[:]
    memory = note(whole)
    assert found_in(memory) == whole
    assert found_in(memory[: 24 + cut]) in (b"", whole), "nothing behind the memory's end"
