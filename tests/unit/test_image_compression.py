"""gzip, zstd and neither: whole data comes through, cut or changed data is refused, and a bomb costs little."""

from __future__ import annotations

import gzip
import lzma
import os
import subprocess
import sys
import tracemalloc

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from image_archives import reader

from minirt.image.compression import Bounded, Tap, compression_of, decompressed, media_type, sniff
from minirt.image.errors import BadArchive, Damaged


def zstd(data: bytes, **options: bool) -> bytes:
    return zstandard.ZstdCompressor(**options).compress(data)


PACK = {"": bytes, "gzip": gzip.compress, "zstd": lambda data: zstd(data, write_checksum=True)}
KINDS = pytest.mark.parametrize("kind", PACK)
PACKED = pytest.mark.parametrize("kind", ["gzip", "zstd"])


def unpacked(kind: str, packed: bytes, size: int = 4096) -> bytes:
    source, parts = decompressed(kind, reader(packed)), []
    while part := source.read(size):
        assert len(part) <= size
        parts.append(part)
    return b"".join(parts)


@KINDS
@given(parts=st.lists(st.binary(max_size=3000), max_size=4), size=st.integers(1, 5000))
def test_what_was_packed_in_any_number_of_members_comes_back(kind, parts, size):
    assert unpacked(kind, b"".join(map(PACK[kind], parts)), size) == b"".join(parts)


@PACKED
def test_data_cut_at_any_byte_is_truncated(kind):
    packed = PACK[kind](os.urandom(700) + bytes(5000))
    for cut in range(1, len(packed)):
        with pytest.raises(BadArchive, match="truncated"):
            unpacked(kind, packed[:cut])


@PACKED
@settings(max_examples=150)
@given(data=st.binary(min_size=50, max_size=2000), at=st.integers(0), byte=st.integers(1, 255))
def test_changed_data_is_refused_or_the_same(kind, data, at, byte):
    packed = bytearray(PACK[kind](data))
    packed[at % len(packed)] ^= byte
    try:
        assert unpacked(kind, bytes(packed)) == data  # a byte that nothing depends on, such as gzip's time
    except BadArchive as error:
        assert "\n" not in str(error)


@PACKED
def test_what_follows_a_member_and_is_none_is_refused(kind):
    with pytest.raises(BadArchive):
        unpacked(kind, PACK[kind](b"data") + b"what is this?")


def test_zeros_after_gzip_are_a_tapes_padding():
    assert unpacked("gzip", gzip.compress(b"a") + bytes(1000) + gzip.compress(b"b") + bytes(1000)) == b"ab"


@pytest.mark.parametrize("program", ["gzip", "zstd"])
def test_what_the_program_writes_is_read(program):
    data = os.urandom(100_000) + bytes(1_000_000)
    try:
        packed = subprocess.run([program, "-c"], input=data, capture_output=True, check=True, timeout=30).stdout
    except FileNotFoundError:
        pytest.skip(f"no program {program} here to compare with")
    assert sniff(packed[:8]) == program and unpacked(program, packed) == data


@PACKED
def test_a_bomb_takes_little_memory_and_is_stopped_at_the_limit(kind):
    bomb = PACK[kind](bytes(96 << 20))
    source = Bounded(decompressed(kind, reader(bomb)), 80 << 20)
    tracemalloc.start()
    try:
        with pytest.raises(BadArchive, match="more than 80 MiB"):
            while source.read(65536):
                pass
        assert tracemalloc.get_traced_memory()[1] < 48 << 20
    finally:
        tracemalloc.stop()


def test_a_frame_that_wants_a_huge_window_is_refused():
    header = b"\x28\xb5\x2f\xfd\x00" + bytes([(30 - 10) << 3]) + b"\x01\0\0"  # RFC 8878: a window of 1 GiB, an empty block
    with pytest.raises(BadArchive):
        unpacked("zstd", header)


def test_without_the_package_zstd_is_refused_in_a_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(BadArchive, match="zstandard is not installed"):
        unpacked("zstd", zstd(b"data"))


def test_other_compressions_are_named():
    with pytest.raises(BadArchive, match="xz -dc"):
        sniff(lzma.compress(b"data")[:8])


@KINDS
def test_a_media_type_names_its_compression(kind):
    assert compression_of(media_type(kind)) == kind


@pytest.mark.parametrize("media", ["", "text/plain", "application/vnd.oci.image.layer.v1.tar+xz", "None"])
def test_what_is_no_layer_is_refused(media):
    with pytest.raises(Damaged):
        compression_of(media)


@given(st.binary(max_size=60_000))
def test_a_tap_shows_all_that_passes(data):
    seen = bytearray()
    source = Tap(reader(data), seen.extend)
    while source.read(777):
        pass
    assert seen == data
