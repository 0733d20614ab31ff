"""Linux's ways to start: bzImage, the vmlinux in it, PVH; Multiboot; cpio archives. Also hostile files."""

from __future__ import annotations

import bz2
import inspect
import itertools
import lzma
import os
import shutil
import struct
import subprocess
import sys
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels import KERNEL, MIB, make_bzimage, make_pvh

from minivm.boot import bzimage, cpio, extract, formats, layout, multiboot
from minivm.errors import BootError

RAM = 64 * MIB


def pieces_of(start):
    return {piece.what: piece for piece in start.pieces}


# --- bzImage ---


def test_the_zero_page_tells_linux_what_boot_rst_says():
    image, initrd = make_bzimage(), b"initrd" * 1000
    start = formats.prepare(image, "auto", RAM, "a=1", initrd=initrd)
    pieces = pieces_of(start)
    page = pieces["zero page"].data
    assert len(page) == 4096 and page[0x1F1:0x210] == image[0x1F1:0x210]
    assert page[0x210] == 0xFF, "type_of_loader"
    address, size = struct.unpack_from("<II", page, 0x218)
    assert (address, size) == (pieces["initrd"].address, 6000) and address % 4096 == 0
    assert address + size <= RAM and address >= 24 * MIB, "behind what init_size reserves"
    (cmdline,) = struct.unpack_from("<I", page, 0x228)
    assert pieces["command line"].address == cmdline and pieces["command line"].data == b"a=1\0"
    told = [struct.unpack_from("<QQI", page, 0x2D0 + 20 * n) for n in range(page[0x1E8])]
    assert told == layout.memory_map(RAM)
    assert start.regs["rip"] == 16 * MIB + 0x200 and start.regs["rsi"] == pieces["zero page"].address
    assert start.sregs["cs"]["selector"] == 0x10 and start.sregs["ds"]["selector"] == 0x18


def test_each_start_of_linux_has_random_bytes_of_its_own():
    """boot.rst, setup_data; struct setup_data and SETUP_RNG_SEED of the kernel's asm/bootparam.h."""
    seeds = set()
    for _ in range(3):
        pieces = pieces_of(formats.prepare(make_bzimage(), "auto", RAM, ""))
        (place,) = struct.unpack_from("<Q", pieces["zero page"].data, 0x250)
        found = next(piece for piece in pieces.values() if piece.address == place)
        following, kind, length = struct.unpack_from("<QII", found.data)
        assert (following, kind, length, len(found.data)) == (0, 9, 32, 48)
        seeds.add(found.data[16:])
    assert len(seeds) == 3


def test_the_release_is_the_name_of_its_modules_directory():
    image = bytearray(make_bzimage(kernel_version=0x100))
    image[0x300 : 0x300 + 30] = b"6.1.0-9-amd64 (debian) #1 SMP\0"
    assert bzimage.kernel_release(bytes(image)) == "6.1.0-9-amd64"


@pytest.mark.parametrize(
    ("where", "text"),
    [(0, b""), (0x100, b"../../../etc #1\0"), (0x100, b"/etc\0"), (0x100, b"..\0"), (0x100, b"a\xff\0"), (0xFFFF, b"")],
)
def test_a_kernel_that_does_not_say_its_release_or_lies_has_none(where, text):
    """It becomes part of a path; 0 says that there is none (boot.rst, kernel_version)."""
    image = bytearray(make_bzimage(kernel_version=where))
    image[0x300 : 0x300 + len(text)] = text
    assert bzimage.kernel_release(bytes(image)) == ""


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (make_bzimage(version=0x20A), "protocol 2.10"),
        (make_bzimage(xloadflags=0), "32-bit"),
        (make_bzimage(setup_sects=64), "should begin at byte 33280"),
        (make_bzimage(init_size=128 * MIB), "see --memory"),
        (make_bzimage(pref_address=0x1000), "Linux is linked at 0x1000"),
        (make_bzimage()[:0x210], "within its setup header"),
    ],
)
def test_what_is_wrong_with_a_bzimage_is_said(image, words):
    with pytest.raises(BootError, match=words):
        formats.prepare(image, "bzimage", RAM, "")


