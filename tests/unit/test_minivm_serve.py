"""What a machine's process keeps: a log of bounded length, and for a client that does not read no more than so much."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minivm.manager.control import Control
from minivm.manager.log import ConsoleLog, tail
from minivm.manager.machines import NamedMachine
from minivm.manager.serve import KEPT, MOST, Client, Server


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


def test_a_log_that_somebody_has_filled_begins_anew(tmp_path):
    for name in ("log", "log.1"):
        (tmp_path / name).write_bytes(bytes(200))
    log = ConsoleLog(str(tmp_path / "log"), 100)
    log.write(b"new")
    assert tail(str(tmp_path / "log"), None) == b"new"
    log.close()


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


class Served:
    """A server of a machine without processors: its console is `said`."""

    def __init__(self, directory: Path) -> None:
        self.machine = SimpleNamespace(outcome=None, gate=SimpleNamespace(closed=False))
        console, self.said = os.pipe()
        look, self._poke = os.pipe()
        control = Control(NamedMachine("box"), {}, self.machine)
        server = Server(self.machine, control, ConsoleLog(str(directory / "console.log")), console)
        server.listen(str(directory))
        self.path = str(directory / "api.sock")

        def serve() -> None:
            server.serve(look)
            server.finish(self.said)
            server.close()
            os.close(look)

        self._thread = threading.Thread(target=serve)
        self._thread.start()

    def ask(self, method: str, path: str, **body: object) -> socket.socket:
        """Return a connection with a request on its way."""
        stream = socket.socket(socket.AF_UNIX)
        stream.connect(self.path)
        stream.settimeout(60)
        stream.sendall(json.dumps({"method": method, "path": path, "body": body}).encode() + b"\n")
        return stream

    def end(self) -> None:
        if self.machine.outcome is None:
            self.machine.outcome = "ended"
            os.write(self._poke, b"x")
            os.close(self._poke)
        self._thread.join(60)
        assert not self._thread.is_alive()


@pytest.fixture
def served(tmp_path):
    made = Served(tmp_path)
    yield made
    made.end()


def lines(first: int, last: int) -> bytes:
    return b"".join(b"line %010d\n" % number for number in range(first, last))


def read_exactly(stream: socket.socket, size: int) -> bytes:
    got = bytearray()
    while len(got) < size and (data := stream.recv(size - len(got))):
        got += data
    return bytes(got)


@pytest.mark.parametrize("ends", [False, True])
def test_who_follows_from_the_start_gets_all_of_it_however_slowly_it_reads(served, ends, monkeypatch):
    """Three times what is kept for a client; then the machine goes on, or ends."""
    monkeypatch.setattr("minivm.manager.serve.LAST", 60.0)
    before = lines(0, 3 * KEPT // 16)
    for start in range(0, len(before), 4096):
        os.write(served.said, before[start : start + 4096])
    with served.ask("PUT", "/console", replay=True, listen=True) as stream:
        answer = read_exactly(stream, len(b'{"status": 200}\n'))
        assert json.loads(answer)["status"] == 200
        after = lines(len(before) // 16, len(before) // 16 + 100)
        os.write(served.said, after)
        if ends:
            served.machine.outcome = "ended"
            os.write(served._poke, b"x")
            os.close(served._poke)
        assert read_exactly(stream, len(before) + len(after)) == before + after


def test_more_clients_than_it_serves_wait_and_cost_it_nothing(served):
    streams = [served.ask("GET", "/version") for _ in range(MOST)]
    for stream in streams:
        assert stream.recv(1) == b"{"
    last = served.ask("GET", "/version")
    thread = served._thread.native_id
    before = processor_time(thread)
    time.sleep(0.5)
    assert processor_time(thread) - before < 0.25, "it does not spin"
    last.setblocking(False)
    with pytest.raises(BlockingIOError):
        last.recv(1)
    streams.pop().close()
    last.settimeout(60)
    assert last.recv(1) == b"{"
    for stream in (*streams, last):
        stream.close()


def processor_time(thread: int | None) -> float:
    fields = Path(f"/proc/self/task/{thread}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
