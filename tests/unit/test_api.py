"""The Engine API's parts without a server: which function answers, what a body becomes, bytes between client and monitor."""

from __future__ import annotations

import re
import select
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("h11", reason="the extra `serve` is not installed")

import h11

from minirt.api import router, routes
from minirt.api.create import changes_of, options_of
from minirt.api.errors import ApiError
from minirt.api.files import Body
from minirt.api.http import Connection, Request
from minirt.api.pump import Pump, farewell
from minirt.api.server import Listener, on_unix
from minirt.engine.host_config import host_config
from minirt.engine.monitor import ERROR, SHOWN, STATUS, TYPED, frame


def request(target: str, method: str = "GET") -> Request:
    """A request that has come on a connection of its own."""
    return Request(Connection(socket.socket()), h11.Request(method=method, target=target, headers=[("Host", "x")]))


# -- routes


def test_each_route_answers_its_own_paths() -> None:
    assert len(router.ROUTES) > 80 and routes.__all__
    for method, pattern, handler in router.ROUTES:
        path = re.sub(r"\(\?P<\w+>[^)]*\)", "some", pattern.pattern)
        for target in (path, f"/v1.45{path}"):
            assert router.find(request(target, method))[0] is handler, f"{method} {path} is answered by another"


def test_names_of_images_may_have_slashes() -> None:
    handler, parts = router.find(request("/v1.50/images/127.0.0.1:5000%2Fteam/app:1/json"))
    assert handler.__name__ == "inspect" and parts == {"name": "127.0.0.1:5000/team/app:1"}


@given(st.integers(0, 3), st.integers(0, 99))
def test_versions_from_the_oldest_to_the_newest_are_spoken(major: int, minor: int) -> None:
    target = request(f"/v{major}.{minor}/_ping")
    if router.OLDEST <= (major, minor) <= router.NEWEST:
        assert router.find(target)[0].__name__ == "ping" and target.version == (major, minor)
    else:
        with pytest.raises(ApiError) as caught:
            router.find(target)
        assert caught.value.status == 400


@pytest.mark.parametrize("text, truth", [("1", True), ("true", True), ("yes", True), ("0", False), ("False", False), ("", False)])
def test_truths_of_a_query(text: str, truth: bool) -> None:
    assert request(f"/x?a={text}").flag("a") is truth and request("/x").flag("a", True)


def test_filters_are_lists_or_the_older_objects() -> None:
    for text in ('{"label":["a=b"]}', '{"label":{"a=b":true,"c=d":false}}'):
        assert request(f"/x?filters={text}").filters() == {"label": ["a=b"]}
    for text in ("[", "[1]", '{"a":1}', '{"a":[1]}'):
        with pytest.raises(ApiError):
            request(f"/x?filters={text}").filters()


# -- bodies

ASKED: dict[str, Any] = {
    "Binds": ["/a:/b:ro"], "Memory": 1 << 27, "MemorySwap": -1, "NanoCpus": 1_500_000_000, "CpuShares": 512, "PidsLimit": 7,
    "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3}, "CapAdd": ["NET_ADMIN"], "CapDrop": ["ALL"],
    "Privileged": True, "ReadonlyRootfs": True, "ShmSize": 1 << 20, "Sysctls": {"net.ipv4.ip_forward": "1"}, "Init": True,
    "Tmpfs": {"/t": "size=1m", "/u": ""}, "Ulimits": [{"Name": "nofile", "Soft": 10, "Hard": 20}], "Dns": ["192.0.2.1"],
    "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}], "53/udp": [{"HostIp": "", "HostPort": ""}]},
    "Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/n", "CgroupPermissions": "r"}], "NetworkMode": "bridge",
    "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m"}}, "ExtraHosts": ["a:192.0.2.2"], "IpcMode": "shareable",
    "SecurityOpt": ["no-new-privileges"], "GroupAdd": ["5"], "OomScoreAdj": 5, "VolumesFrom": ["other"], "PidMode": "host",
}  # fmt: skip


@given(st.sets(st.sampled_from(sorted(ASKED))))
def test_what_a_client_asks_for_is_what_it_is_told_later(fields: set[str]) -> None:
    host = {field: ASKED[field] for field in fields}
    told = host_config(options_of({"Image": "busybox", "HostConfig": host}, ""))
    assert {field: told[field] for field in fields} == host


def test_commands_may_be_words_or_lists() -> None:
    for body, entrypoint, command in (
        ({"Cmd": "one"}, None, ["one"]), ({"Cmd": ["a", "b"]}, None, ["a", "b"]), ({"Entrypoint": [""]}, "", []),
        ({"Entrypoint": ["e", "f"], "Cmd": ["g"]}, "e", ["f", "g"]), ({}, None, []),
    ):  # fmt: skip
        options = options_of({"Image": "busybox", **body}, "box")
        assert (options.entrypoint, options.command, options.name) == (entrypoint, command, "box")