def test_what_does_not_fit_is_refused():
    with pytest.raises(BootError, match="2047 is the most"):
        formats.prepare(make_bzimage(), "auto", RAM, "x" * 2048)
    with pytest.raises(BootError, match="the initrd has 40961 KiB and 40960 KiB are free"):
        formats.prepare(make_bzimage(), "auto", RAM, "", initrd=bytes(40 * MIB + 4))
    with pytest.raises(BootError, match="takes no initrd"):
        formats.prepare(bytes(510) + b"\x55\xaa", "auto", RAM, "", initrd=b"x")


@given(st.integers(0, 1200), st.binary(min_size=1, max_size=8), st.integers(0, 1023))
def test_a_damaged_bzimage_is_refused_or_fits_into_ram(place, rubbish, length):
    whole = make_bzimage(zlib.compress(b"x"))
    damaged = whole[:place] + rubbish + whole[place + len(rubbish) :]
    for image in (damaged, whole[:length]):
        try:
            start = formats.prepare(image, "bzimage", RAM, "word")
        except BootError:
            continue
        assert all(piece.address >= 0 and piece.address + len(piece.data) <= RAM for piece in start.pieces)


# --- the vmlinux inside ---


def lz4_legacy(data: bytes) -> bytes:
    """By the program of the format's authors, with the size behind it as the kernel's build appends it."""
    block = subprocess.run(["lz4", "-l", "-c"], input=data, capture_output=True, check=True, timeout=60).stdout
    return block + struct.pack("<I", len(data))


def zstd(data: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor().compress(data) + struct.pack("<I", len(data))


COMPRESS = {
    "gzip": lambda data: zlib.compress(data, wbits=31),
    "xz": lambda data: lzma.compress(data, check=lzma.CHECK_CRC32) + struct.pack("<I", len(data)),
    "bzip2": lambda data: bz2.compress(data) + struct.pack("<I", len(data)),
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE) + struct.pack("<I", len(data)),
    "zstd": zstd,
    "lz4": lz4_legacy,
}
TWO_BLOCKS = bytes(9 * MIB) + KERNEL  # the legacy format of LZ4 has blocks of 8 MiB


