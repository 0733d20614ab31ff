"""The archive reader: against tarfile and GNU tar as oracles, and against archives made to hurt."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_archives import archive, folder, member, reader, symlink

from minirt.image.errors import BadArchive
from minirt.image.tar import Archive

names = st.text(st.characters(blacklist_characters="\0/", blacklist_categories=("Cs",)), min_size=1, max_size=120)
paths = st.lists(names.filter(lambda n: n not in (".", "..")), min_size=1, max_size=3).map("/".join)
kinds = st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])


@st.composite
def members(draw):
    kind = draw(kinds)
    data = draw(st.binary(max_size=1200)) if kind == tarfile.REGTYPE else b""
    fields = {"mode": draw(st.integers(0, 0o7777)), "uid": draw(st.integers(0, 2**31)), "mtime": draw(st.integers(0, 2**33))}
    if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        fields["linkname"] = draw(paths)
    return member(draw(paths), kind, data, **fields)


def read(data: bytes, **options: bool) -> list[tuple]:
    """All entries with their data."""
    found = []
    entries = Archive(reader(data), **options)
    for entry in entries:
        with open(os.memfd_create("data"), "w+b") as stream:
            for _, count in entry.segments or [(0, entry.stored)]:
                entries.copy(stream.fileno(), count)
            stream.seek(0)
            found.append((entry, stream.read()))
    return found


@settings(max_examples=60, deadline=None)
@given(st.lists(members(), max_size=6), st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]))
def test_what_tarfile_writes_is_read_back(wanted, form):
    found = read(archive(*wanted, format=form), whole=True)
    assert len(found) == len(wanted)
    for (entry, data), (info, content) in zip(found, wanted, strict=True):
        assert entry.name.decode().rstrip("/") == info.name.rstrip("/")
        assert (entry.mode, entry.uid, entry.mtime, data) == (info.mode, info.uid, info.mtime * 10**9, content)
        assert entry.link.decode() == (info.linkname if info.type in (tarfile.SYMTYPE, tarfile.LNKTYPE) else "")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_changed_archive_is_read_or_refused_and_never_more(data):
    whole = archive(
        folder("a", pax_headers={"mtime": "1.5"}), member("a/" + "n" * 150, data=b"x" * 700),
        symlink("l", "t" * 120), member("x", data=b"y", pax_headers={"SCHILY.xattr.user.k": "v"}),
    )  # fmt: skip
    changed = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    for text in (bytes(changed), whole[:cut]):
        try:
            read(text)
        except BadArchive as error:
            assert "\n" not in str(error)


@given(st.binary(min_size=1, max_size=3000))
def test_noise_is_no_archive(data):
    if any(data[:512]):
        with pytest.raises(BadArchive):
            read(data)


@given(st.integers(0, 10))
def test_an_archive_cut_at_a_header_is_truncated_where_no_digest_would_tell(blocks):
    data = archive(member("a", data=b"x" * 512), member("b"))
    cut = data[: 512 * blocks]
    if any(not any(data[at : at + 512]) for at in range(0, len(cut), 512)):
        assert len(read(cut, whole=True)) == 2
    else:
        with pytest.raises(BadArchive, match=r"truncated|empty"):
            read(cut, whole=True)


def test_times_keep_their_nanoseconds_and_their_sign():
    data = archive(
        member("a", pax_headers={"mtime": "1700000000.123456789"}), member("b", pax_headers={"mtime": "-1.25"})
    )
    assert [entry.mtime for entry, _ in read(data)] == [1700000000123456789, -1250000000]


def test_a_binary_xattr_comes_through():
    value = bytes(range(256))
    (pair,) = read(archive(member("a", pax_headers={"SCHILY.xattr.user.k": value.decode("utf-8", "surrogateescape")})))
    assert pair[0].xattrs == {"user.k": value}


@pytest.mark.parametrize(
    "format", [["--format=gnu"]] + [["--format=pax", f"--sparse-version={v}"] for v in ("0.0", "0.1", "1.0")]
)
def test_sparse_files_of_gnu_tar_are_understood(tmp_path: Path, format):
    path = tmp_path / "sparse"
    with path.open("wb") as stream:
        for at in range(9):  # more than the four segments that fit the old header, fewer than need a second block
            stream.seek(at << 20)
            stream.write(bytes([65 + at]) * 4096)
        stream.truncate(12 << 20)
    made = subprocess.run(["tar", "-C", tmp_path, *format, "-S", "-cf", "-", "sparse"], capture_output=True, check=True)
    assert len(made.stdout) < 1 << 20
    ((entry, data),) = read(made.stdout)
    assert entry.name == b"sparse" and entry.size == 12 << 20
    rebuilt = bytearray(entry.size)
    for offset, count in entry.segments or []:
        rebuilt[offset : offset + count], data = data[:count], data[count:]
    assert bytes(rebuilt) == path.read_bytes()


@pytest.mark.parametrize("form", ["v7", "oldgnu", "gnu", "ustar", "posix"])
def test_every_format_of_gnu_tar_is_read(tmp_path: Path, form):
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("dir/file")
    made = subprocess.run(
        ["tar", "-C", tmp_path, "--sort=name", f"--format={form}", "-cf", "-", "."], capture_output=True, check=True
    )
    found = [(entry.name.rstrip(b"/"), entry.kind, data) for entry, data in read(made.stdout, whole=True)]
    assert found == [
        (b".", "directory", b""), (b"./dir", "directory", b""), (b"./dir/file", "file", b"content"),
        (b"./link", "symlink", b""),
    ]  # fmt: skip


def test_a_directory_of_the_oldest_tars_is_a_file_with_a_slash():
    """Before ustar there was no type for it (man 5 tar, "Old-Style Archive Format")."""
    header, _ = member("dir/", tarfile.AREGTYPE)
    ((entry, _),) = read(header.tobuf(tarfile.USTAR_FORMAT) + bytes(1024))
    assert (entry.name.rstrip(b"/"), entry.kind) == (b"dir", "directory")


def pax(records: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    """An extended header with these records, before an empty file."""
    header, _ = member("x", kind)
    header.size = len(records)
    return header.tobuf(tarfile.USTAR_FORMAT) + records + bytes(-len(records) % 512) + archive(member("f"))


def record(text: str) -> bytes:
    """`LENGTH KEY=VALUE newline`, where the length counts itself."""
    length = len(text) + 2
    while len(f"{length} {text}\n") != length:
        length += 1
    return f"{length} {text}\n".encode()


@pytest.mark.parametrize(
    "records",
    [b"99 path=b\n", b"0 a=b\n", b"path=b\n", b"-7 a=b\n", b"7 path\n", b" 8 a=b\n", b"6 a=b\n7 a=b\n", b"1" * 30 + b" a=b\n"],
)  # fmt: skip
def test_a_malformed_extended_header_is_refused(records):
    with pytest.raises(BadArchive, match=r"malformed|stands where"):
        read(pax(records))


@pytest.mark.parametrize(
    "records",
    [["size=-5"], ["size="], ["uid=x1"], ["uid=-1"], ["gid=1.5"], ["mtime=1e9"], ["mtime=nan"], ["mtime=inf"],
     ["GNU.sparse.map=0,5"], ["GNU.sparse.size=12", "GNU.sparse.map=0,5"], ["GNU.sparse.size=12", "GNU.sparse.map=0"],
     ["GNU.sparse.size=12", "GNU.sparse.map=0,0,0,0,-1,1"], ["GNU.sparse.size=2", "GNU.sparse.map=3,0"],
     ["GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.realsize=5"]],
)  # fmt: skip
def test_an_impossible_value_is_refused(records):
    with pytest.raises(BadArchive):
        read(pax(b"".join(map(record, records))))


def test_a_right_extended_header_is_not_refused():
    """The builder of the headers above is not what is refused."""
    ((entry, _),) = read(pax(record("path=other") + record("uid=7") + record("mtime=2.5")))
    assert (entry.name, entry.uid, entry.mtime) == (b"other", 7, 2_500_000_000)


def test_an_extended_header_that_is_a_bomb_is_refused():
    with pytest.raises(BadArchive, match="extended headers"):
        read(pax(b"1" * (2 << 20)))


def test_extended_headers_without_end_are_refused():
    one = pax(b"7 a=bc\n")[:1024]
    with pytest.raises(BadArchive, match="extended headers"):
        read(one * 20000 + archive(member("f")))


def test_global_headers_that_add_up_to_a_bomb_are_refused():
    """Each may be small, and before an entry of its own; but all hold for all that follow."""

    def globally(number: int) -> bytes:
        data = pax(record(f"k{number}=" + "x" * 900))
        return data[:156] + b"g" + data[157:1536]

    def summed(data: bytes) -> bytes:
        block = data[:148] + b" " * 8 + data[156:512]
        return data[:148] + b"%06o\0 " % sum(block) + data[156:]

    one = archive(member("f"))[:512]
    few = b"".join(summed(globally(number)) + one for number in range(10)) + bytes(1024)
    assert len(read(few)) == 10
    with pytest.raises(BadArchive, match="global extended headers"):
        read(b"".join(summed(globally(number)) + one for number in range(2000)))


def test_an_extended_header_that_nothing_follows_is_refused():
    with pytest.raises(BadArchive):
        read(pax(b"7 a=bc\n")[:1024] + bytes(1024))


def test_a_quadratic_record_takes_no_time():
    """CVE-2024-6232: tarfile of Python before 3.11.10 needs hours for this one."""
    with pytest.raises(BadArchive):
        read(pax(b"1" * 500_000))


def test_an_unknown_type_is_refused():
    header, _ = member("x", b"Z")
    with pytest.raises(BadArchive, match="unknown type"):
        read(header.tobuf(tarfile.USTAR_FORMAT) + bytes(1024))


def test_nothing_after_the_end_is_an_entry_but_all_of_it_is_read():
    source = io.BytesIO(archive(member("a")) + archive(member("b")))
    entries = [entry.name for entry in Archive(source)]
    assert entries == [b"a"] and not source.read()