def test_an_update_changes_what_it_names_alone() -> None:
    assert changes_of({"Memory": 1 << 27, "RestartPolicy": {"Name": ""}, "CpuShares": 0}) == {"memory": str(1 << 27)}
    assert changes_of({"RestartPolicy": {"Name": "always"}}) == {"restart": "always"}


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=8), st.lists(st.integers(1, 40), min_size=1, max_size=5))
def test_a_body_reads_like_a_file_however_it_came(pieces: list[bytes], sizes: list[int]) -> None:
    body, read = Body(iter(pieces)), b""
    while piece := body.read(sizes[len(read) % len(sizes)]):
        read += piece
    assert read == b"".join(pieces) and body.read() == b""


# -- between a client and a monitor


def echo(monitor: socket.socket) -> None:
    """A monitor whose program says again what it reads, in turn on its two outputs, and ends with its input."""
    coming, number = bytearray(), 0
    while True:
        coming += monitor.recv(65536)
        while len(coming) >= 8 and len(coming) >= 8 + (size := int.from_bytes(coming[4:8], "big")):
            assert coming[0] == TYPED
            data = bytes(coming[8 : 8 + size])
            del coming[: 8 + size]
            if not data:
                monitor.sendall(frame(STATUS, (7 << 8).to_bytes(4, "big")))
                monitor.close()
                return
            number += 1
            monitor.sendall(frame(SHOWN if number % 2 else ERROR, data))


def through(data: bytes, already: bytes, tty: bool, streams: set[int]) -> tuple[bytes, int | None]:
    """Send data through a pump and such a monitor; return what comes back, and the status."""
    outer, client = socket.socketpair()
    inner, monitor = socket.socketpair()
    pump = Pump((client, already), inner, tty=tty, stdin=True, streams=streams)

    def run() -> None:
        pump.run()
        farewell(client)
        client.close()

    threads = [threading.Thread(target=run), threading.Thread(target=echo, args=(monitor,))]
    writer = threading.Thread(target=lambda: (outer.sendall(data), outer.shutdown(socket.SHUT_WR)))
    for thread in (*threads, writer):
        thread.start()
    back = b""
    outer.settimeout(60)
    while piece := outer.recv(65536):
        back += piece
    for thread in (*threads, writer):
        thread.join(60)
    outer.close()
    inner.close()
    return back, pump.status


def payload(frames: bytes) -> bytes:
    data = b""
    while frames:
        assert frames[0] in (1, 2) and frames[1:4] == b"\0\0\0"
        size = int.from_bytes(frames[4:8], "big")
        data, frames = data + frames[8 : 8 + size], frames[8 + size :]
    return data


@given(st.binary(max_size=2000), st.binary(max_size=100), st.booleans())
def test_what_goes_in_comes_out_in_frames_or_as_it_is(data: bytes, already: bytes, tty: bool) -> None:
    back, status = through(data, already, tty, {1, 2})
    assert (back if tty else payload(back)) == already + data and status == 7 << 8


def test_megabytes_do_not_stand_still_where_both_sides_are_full() -> None:
    data = bytes(range(256)) * 32768
    back, _ = through(data, b"", False, {1, 2})
    assert payload(back) == data


def test_a_stream_that_nobody_asked_for_is_left_out() -> None:
    back, _ = through(b"x" * 100_000, b"", False, {2})
    assert back[:1] in (b"", b"\2") and b"\1\0\0\0" not in back and len(payload(back)) < 100_000


def test_a_socket_that_a_killed_server_s_child_still_holds_is_taken_over(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    held = socket.socket(socket.AF_UNIX)
    held.bind(path)
    held.listen()

    def let_go() -> None:
        select.select([held], [], [])  # who wants to know whether it is served has come
        held.close()

    holder = threading.Thread(target=let_go)
    holder.start()
    listener = on_unix(path)
    holder.join()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        listener.socket.accept()[0].close()
    listener.socket.close()


def test_a_server_without_descriptors_serves_again_when_it_has_some(tmp_path: Path) -> None:
    """In a process of its own, whose descriptors are soon all in use."""
    script = """
import resource, socket, sys, threading
from minirt.api.server import Listener, on_unix
listener = on_unix(sys.argv[1])
threading.Thread(target=listener.accept, daemon=True).start()
clients = [socket.socket(socket.AF_UNIX) for _ in range(40)]
def is_served(client):
    client.settimeout(60)
    client.sendall(b"GET /_ping HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
    return client.recv(8) == b"HTTP/1.1"
first, *others, late = clients
first.connect(sys.argv[1])
assert is_served(first)  # what has to be imported is
resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))
for client in (*others, late):
    client.connect(sys.argv[1])
assert is_served(others[0])
for client in (first, *others):
    client.close()
assert is_served(late)
"""
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "socket"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_a_request_is_one_line_of_the_log_whatever_its_path(caplog: pytest.LogCaptureFixture) -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(b"GET /_ping%0a%1b[31mDELETE%20/all HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    with caplog.at_level("INFO", "minirt.api"):
        Listener(ours, "x").attend(ours)
    assert theirs.recv(12) == b"HTTP/1.1 404"
    assert [record.getMessage() for record in caplog.records] == ["GET /_ping%0a%1b[31mDELETE%20/all"]