@pytest.mark.parametrize("name", COMPRESS)
def test_the_vmlinux_comes_out_as_it_went_in(name):
    if name == "lz4" and not shutil.which("lz4"):
        pytest.skip("the program lz4 is not installed")
    if name in ("lz4", "zstd"):
        pytest.importorskip({"lz4": "lz4.block", "zstd": "zstandard"}[name])
    packed = COMPRESS[name](TWO_BLOCKS)
    assert extract.compression_of(packed) == name
    image = make_bzimage(packed)
    assert extract.extract(memoryview(image)) == TWO_BLOCKS
    with pytest.raises(BootError, match=r"damaged|truncated"):
        extract.extract(make_bzimage(packed[: len(packed) // 2]))


SMALL = {name: pack(KERNEL) for name, pack in COMPRESS.items() if name not in ("lz4", "zstd")}


@given(st.sampled_from(sorted(SMALL)), st.integers(0, 600), st.binary(min_size=1, max_size=6))
@settings(deadline=None)
def test_a_damaged_vmlinux_is_refused_or_comes_out(name, place, rubbish):
    _check_damaged(SMALL[name], place, rubbish)


@pytest.mark.parametrize("name", ["lz4", "zstd"])
def test_one_damaged_that_a_library_unpacks_too(name):
    pytest.importorskip({"lz4": "lz4.block", "zstd": "zstandard"}[name])
    if name == "lz4" and not shutil.which("lz4"):
        pytest.skip("the program lz4 is not installed")
    packed = COMPRESS[name](KERNEL)

    @given(st.integers(0, len(packed)), st.binary(min_size=1, max_size=6))
    @settings(deadline=None)
    def check(place, rubbish):
        _check_damaged(packed, place, rubbish)

    check()


def _check_damaged(packed: bytes, place: int, rubbish: bytes) -> None:
    for damaged in (packed[:place] + rubbish + packed[place + len(rubbish) :], packed[:place]):
        try:
            assert len(extract.extract(make_bzimage(damaged))) <= extract.MAXIMUM
        except BootError:
            pass


@given(st.lists(st.integers(0, 0xFFFF_FFFF), min_size=2, max_size=2))
def test_wherever_a_payload_is_said_to_lie_nothing_else_is_read(place):
    try:
        extract.extract(make_bzimage(SMALL["gzip"], payload_offset=place[0], payload_length=place[1]))
    except BootError:
        pass


def test_a_stream_is_unpacked_without_room_for_the_largest(tmp_path):
    """A module has some KiB: whoever may have little address space shall be able to read it."""
    zstandard = pytest.importorskip("zstandard")
    (tmp_path / "packed").write_bytes(zstandard.ZstdCompressor().compress(KERNEL))
    code = "import resource, sys; from minivm.boot import extract; import zstandard"
    code += "; resource.setrlimit(resource.RLIMIT_AS, (700 << 20, 700 << 20)); data = open('packed', 'rb').read()"
    code += "; sys.stdout.buffer.write(extract.UNPACK_STREAM['zstd'](data))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, timeout=60)
    assert (done.stdout, done.stderr) == (KERNEL, b"")


def test_a_bzimage_asked_for_by_pvh_is_entered_at_its_vmlinux():
    start = formats.prepare(make_bzimage(COMPRESS["xz"](make_pvh())), "pvh", RAM, "")
    assert start.regs["rip"] == MIB + 4


def test_a_compression_that_nobody_knows_is_named_by_its_bytes():
    with pytest.raises(BootError, match="de ad be ef"):
        extract.extract(make_bzimage(bytes.fromhex("deadbeef0000")))


# --- PVH ---


def test_hvm_start_info_tells_where_everything_is():
    start = formats.prepare(make_pvh(), "auto", RAM, "b=2", initrd=b"initrd")
    pieces = pieces_of(start)
    info = pieces["hvm_start_info"]
    magic, version, flags, count, modlist, cmdline, rsdp, memmap, entries, _ = struct.unpack_from("<IIIIQQQQII", info.data)
    assert (magic, version, flags, count) == (0x336EC578, 1, 0, 1)
    assert rsdp == pieces["ACPI RSDP"].address
    assert pieces["command line"].address == cmdline
    assert struct.unpack_from("<QQ", info.data, modlist - info.address) == (pieces["initrd"].address, 6)
    told = [struct.unpack_from("<QQI", info.data, memmap - info.address + 24 * n) for n in range(entries)]
    assert told == layout.memory_map(RAM)
    assert (start.regs["rip"], start.regs["rbx"]) == (MIB + 4, info.address)
    assert start.sregs["cr0"] & 1 << 31 == 0 and start.sregs["cs"]["db"] == 1


def test_only_xens_note_counts():
    assert formats.detect(make_pvh()) == "pvh"
    assert formats.detect(make_pvh(name=b"Yen\0")) == "elf64"
    with pytest.raises(BootError, match="CONFIG_PVH"):
        formats.prepare(make_pvh(name=b"Yen\0"), "pvh", RAM, "")
    with pytest.raises(BootError, match="no segment holds its PVH entry"):
        formats.prepare(make_pvh(entry=0x100), "pvh", RAM, "")


@given(st.binary(max_size=60))
def test_rubbish_notes_never_get_past_booterror(note):
    try:
        assert formats.detect(make_pvh(note=note)) in ("elf64", "pvh")
    except BootError as error:
        assert "note" in str(error)


# --- Multiboot ---


def make_multiboot(flags: int = 3, addresses: tuple[int, ...] = (), skip: int = 64) -> bytes:
    header = struct.pack("<III", 0x1BADB002, flags, -(0x1BADB002 + flags) & 0xFFFF_FFFF)
    return bytes(skip) + header + struct.pack(f"<{len(addresses)}I", *addresses) + KERNEL


def test_a_multiboot_kernel_finds_memory_modules_and_words():
    image = make_multiboot(1 << 16, (MIB + 64, MIB, 0, 2 * MIB, MIB + 96))
    start = formats.prepare(image, "auto", RAM, "c=3", modules=[("one 1", b"first"), ("two", b"second")])
    pieces = pieces_of(start)
    info = pieces["Multiboot information"]
    assert pieces["kernel"].address == MIB and pieces["kernel"].data == image
    assert start.regs == {"rip": MIB + 96, "rflags": 2, "rax": 0x2BADB002, "rbx": info.address}
    flags, lower, upper = struct.unpack_from("<III", info.data)
    assert (flags, lower, upper) == (0x24D, 640, RAM // 1024 - 1024)
    cmdline, count, mods = struct.unpack_from("<III", info.data, 16)
    assert pieces["command line"].address == cmdline and count == 2
    for number, (string, contents) in enumerate([(b"one 1", b"first"), (b"two", b"second")]):
        begin, end, text = struct.unpack_from("<III", info.data, mods - info.address + 16 * number)
        module = pieces[f"module {string.decode()!r}"]
        assert (begin, end - begin, module.data) == (module.address, len(contents), contents) and begin % 4096 == 0
        assert info.data[text - info.address :].startswith(string + b"\0")
    length, place = struct.unpack_from("<II", info.data, 44)
    told = [struct.unpack_from("<IQQI", info.data, place - info.address + at) for at in range(0, length, 24)]
    assert told == [(20, *entry) for entry in layout.memory_map(RAM)]
    (name,) = struct.unpack_from("<I", info.data, 64)
    assert info.data[name - info.address :].startswith(b"minivm\0")


def test_a_32_bit_elf_is_loaded_where_it_is_linked():
    head = b"\x7fELF\x01\x01\x01".ljust(16, b"\0")
    head += struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, MIB, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    head += struct.pack("<IIIIIIII", 1, 84, MIB, MIB, 100, 4096, 7, 4096)
    image = head + make_multiboot(skip=0).ljust(100, b"\0")[:100]
    start = formats.prepare(image, "auto", RAM, "")
    assert start.regs["rip"] == MIB and start.pieces[0].data == image[84:184]


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (make_multiboot(1 << 2), "video"),
        (make_multiboot(1 << 3), "flags 0x8"),
        (make_multiboot(), "no ELF"),
        (make_multiboot(1 << 16, (MIB, 2 * MIB, 0, 0, MIB)), "do not lie in the file"),
        (make_multiboot(1 << 16, (MIB + 64, MIB, 0, 0, 9 * MIB)), "outside of the kernel"),
        (make_multiboot(1 << 16, (0x3040, 0x3000, 0, 0, 0x3000)), "0x100000 or above"),
        (bytes(8192) + make_multiboot(skip=0), "no Multiboot header"),
    ],
)
def test_what_is_wrong_with_a_multiboot_kernel_is_said(image, words):
    with pytest.raises(BootError, match=words):
        multiboot.prepare(image, RAM, "")


def test_a_multiboot_kernel_above_4_gib_is_refused():
    """It is entered in 32 bits, and its modules are told by addresses of 32 bits."""
    high = 1 << 32
    head = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    head += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, high, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    head += struct.pack("<IIQQQQQQ", 1, 7, 120, high, high, 100, 4096, 4096)
    image = head + make_multiboot(skip=0).ljust(100, b"\0")[:100]
    with pytest.raises(BootError, match="4 GiB"):
        formats.prepare(image, "multiboot", 8 << 30, "", modules=[("m", b"m")])


def test_a_header_behind_the_end_of_what_it_loads_is_refused():
    """Section 3.1.3: the header lies in what is loaded; a load address behind it says something else."""
    with pytest.raises(BootError, match="do not lie in the file"):
        multiboot.prepare(make_multiboot(1 << 16, (MIB, MIB + 64, 0, 0, MIB + 96)), RAM, "")


@given(st.integers(0, 200), st.binary(min_size=1, max_size=8), st.integers(0, 8300))
def test_a_header_is_found_where_it_is_or_not_at_all(place, rubbish, length):
    whole = make_multiboot(1 << 16, (MIB + 64, MIB, 0, 0, MIB + 96))
    damaged = whole[:place] + rubbish + whole[place + len(rubbish) :]
    for image in (damaged, whole[:length], bytes(length) + whole):
        header = multiboot.find_header(image)
        if header:
            assert header.offset % 4 == 0 and header.offset + 12 <= 8192
            assert struct.unpack_from("<I", image, header.offset) == (0x1BADB002,)
        try:
            start = multiboot.prepare(image, RAM, "")
        except BootError:
            continue
        assert all(piece.address + len(piece.data) <= RAM for piece in start.pieces)


@given(st.lists(st.integers(0, 0xFFFF_FFFF), min_size=5, max_size=5))
def test_any_addresses_are_refused_or_fit_into_ram(addresses):
    try:
        start = formats.prepare(make_multiboot(1 << 16, tuple(addresses)), "multiboot", RAM, "")
    except BootError:
        return
    assert all(piece.address + len(piece.data) <= RAM for piece in start.pieces)


# --- cpio ---

NAMES = st.text("abc.-", min_size=1, max_size=6).filter(lambda name: name.strip("."))


@given(st.dictionaries(NAMES, st.binary(max_size=40), max_size=6), st.integers(0, 7))
def test_archives_joined_are_read_back_in_order(files, padding):
    first, second = cpio.Archive(), cpio.Archive()
    for name, data in files.items():
        first.file(f"d/{name}", data, 0o600)
    second.link("d/link", "../x")
    entries = list(cpio.read_archive(cpio.join([first.finish() + bytes(padding), second.finish()])))
    assert {e.name: bytes(e.data) for e in entries if e.mode == 0o100600} == {f"d/{n}": d for n, d in files.items()}
    assert (entries[-1].name, bytes(entries[-1].data), entries[-1].mode) == ("d/link", b"../x", 0o120777)


def test_a_tree_keeps_kinds_permissions_and_links(tmp_path):
    (tmp_path / "sub").mkdir(mode=0o700)
    (tmp_path / "sub" / "file").write_bytes(b"contents")
    (tmp_path / "sub" / "file").chmod(0o4755)
    (tmp_path / "link").symlink_to("sub/file")
    archive = cpio.Archive()
    archive.tree(str(tmp_path), "root")
    found = {e.name: (oct(e.mode), bytes(e.data)) for e in cpio.read_archive(archive.finish())}
    assert found["root/sub/file"] == ("0o104755", b"contents") and found["root/link"] == ("0o120777", b"sub/file")
    assert found["root/sub"][0] == "0o40700"


@given(st.binary(max_size=200))
def test_rubbish_archives_never_get_past_booterror(rubbish):
    for data in (rubbish, cpio.MAGIC + rubbish):
        try:
            list(cpio.read_archive(data))
        except BootError:
            pass


@given(st.lists(st.sampled_from(["0000000A", "FFFFFFFF", "-0000100", "+0000010", "0x000010", "1_000_00", "     010", "00000001"]),
                min_size=13, max_size=13))  # fmt: skip
@settings(deadline=None)
def test_a_header_of_anything_but_digits_is_damaged(numbers):
    """What Python takes for a number besides: with a sign, the reader would go backwards."""
    data = cpio.MAGIC + "".join(numbers).encode() + bytes(4096)
    try:
        entries = list(itertools.islice(cpio.read_archive(data), 50))
    except BootError:
        return
    assert len(entries) <= 1 and all(number.isalnum() and "x" not in number for number in numbers)


def test_a_file_too_large_for_the_format_is_refused_before_it_is_read(tmp_path):
    """Its size has eight hexadecimal digits; one more would damage all that follows."""
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", 1 << 32)
    with pytest.raises(BootError, match=r"large.*4 GiB"):
        cpio.Archive().tree(str(tmp_path))


def test_a_tree_may_be_deeper_than_calls_may_be(tmp_path):
    depth = 300
    (tmp_path / "/".join("d" * depth)).mkdir(parents=True)
    archive, limit = cpio.Archive(), sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + depth // 2)
    try:
        archive.tree(str(tmp_path))
    finally:
        sys.setrecursionlimit(limit)
    assert sum(1 for _ in cpio.read_archive(archive.finish())) == depth


def test_a_tree_may_be_named_by_a_link(tmp_path):
    """As releases are: current -> 2026-11. A link in the tree stays a link."""
    (tmp_path / "2026-11" / "etc").mkdir(parents=True)
    (tmp_path / "current").symlink_to("2026-11")
    for name in ("current", "current/", "2026-11"):
        archive = cpio.Archive()
        archive.tree(f"{tmp_path}/{name}")
        assert [entry.name for entry in cpio.read_archive(archive.finish())] == ["etc"]


def test_a_file_that_became_a_link_meanwhile_is_not_followed(tmp_path, monkeypatch):
    """Who may write to the root must not have the host's files read for the guest."""
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "file").write_bytes(b"harmless")
    (tmp_path / "secret").write_bytes(b"secret")
    real = os.lstat

    def lstat(path, **more):
        status = real(path, **more)
        if str(path).endswith("file"):
            os.unlink(path)
            os.symlink(tmp_path / "secret", path)
        return status

    monkeypatch.setattr(os, "lstat", lstat)
    archive = cpio.Archive()
    with pytest.raises(OSError, match="symbolic links"):
        archive.tree(str(tmp_path / "root"))
