"""Clients that hold a connection and move nothing, or next to nothing, are let go; those who wait for us are not."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from liars import Content, Handler, Registry
from registry_server import Client, Server, digest_of, fresh

from minirt.registry.idle import RATE, Spans

LIMIT = 1  # second: what a client does in these tests lasts longer, or for ever
PATIENCE = 60  # seconds for a machine that has much to do


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    pytest.importorskip("aiohttp", reason="the extra `serve` is not installed")
    with fresh("--quiet", "--idle", LIMIT, "--workers", 1) as server:
        yield server


def connect(server: Server, data: bytes = b"") -> socket.socket:
    found = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
    found.sendall(data)
    return found


def ends(connection: socket.socket) -> bytes:
    """Return what comes until the other side hangs up, which it has to."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(1 << 16):
            data += piece
    connection.close()
    return data


@pytest.mark.parametrize("data", [
    b"", b"GET /v2/ HTTP/1.1\r\nHost: a\r\n", b"GET /v2/ HTTP/1.1\r\nHost: a\r\n\r\nGET /v2/ HT",
    b"PUT /v2/a/manifests/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{",
], ids=["nothing", "half a head", "half a second head", "half a manifest"])  # fmt: skip
def test_who_sends_no_more_is_let_go(server: Server, data: bytes) -> None:
    found = ends(connect(server, data))
    assert found.startswith(b"HTTP/1.1 200") == data.startswith(b"GET /v2/ HTTP/1.1\r\nHost: a\r\n\r\n")


def test_an_upload_that_stops_is_let_go_and_another_goes_on_with_it(server: Server) -> None:
    location = server.client.begin("a")
    head = f"PATCH {location} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n".encode()
    assert ends(connect(server, head + b"12345")) == b""
    answer = server.client("PATCH", location, b"6789", Content_Range="5-8")
    assert (answer.status, answer.headers["range"]) == (202, "0-8")


def test_a_byte_now_and_then_is_not_enough(server: Server) -> None:
    head = f"PATCH {server.client.begin('a')} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n".encode()
    connection = connect(server, head)
    ended = threading.Event()

    def trickle() -> None:
        with contextlib.suppress(OSError):
            while not ended.wait(0.1):
                connection.sendall(b"x")

    thread = threading.Thread(target=trickle)
    thread.start()
    with contextlib.suppress(ConnectionResetError):
        assert connection.recv(1) == b""
    ended.set()
    thread.join()
    connection.close()


def test_who_does_not_take_what_it_asked_for_is_let_go(server: Server) -> None:
    layer = os.urandom(12_000_000)  # more than the kernel keeps for a connection
    digest = server.client.push_blob("a", layer)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(PATIENCE)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(f"GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert connection.recv(12) == b"HTTP/1.1 200"
        watcher = select.poll()
        watcher.register(connection, 0)  # man 2 poll: only whether the other end has hung up; we read nothing
        assert watcher.poll(PATIENCE * 1000), "the connection stands"
    deadline = time.monotonic() + PATIENCE
    while opened(server.process.pid, "/blobs/"):
        assert time.monotonic() < deadline, "who sent the file has not heard of it"
        time.sleep(0.05)


def opened(pid: int, part: str) -> list[str]:
    """Return the files that a process has open, of those whose path has a part."""
    found = []
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found.append(os.readlink(path))
    return [name for name in found if part in name]


def test_tls_is_watched_too(tmp_path: Path) -> None:
    words = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -keyout key -out cert"
    subprocess.run(words.split(), cwd=tmp_path, check=True, capture_output=True)
    with fresh("--quiet", "--idle", LIMIT, "--workers", 1, "--cert", tmp_path / "cert", "--key", tmp_path / "key") as server:
        trust = ssl.create_default_context(cafile=str(tmp_path / "cert"))
        trust.check_hostname = False
        with trust.wrap_socket(connect(server)) as connection:
            connection.sendall(b"GET /v2/ HTT")
            with contextlib.suppress(ConnectionResetError, ssl.SSLError):
                assert connection.recv(1) == b""


def test_who_waits_for_us_is_not_let_go() -> None:
    """A cache asks a registry that takes its time, three times as long as the limit."""
    content = Content()
    late = threading.Event()

    def slow(handler: Handler) -> bool:
        late.wait(3 * LIMIT)
        return False

    with Registry(content, slow) as origin, fresh("--quiet", "--idle", LIMIT, "--proxy", f"http://{origin.host}") as cache:
        answer = Client(cache.url)("GET", "/v2/app/manifests/1", Accept="*/*")
        assert answer.status == 200 and digest_of(answer.body) == digest_of(content.manifest)


def test_a_slow_client_that_moves_enough_is_never_late() -> None:
    spans, enough = Spans(10), RATE * 10
    assert not any(spans.late("slow", second * enough // 9, second) for second in range(100))
    assert [spans.late("stalls", 5 * enough, second) for second in (0, 5, 9, 10)] == [False, False, False, True]


def test_who_has_had_an_answer_begins_anew() -> None:
    spans = Spans(10)
    assert not spans.late("a", 0, 0)
    spans.forgive("a")
    assert not spans.late("a", 5, 11) and spans.late("a", 5, 21)
    spans.keep(set())
    assert not spans.late("a", 5, 40)
