"""Kernel files, also hostile ones, and what the guest is told."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivm.boot import bootinfo, flat, formats, layout
from minivm.boot.elf import prepare, read_elf
from minivm.boot.start import Piece
from minivm.errors import BootError

MIB = 1 << 20
RAM = 16 * MIB


def make_elf(
    segments: list[tuple[int, bytes, int]], entry: int | None = None, machine: int = 62, kind: int = 2, bits: int = 2
) -> bytes:
    """Write an ELF file: (address, bytes, size in memory) a segment."""
    header = 64 + 56 * len(segments)
    entry = segments[0][0] if entry is None else entry
    out = b"\x7fELF" + bytes((bits, 1, 1)) + bytes(9)
    out += struct.pack("<HHIQQQIHHHHHH", kind, machine, 1, entry, 64, 0, 0, 64, 56, len(segments), 0, 0, 0)
    offset, body = header, b""
    for address, data, size in segments:
        out += struct.pack("<IIQQQQQQ", 1, 7, offset, address, address, len(data), size, 4096)
        body, offset = body + data, offset + len(data)
    return out + body


GOOD = make_elf([(MIB, b"\x90" * 100, 4096), (2 * MIB, b"data", 8)])


def test_segments_and_entry_are_read():
    elf = read_elf(GOOD)
    assert elf.entry == MIB
    assert elf.segments == [(MIB, b"\x90" * 100, 4096), (2 * MIB, b"data", 8)]


@given(st.integers(0, len(GOOD) - 1))
def test_a_truncated_file_is_refused_wherever_it_ends(length):
    with pytest.raises(BootError):
        read_elf(GOOD[:length])


@given(st.binary(max_size=400))
def test_rubbish_after_the_magic_never_gets_past_booterror(rubbish):
    for image in (b"\x7fELF" + rubbish, rubbish):
        try:
            formats.prepare(image, "elf64", RAM, "")
        except BootError:
            pass


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255), st.integers(0, 64 + 55), st.integers(0, 255))
def test_a_damaged_file_is_refused_or_fits_into_ram(place, value, place2, value2):
    image = bytearray(GOOD)
    image[place], image[place2] = value, value2
    try:
        start = formats.prepare(bytes(image), "elf64", RAM, "")
    except BootError:
        return
    assert all(piece.address >= 0 and piece.address + len(piece.data) <= RAM for piece in start.pieces)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (make_elf([(MIB, b"x", 1)], machine=183), "another machine: AArch64"),
        (make_elf([(MIB, b"x", 1)], machine=3, bits=1), "another machine: 32-bit x86"),
        (make_elf([(MIB, b"x", 1)], kind=3), "position-independent"),
        (make_elf([(MIB, b"x", 1)], kind=1), "relocatable"),
        (make_elf([(MIB, b"x", 1)], entry=5 * MIB), "no segment holds its entry point 0x500000"),
        (make_elf([(MIB, b"xx", 1)]), "impossible sizes"),
        (make_elf([(0x1000, b"x", 1)]), "link the kernel at 0x100000"),
        (make_elf([(MIB, b"x", 64 * MIB)]), "16384 KiB: see --memory"),
        (make_elf([(MIB, b"x" * 99, 99), (MIB + 50, b"x", 1)]), "would overwrite"),
        (GOOD[:-1], "truncated"),
        (b"", "not an ELF"),
    ],
)
def test_what_is_wrong_with_a_kernel_is_said(image, words):
    with pytest.raises(BootError, match=words):
        formats.prepare(image, "elf64", RAM, "")


def test_the_kernel_finds_boot_information_at_rdi():
    start = prepare(GOOD, RAM, "a=1")
    pieces = {piece.address: piece.data for piece in start.pieces}
    magic, cmdline, count, zero = struct.unpack_from("<8sQII", pieces[start.regs["rdi"]])
    assert (magic, zero) == (bootinfo.MAGIC, 0)
    assert pieces[cmdline] == b"a=1\0"
    ranges = [struct.unpack_from("<QQII", pieces[start.regs["rdi"]], 24 + 24 * i)[:3] for i in range(count)]
    assert ranges == layout.memory_map(RAM)


@given(st.integers(256, 1 << 21).map(lambda pages: pages * 4096))
def test_the_memory_map_names_exactly_the_ram_and_never_overlaps(size):
    told = layout.memory_map(size)
    ends = 0
    for address, length, _ in told:
        assert address >= ends and length > 0
        ends = address + length
    backed = sum(length for _, length, _ in told)
    assert backed == size
    assert all(address >= 1 << 32 or address + length <= 3 << 30 for address, length, _ in told)


def test_a_command_line_longer_than_its_page_is_refused():
    with pytest.raises(BootError, match="4095 is the most"):
        prepare(GOOD, RAM, "x" * 4096)


def test_pieces_that_overlap_or_leave_ram_are_refused():
    with pytest.raises(BootError, match="overwrite a"):
        layout.check_fit([Piece(0, b"1234", "a", ""), Piece(3, b"5", "b", "")], MIB)
    with pytest.raises(BootError, match="needs guest memory"):
        layout.check_fit([Piece(MIB - 1, b"12", "a", "")], MIB)


def test_formats_are_recognised_by_their_bytes():
    assert formats.detect(GOOD) == "elf64"
    assert formats.detect(bytes(510) + b"\x55\xaa") == "flat16"
    assert formats.detect(bytes(0x202) + b"HdrS") == "bzimage"
    with pytest.raises(BootError, match="--boot flat16"):
        formats.detect(b"\xeb\xfe")


def test_flat_code_is_entered_where_it_lies():
    start = flat.prepare16(b"\xf4", MIB, "")
    assert start.pieces[0].address == start.regs["rip"] == 0x7C00
    assert start.sregs["cs"] == {"base": 0, "selector": 0}


@pytest.mark.parametrize(("image", "cmdline"), [(b"", ""), (bytes(0x8401), ""), (b"\xf4", "words")])
def test_what_flat_code_cannot_be_is_refused(image, cmdline):
    with pytest.raises(BootError):
        flat.prepare16(image, MIB, cmdline)
