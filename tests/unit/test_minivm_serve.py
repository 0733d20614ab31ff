"""What a machine's process keeps: a log of bounded length, and for a client that does not read no more than so much."""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from minivm.manager.log import ConsoleLog, tail
from minivm.manager.serve import KEPT, Client


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=30), st.integers(1, 60))
@settings(deadline=None)
def test_the_log_holds_the_last_of_what_was_said_and_never_more_than_twice_its_length(pieces, longest):
    with tempfile.TemporaryDirectory() as directory:
        path = str(Path(directory) / "log")
        log = ConsoleLog(path, longest)
        for piece in pieces:
            log.write(piece)
            assert max(file.stat().st_size for file in Path(directory).iterdir()) <= max(longest, 40)
        whole = b"".join(pieces)
        kept = tail(path, None)
        assert whole.endswith(kept) and (len(kept) >= min(len(whole), longest - 40))
        assert whole.endswith(b"".join(log.replay()))
        log.close()


def test_a_run_replays_what_it_said_itself(tmp_path):
    path = str(tmp_path / "log")
    for text in (b"first\n", b"second\n"):
        log = ConsoleLog(path)
        log.write(text)
        assert b"".join(log.replay()) == text
        log.close()
    assert tail(path, None) == b"first\nsecond\n" and tail(path, 1) == b"second\n" and tail(path, 0) == b""


def test_what_waits_for_a_client_is_bounded_and_never_cut_in_a_piece():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        client, piece = Client(ours), bytes(range(256)) * 256
        for _ in range(64):
            client.put(piece)
            assert len(client.waiting) <= KEPT
        theirs.setblocking(False)
        got = bytearray()
        while True:
            try:
                got += theirs.recv(1 << 20)
            except BlockingIOError:
                break
            client.flush()
        assert len(got) >= KEPT and len(got) % len(piece) == 0 and got == piece * (len(got) // len(piece))
