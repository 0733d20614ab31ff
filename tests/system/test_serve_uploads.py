"""Uploads: any order of chunks, lies, breaks, cancels and restarts, by two clients, against a model of some lines."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import uuid
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule, run_state_machine_as_test
from registry_server import Client, Server, digest_of, fresh

PIECES = st.binary(min_size=1, max_size=400) | st.integers(1, 255).map(lambda n: bytes([n]) * 70_000)
CLIENTS = st.sampled_from([0, 1])


def broken(client: Client, location: str, announced: int, data: bytes, range: str) -> None:
    """Send less than was announced, and hang up; return when the server has seen it, as it may be one of several processes."""
    connection = client.connection()
    connection.putrequest("PATCH", location)
    connection.putheader("Content-Length", str(announced))
    if range:
        connection.putheader("Content-Range", range)
    connection.endheaders(data)
    connection.sock.shutdown(socket.SHUT_WR)
    with contextlib.suppress(ConnectionError):
        while connection.sock.recv(1000):
            pass
    connection.close()


class Uploads(RuleBasedStateMachine):
    """The model: what each upload has so far, and which blobs are finished."""

    server: Server
    uploads = Bundle("uploads")

    def __init__(self) -> None:
        super().__init__()
        self.name = f"model/{uuid.uuid4().hex[:10]}"
        self.have: dict[str, bytes] = {}
        self.blobs: dict[str, bytes] = {}
        self.restarts = 0
        self.clients = [Client(self.server.url), Client(self.server.url)]

    @rule(target=uploads, who=CLIENTS)
    def begin(self, who: int) -> str:
        location = self.clients[who].begin(self.name)
        self.have[location] = b""
        return location

    @rule(upload=uploads, who=CLIENTS, data=PIECES, ranged=st.booleans())
    def append(self, upload: str, who: int, data: bytes, ranged: bool) -> None:
        begin = len(self.have[upload])
        headers = {"Content_Range": f"{begin}-{begin + len(data) - 1}"} if ranged else {}
        answer = self.clients[who]("PATCH", upload, data, **headers)
        assert answer.status == 202, answer.body
        self.have[upload] += data
        assert answer.headers["range"] == f"0-{len(self.have[upload]) - 1}"

    @rule(upload=uploads, who=CLIENTS, data=PIECES, by=st.integers(-500, 500).filter(bool))
    def append_elsewhere(self, upload: str, who: int, data: bytes, by: int) -> None:
        begin = max(0, len(self.have[upload]) + by)
        if begin != len(self.have[upload]):
            answer = self.clients[who]("PATCH", upload, data, Content_Range=f"{begin}-{begin + len(data) - 1}")
            assert answer.status == 416
            assert answer.headers["range"] == f"0-{max(0, len(self.have[upload]) - 1)}"

    @rule(upload=uploads, who=CLIENTS, data=PIECES, by=st.sampled_from([-1, 1, 1000]))
    def append_other_than_announced(self, upload: str, who: int, data: bytes, by: int) -> None:
        begin = len(self.have[upload])
        end = begin + len(data) - 1 + by
        if end >= begin:
            answer = self.clients[who]("PATCH", upload, iter([data]), Content_Range=f"{begin}-{end}")
            assert answer.status == 400 and answer.codes == ["SIZE_INVALID"]

    @rule(upload=uploads, who=CLIENTS, data=PIECES, more=st.integers(1, 100_000), ranged=st.booleans())
    def break_off(self, upload: str, who: int, data: bytes, more: int, ranged: bool) -> None:
        """What arrived before the connection broke is kept: from none to all of it."""
        begin = len(self.have[upload])
        announced = len(data) + more
        broken(self.clients[who], upload, announced, data, f"{begin}-{begin + announced - 1}" if ranged else "")
        self._catch_up(upload, data)

    def _catch_up(self, upload: str, data: bytes) -> None:
        """Ask where an upload is, as a client does before it goes on; the server may not have seen the break yet."""
        begin = len(self.have[upload])
        probe = self.clients[0]("PATCH", upload, b"", Content_Range=f"{10**9}-{10**9}", Content_Length="0")
        assert probe.status in (400, 416)
        end = int(self.clients[0]("GET", upload).headers["range"].partition("-")[2])
        size = end + 1 if end or (begin or self._has_a_byte(upload)) else 0
        assert begin <= size <= begin + len(data)
        self.have[upload] += data[: size - begin]

    def _has_a_byte(self, upload: str) -> bool:
        """`0-0` is said of none and of one byte: the disk knows."""
        name = upload.rpartition("/")[2]
        return (self.server.root / "repositories" / self.name / "_uploads" / name).stat().st_size > 0

    @rule(upload=uploads, data=PIECES)
    def append_at_once(self, upload: str, data: bytes) -> None:
        """Two clients send the same piece at the same time: one is right, the other too late."""
        begin = len(self.have[upload])
        statuses: list[int] = []

        def send(client: Client) -> None:
            statuses.append(client("PATCH", upload, data, Content_Range=f"{begin}-{begin + len(data) - 1}").status)

        threads = [threading.Thread(target=send, args=(client,)) for client in self.clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(statuses) == [202, 416], statuses
        self.have[upload] += data

    @rule(upload=consumes(uploads), who=CLIENTS, last=st.just(b"") | PIECES, algorithm=st.sampled_from(["sha256", "sha512"]))
    def finish(self, upload: str, who: int, last: bytes, algorithm: str) -> None:
        data = self.have.pop(upload) + last
        digest = digest_of(data, algorithm)
        answer = self.clients[who]("PUT", f"{upload}?digest={digest}", last)
        assert answer.status == 201, answer.body
        self.blobs[digest] = data
        assert self.clients[1 - who]("GET", f"/v2/{self.name}/blobs/{digest}").body == data
        assert self.clients[who]("GET", upload).status == 404

    @rule(upload=consumes(uploads), who=CLIENTS)
    def finish_as_something_else(self, upload: str, who: int) -> None:
        data = self.have.pop(upload)
        digest = digest_of(data + b"!")
        answer = self.clients[who]("PUT", f"{upload}?digest={digest}")
        assert answer.codes == ["DIGEST_INVALID"]
        assert self.clients[who]("GET", upload).status == 404

    @rule(upload=consumes(uploads), who=CLIENTS)
    def cancel(self, upload: str, who: int) -> None:
        self.have.pop(upload)
        assert self.clients[who]("DELETE", upload).status == 204

    @rule(number=st.sampled_from([signal.SIGKILL, signal.SIGTERM]))
    def restart(self, number: int) -> None:
        if self.restarts < 2:  # each takes a second
            self.restarts += 1
            self.server.restart(number)

    @invariant()
    def uploads_are_where_the_model_is(self) -> None:
        for upload, data in self.have.items():
            answer = self.clients[0]("GET", upload)
            assert (answer.status, answer.headers["range"]) == (204, f"0-{max(0, len(data) - 1)}")

    def teardown(self) -> None:
        """What is content is what it is called; what the model finished is there, and nothing else."""
        links = self.server.root / "repositories" / self.name / "_blobs"
        here = {f"{path.parent.name}:{path.name}" for path in links.glob("*/*") if path.exists()} & self.server.blobs
        assert here == set(self.blobs)
        for digest, data in self.blobs.items():
            assert self.clients[0]("GET", f"/v2/{self.name}/blobs/{digest}").body == data


def explore(examples: int, steps: int) -> None:
    how: Any = {"suppress_health_check": list(HealthCheck), "deadline": None}
    with fresh("-q") as Uploads.server:
        run_state_machine_as_test(Uploads, settings=settings(max_examples=examples, stateful_step_count=steps, **how))


@pytest.mark.timeout(300)
def test_uploads_follow_the_model() -> None:
    explore(8, 20)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_uploads_follow_the_model_for_long() -> None:
    explore(300, 40)


def test_an_upload_goes_on_at_another_server_of_the_same_directory(tmp_path: Path) -> None:
    """Each remembers the hash of what it saw; where the other went on, that is worth nothing."""
    servers = [Server(tmp_path / "r", "-q", "--workers", 1) for _ in range(2)]
    try:
        for algorithm in ("sha256", "sha512"):
            location, data = servers[0].client.begin("a"), b""
            for turn in (0, 1, 1, 0, 0, 1):
                piece = bytes([turn + 65]) * 1000
                headers = {"Content_Range": f"{len(data)}-{len(data) + 999}"}
                assert servers[turn].client("PATCH", location, piece, **headers).status == 202
                data += piece
            assert servers[0].client("PUT", f"{location}?digest={digest_of(data, algorithm)}").status == 201
            assert servers[1].client("GET", f"/v2/a/blobs/{digest_of(data, algorithm)}").body == data
    finally:
        for server in servers:
            server.stop()


@pytest.mark.parametrize("length", [0, 10])
def test_after_a_chunk_that_lied_the_upload_goes_on_from_before_it(tmp_path: Path, length: int) -> None:
    server = Server(tmp_path / "r", "-q", "--workers", 1)
    try:
        location, data = server.client.begin("a"), b"x" * length
        server.client("PATCH", location, data)
        for end in (length + 2, length + 20):
            assert server.client("PATCH", location, iter([b"five!"]), Content_Range=f"{length}-{end}").codes == ["SIZE_INVALID"]
        assert server.client("PUT", f"{location}?digest={digest_of(data + b'rest')}", b"rest").status == 201
    finally:
        server.stop()
