"""The log: what the C half writes is what was written, and what the Python half reads; durations and moments."""

from __future__ import annotations

import json
import re
import subprocess
from collections import deque
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minirt.engine import log_reader
from minirt.engine.log_reader import Line, Reader
from minirt.engine.moments import duration, moment
from minirt.errors import UsageError

SOURCE = Path(__file__).resolve().parents[2] / "csrc" / "monitor"
HARNESS = r"""
#include "log.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>
/* log DIR MOST FILES: what comes on standard input, in pieces as they are read, of at most argv[4] bytes */
int main(int argc, char **argv) {
    static struct log l;
    static char data[65536];
    ssize_t n;
    if (argc == 3) {  /* log DIR fails: no file can be made while it goes over into the next */
        struct rlimit few = {3, 100}, many = {100, 100};
        if (log_open(&l, open(argv[1], O_RDONLY), 1, 3) || log_write(&l, 1, "one\n", 4) != 4 || log_write(&l, 1, "two\n", 4) != 4)
            return 3;
        setrlimit(RLIMIT_NOFILE, &few);
        for (int i = 0; i < 3; i++)
            if (log_write(&l, 1, "three\n", 6) >= 0)
                return 4;
        setrlimit(RLIMIT_NOFILE, &many);
        if (log_write(&l, 1, "three\n", 6) != 6)
            return 5;
        log_close(&l);
        return 0;
    }
    if (argc != 5 || log_open(&l, open(argv[1], O_RDONLY), strtoull(argv[2], 0, 10), (unsigned)atoi(argv[3]))) return 1;
    while ((n = read(0, data, (size_t)atoi(argv[4]))) > 0)
        if (log_write(&l, 1, data, (size_t)n) != n) return 2;
    log_close(&l);
    return 0;
}
"""


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that logs its standard input, under AddressSanitizer."""
    place = tmp_path_factory.mktemp("log")
    (place / "harness.c").write_text(HARNESS)
    command = ["gcc", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover", f"-I{SOURCE}", "-o", place / "harness"]
    subprocess.run([*command, place / "harness.c", SOURCE / "log.c"], check=True)
    return place / "harness"


def decoded(data: bytes) -> str:
    """Return text as Go decodes it: each byte that is part of no character is U+FFFD."""
    text, i = [], 0
    while i < len(data):
        for size in (1, 2, 3, 4):
            try:
                text.append(data[i : i + size].decode())
                break
            except UnicodeDecodeError:
                continue
        else:
            text.append("\ufffd")
            size = 1
        i += size
    return "".join(text)


LONG = st.sampled_from([b"\n", b"\r\n", b"x" * 16383, b"\xf0\x9f\x98\x80" * 5000])
LINES = st.lists(st.one_of(st.binary(max_size=60), st.text(max_size=40).map(str.encode), LONG))


@settings(max_examples=60)
@given(pieces=LINES, chunk=st.integers(1, 65536))
def test_what_is_logged_is_what_was_written(
    harness: Path, tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], chunk: int
) -> None:
    place, data = tmp_path_factory.mktemp("log"), b"".join(pieces)
    subprocess.run([harness, place, "0", "1", str(chunk)], input=data, check=True)
    entries = [json.loads(line) for line in (place / "log").read_bytes().splitlines()]
    assert "".join(entry["log"] for entry in entries) == decoded(data)
    assert all("\n" not in entry["log"][:-1] for entry in entries)
    assert [line.text for line in Reader(str(place)).read()] == [entry["log"] for entry in entries]


@settings(max_examples=20)
@given(count=st.integers(1, 400), most=st.integers(100, 3000), files=st.integers(1, 4))
def test_files_are_bounded_and_the_newest_lines_are_there(
    harness: Path, tmp_path_factory: pytest.TempPathFactory, count: int, most: int, files: int
) -> None:
    place = tmp_path_factory.mktemp("log")
    subprocess.run([harness, place, str(most), str(files), "4096"], input=b"".join(b"%d\n" % n for n in range(count)), check=True)
    kept = [int(line.text) for line in Reader(str(place)).read()]
    assert kept == list(range(count - len(kept), count)) and kept
    assert len(list(place.iterdir())) <= files and all(path.stat().st_size < most + 100 for path in place.iterdir())


def test_a_log_that_could_not_be_begun_anew_loses_no_older_file(harness: Path, tmp_path: Path) -> None:
    subprocess.run([harness, tmp_path, "fails"], check=True)
    assert [line.text for line in Reader(str(tmp_path)).read()] == ["one\n", "two\n", "three\n"]


def test_a_line_that_a_killed_monitor_has_left_half_written_takes_no_other_along(harness: Path, tmp_path: Path) -> None:
    for text in ("one\n", "two\n"):
        subprocess.run([harness, tmp_path, "0", "1", "100"], input=text.encode(), check=True)
        with open(tmp_path / "log", "a") as log:
            log.write('{"log":"half')
    assert [line.text for line in Reader(str(tmp_path)).read()] == ["one\n", "two\n"]


def test_a_reader_goes_on_where_it_was_though_files_have_moved(tmp_path: Path) -> None:
    def entry(n: int) -> str:
        return json.dumps({"log": f"{n}\n", "stream": "stdout", "time": ""}) + "\n"

    reader = Reader(str(tmp_path))
    (tmp_path / "log").write_text(entry(1) + entry(2) + entry(3)[:10])
    assert [line.text for line in reader.read()] == ["1\n", "2\n"]
    with (tmp_path / "log").open("a") as file:
        file.write(entry(3)[10:])
    (tmp_path / "log").rename(tmp_path / "log.1")
    (tmp_path / "log").write_text(entry(4))
    assert [line.text for line in reader.read()] == ["3\n", "4\n"]
    assert list(reader.read()) == []


@pytest.mark.parametrize("how", ["read", "tail"])
@pytest.mark.parametrize("files", [1, 2, 3])
def test_files_that_are_moved_on_while_they_are_opened_are_read_whole_and_once(
    tmp_path: Path, how: str, files: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(files):
        append(tmp_path, number, files - number)
    paths = Reader.files

    def moved_on(reader: Reader) -> list[str]:
        found = paths(reader)
        monkeypatch.setattr(Reader, "files", paths)
        for number in range(files, 0, -1):
            (tmp_path / name_of(number - 1)).rename(tmp_path / name_of(number))
        append(tmp_path, 0, files + 1)
        return found

    monkeypatch.setattr(Reader, "files", moved_on)
    reader = Reader(str(tmp_path))
    found = list(reader.read()) if how == "read" else reader.tail(9, lambda line: True)
    assert [line.text for line in found] == [f"{n}\n" for n in range(1, files + 2)] and not reader.ended
    assert list(reader.read()) == []


def name_of(number: int) -> str:
    return f"log.{number}" if number else "log"


def append(folder: Path, number: int, n: int) -> None:
    with (folder / name_of(number)).open("a") as file:
        file.write(json.dumps({"log": f"{n}\n", "stream": "stdout", "time": ""}) + "\n")


def is_even(line: Line) -> bool:
    return line.text.rstrip("\n").endswith(("0", "2", "4", "6", "8"))


ENTRIES = st.one_of(
    st.integers(0, 99).map(lambda n: b'{"log":"%d\\n","stream":"stdout","time":"%d"}\n' % (n, n)),
    st.integers(0, 300).map(lambda n: b'{"log":"%s","stream":"stderr","time":""}\n' % (b"8" * n)),
    st.sampled_from([b"\n", b"half\n", b'{"log":"', b"\0" * 70 + b"\n", b'{"log":1}\n', b"[]\n"]),
)


@settings(max_examples=300)
@given(
    files=st.lists(st.lists(ENTRIES, max_size=12).map(b"".join), max_size=3), count=st.integers(0, 30),
    block=st.integers(1, 200), all_of_them=st.booleans(), more=ENTRIES,
)  # fmt: skip
def test_lines_read_from_the_end_are_those_read_from_the_beginning(
    tmp_path_factory: pytest.TempPathFactory, files: list[bytes], count: int, block: int, all_of_them: bool, more: bytes
) -> None:
    place = tmp_path_factory.mktemp("log")
    for number, data in enumerate(files):
        (place / (f"log.{number}" if number else "log")).write_bytes(data)

    def chosen(line: Line) -> bool:
        return all_of_them or is_even(line)

    def told(lines: Iterable[Line]) -> list[tuple[str, str, str]]:
        return [(line.text, line.stream, line.time) for line in lines]

    slow, fast = Reader(str(place)), Reader(str(place))
    expected = told(deque(filter(chosen, slow.read()), count))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_reader, "BLOCK", block)
        assert told(fast.tail(count, chosen)) == expected
    with (place / "log").open("ab") as file:
        file.write(more)
    assert told(fast.read()) == told(slow.read()), "they go on at the same place"


def test_a_few_lines_from_the_end_cost_no_reading_of_a_large_log(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        file.seek(1 << 30)  # a hole: the kernel gives zeros for it to who does read it
        file.writelines(b'\n{"log":"%d\\n","stream":"stdout","time":""}' % n for n in range(1000))
        file.write(b"\n")
    (tmp_path / "log").rename(tmp_path / "log.1")
    (tmp_path / "log").write_bytes(b'{"log":"newest\\n","stream":"stdout","time":""}\n')
    before = bytes_read()
    assert [line.text for line in Reader(str(tmp_path)).tail(3, lambda line: True)] == ["998\n", "999\n", "newest\n"]
    assert bytes_read() - before < 1 << 20


def bytes_read() -> int:
    """Return how many bytes this process has read so far, of whatever file (man 5 proc, /proc/pid/io)."""
    return int(re.search(r"^rchar: (\d+)$", Path("/proc/self/io").read_text(), re.M)[1])  # type: ignore[index]


@given(h=st.integers(0, 99), m=st.integers(0, 59), s=st.integers(0, 59), ms=st.integers(0, 999))
def test_durations_are_as_go_writes_them(h: int, m: int, s: int, ms: int) -> None:
    assert duration(f"{h}h{m}m{s}s{ms}ms") == pytest.approx(h * 3600 + m * 60 + s + ms / 1000)


@given(st.text(max_size=12))
def test_any_text_is_a_moment_or_refused(text: str) -> None:
    try:
        assert moment(text) == "" or (moment(text)[-11] == "." and moment(text).endswith("Z"))
    except UsageError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("how", ["removed", "half removed", "moved on"])
def test_who_follows_has_the_last_lines_of_a_log_that_loses_its_name(tmp_path: Path, how: str) -> None:
    log = tmp_path / "box" / "log"
    log.parent.mkdir()
    entry = '{"log":"%s\\n","stream":"stdout","time":"2026-01-01T00:00:00.000000000Z"}\n'
    log.write_text(entry % "first")
    reader = Reader(str(log.parent))
    assert [line.text for line in reader.read()] == ["first\n"]
    with log.open("a") as file:
        file.write(entry % "last")
    log.unlink()
    if how == "removed":
        log.parent.rmdir()
    elif how == "moved on":
        log.write_text(entry % "next")
    assert [line.text for line in reader.read()] == ["last\n"] + ["next\n"] * (how == "moved on")
    assert list(reader.read()) == [] and reader.ended == (how == "removed")
