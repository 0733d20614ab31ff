"""How a file's bytes come into guest memory: read() gives what is in the file, by more threads than one, and says where it ends."""

from __future__ import annotations

import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivm.machine import mapping

LARGE = mapping.LARGE_PAGE


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("mapping") / "kernel"
    path.write_bytes(os.urandom(3 * LARGE) + os.urandom(5))
    with open(path, "rb") as opened:
        yield opened


near = st.builds(lambda pages, more: max(0, pages * LARGE + more), st.integers(0, 3), st.integers(-3, 9000))


@given(length=near, place=near)
def test_it_reads_what_is_there(file, length, place):
    room = bytearray(b"\xaa" * (length + 1))
    done = mapping.read(memoryview(room)[:length], file.fileno(), place)
    want = os.pread(file.fileno(), length, place)
    assert (done, bytes(room[:done])) == (len(want), want)
    assert set(room[done:]) <= {0xAA}, "nothing behind it is touched"


def test_large_pieces_are_read_by_two_threads_which_have_ended(file, monkeypatch):
    readers, real = set(), os.preadv
    monkeypatch.setattr(os, "preadv", lambda *args: readers.add(threading.get_ident()) or real(*args))
    before = threading.active_count()
    mapping.read(memoryview(bytearray(3 * LARGE)), file.fileno(), 0)
    assert len(readers) == 2 and threading.active_count() == before
    readers.clear()
    mapping.read(memoryview(bytearray(LARGE)), file.fileno(), 0)
    assert readers == {threading.get_ident()}


def test_an_error_of_either_thread_is_the_callers(file, monkeypatch):
    main, real = threading.get_ident(), os.preadv
    for failing in (lambda me: me == main, lambda me: me != main):
        read = lambda *args, failing=failing: _fail() if failing(threading.get_ident()) else real(*args)  # noqa: E731
        monkeypatch.setattr(os, "preadv", read)
        with pytest.raises(OSError, match="Input/output"):
            mapping.read(memoryview(bytearray(3 * LARGE)), file.fileno(), 0)


def _fail():
    raise OSError(5, "Input/output error")
