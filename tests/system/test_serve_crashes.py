"""A registry that is killed, or whose disk is full: no half blob is ever served, and the repeated push goes on."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import resource
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from registry_server import MANIFEST, Client, Server, digest_of, fresh, image

BROKEN = (OSError, http.client.HTTPException, AssertionError)


@pytest.fixture
def server() -> Iterator[Server]:
    with fresh("-q") as server:
        yield server


class Pusher(threading.Thread):
    """A client that pushes an image as clients do: HEAD before each blob, the manifest last; it may break off."""

    def __init__(self, client: Client, name: str, layers: list[bytes]) -> None:
        super().__init__()
        self.client = client
        self.name_ = name
        self.layers = layers
        self.sent: list[str] = []  # digests of the blobs that had to be sent
        self.kept: list[str] = []  # ... whose 201 came
        self.done = False

    def run(self) -> None:
        with contextlib.suppress(*BROKEN):
            self.push()

    def push(self) -> None:
        for data in [b"{}", *self.layers]:
            digest = digest_of(data)
            if self.client("HEAD", f"/v2/{self.name_}/blobs/{digest}").status == 200:
                continue
            self.sent.append(digest)
            self._blob(data)
            self.kept.append(digest)
        config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest_of(b"{}"), "size": 2}
        layers = [{"mediaType": "application/x", "digest": digest_of(data), "size": len(data)} for data in self.layers]
        document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}
        self.client.push_manifest(self.name_, "v1", document)
        self.done = True

    def _blob(self, data: bytes) -> None:
        location = self.client.begin(self.name_)
        half = len(data) // 2
        if half:
            assert self.client("PATCH", location, data[:half], Content_Range=f"0-{half - 1}").status == 202
        assert self.client("PUT", f"{location}?digest={digest_of(data)}", data[half:]).status == 201


def kill_pushes(server: Server, rounds: int, rng: random.Random) -> None:
    for number in range(rounds):
        layers = [rng.randbytes(rng.choice([10, 100_000, 3_000_000])) for _ in range(4)]
        name = f"killed/{number}"
        pusher = Pusher(server.client, name, layers)
        pusher.start()
        time.sleep(rng.random() * 0.12)
        server.stop(signal.SIGKILL)
        pusher.join(30)
        server.start(server.port)
        assert server.blobs is not None  # each is what it is called
        tagged = server.client("GET", f"/v2/{name}/manifests/v1").status == 200
        for data in layers:
            answer = server.client("GET", f"/v2/{name}/blobs/{digest_of(data)}")
            assert (answer.status == 200 and answer.body == data) or (answer.status == 404 and not tagged)
        again = Pusher(server.client, name, layers)
        again.push()
        assert again.done and not set(again.sent) & set(pusher.kept), "what was answered with 201 is not sent again"
        assert server.client("GET", f"/v2/{name}/manifests/v1").status == 200


@pytest.mark.timeout(300)
def test_a_server_that_is_killed_during_pushes_serves_whole_blobs_and_the_push_goes_on(server: Server) -> None:
    kill_pushes(server, 8, random.Random(6))
    gone = server.gc("--stale", 0, "--grace", 0)
    assert {found["kind"] for found in gone} <= {"upload", "link", "blob"} and not list(server.root.glob("tmp/*"))
    assert not list(server.root.glob("repositories/killed/*/_uploads/*"))
    for number in range(8):
        assert server.client("GET", f"/v2/killed/{number}/manifests/v1").status == 200


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_two_hundred_kills(server: Server) -> None:
    kill_pushes(server, 200, random.Random())


def test_an_upload_goes_on_after_a_kill(server: Server) -> None:
    """spec.md#pushing-a-blob-in-chunks: a GET says where."""
    data = os.urandom(1_000_000)
    location = server.client.begin("a")
    server.client("PATCH", location, data[:700_000], Content_Range="0-699999")
    server.restart(signal.SIGKILL)
    assert server.client("GET", location).headers["range"] == "0-699999"
    assert server.client("PATCH", location, data[700_000:], Content_Range="700000-999999").status == 202
    assert server.client("PUT", f"{location}?digest={digest_of(data)}").status == 201
    assert server.client("GET", f"/v2/a/blobs/{digest_of(data)}").body == data


def test_pulls_go_on_to_their_end_when_the_server_is_told_to_stop(server: Server) -> None:
    data = os.urandom(40_000_000)
    digest = server.client.push_blob("a", data)
    connection = server.client.connection()
    connection.request("GET", f"/v2/a/blobs/{digest}")
    response = connection.getresponse()
    first = response.read(1000)
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert first + response.read() == data
    assert server.process.wait(20) == 0
    server.start(server.port)


def workers(server: Server) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()]


def test_connections_that_say_nothing_keep_nobody_out(tmp_path: Path) -> None:
    """Of descriptors there are 1024 by default, and a client may have as many idle ones."""
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < 2048:
        pytest.skip(f"no process here may have more than {most} descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, most))  # as a shell has it
    server = Server(tmp_path / "r", "-q", "--workers", 1)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(1100)]
    try:
        assert server.client("GET", "/v2/").status == 200
    finally:
        for one in idle:
            one.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, most))
        server.stop()


def test_a_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    server = Server(tmp_path / "r", "-q", "--workers", 2)
    try:
        digest = server.client.push_blob("a", b"blob")
        time.sleep(2.1)  # who dies sooner would do so again
        for pid in workers(server):
            os.kill(pid, signal.SIGKILL)
        assert server.client("GET", f"/v2/a/blobs/{digest}").body == b"blob"
        assert len(workers(server)) == 2
    finally:
        server.stop()
    assert server.process.returncode == 0


def test_workers_die_with_who_began_them(tmp_path: Path) -> None:
    server = Server(tmp_path / "r", "-q", "--workers", 2)
    assert server.client("GET", "/v2/").status == 200
    pids = workers(server)
    server.stop(signal.SIGKILL)
    end = time.monotonic() + 20
    while any(Path(f"/proc/{pid}/exe").exists() for pid in pids):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert len(pids) == 2


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Server]:
    """A registry on a file system of 12 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs takes root")
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", place], check=True)
    server = Server(place / "r", "-q")
    yield server
    server.stop()
    subprocess.run(["umount", place], check=True)


@pytest.mark.root
def test_a_full_disk_keeps_what_was_there_and_takes_what_fits(small: Server) -> None:
    client = small.client
    digest = client.push_image("a", "v1", os.urandom(3_000_000))
    too_much = os.urandom(20_000_000)
    location = client.begin("a")
    with contextlib.suppress(ConnectionError):  # the answer may come before all was sent
        answer = client("PUT", f"{location}?digest={digest_of(too_much)}", too_much)
        assert answer.status == 507 and answer.codes == ["UNKNOWN"]
    assert client("GET", location).status == 404, "its space is free"
    assert client("GET", f"/v2/a/blobs/{digest_of(too_much)}").status == 404
    assert client("GET", "/v2/a/manifests/v1").headers["docker-content-digest"] == digest
    assert client.push_image("a", "v2", os.urandom(4_000_000))
    assert len(small.blobs) == 5


@pytest.mark.root
def test_a_manifest_for_which_there_is_no_room_leaves_the_tag_as_it_was(small: Server) -> None:
    client = small.client
    digest = client.push_image("a", "v1", b"layer")
    document = image(client, "a", b"layer", annotations={"a": "x" * 3_000_000})
    with open(small.root / "ballast", "wb") as stream, contextlib.suppress(OSError):
        while True:
            stream.write(bytes(1 << 16))
            stream.flush()
    answer = client("PUT", "/v2/a/manifests/v1", json.dumps(document).encode(), Content_Type=MANIFEST)
    assert answer.status == 507
    assert client("GET", "/v2/a/manifests/v1").headers["docker-content-digest"] == digest
    (small.root / "ballast").unlink()
    assert client.push_manifest("a", "v1", document) != digest
    small.gc("--grace", 0)
    assert client("GET", "/v2/a/manifests/v1").status == 200 and not list(small.root.glob("tmp/*"))
