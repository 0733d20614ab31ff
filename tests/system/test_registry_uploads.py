"""Uploads that break off, or whose session is gone: what the registry has is not sent again, and what it gets is right."""

from __future__ import annotations

import hashlib
import random
import tempfile
from urllib.parse import parse_qs, urlsplit

import pytest
from liars import Loopback, Speaker

from minirt.image.remote import upload as uploads
from minirt.image.remote.registries import Place
from minirt.image.remote.registry import connect

DATA = random.Random(2).randbytes(900_000)
DIGEST = "sha256:" + hashlib.sha256(DATA).hexdigest()


class Sessions(Loopback):
    """A registry that takes uploads (distribution-spec "Pushing a blob in chunks"), and breaks where it is told."""

    def __init__(self, breaks: list[int], forget: bool = False) -> None:
        super().__init__(Handler)
        self.breaks = breaks  # after so many bytes of a PATCH the connection ends, each once
        self.forget = forget  # and the session with it
        self.sessions: dict[str, bytearray] = {}
        self.blobs: dict[str, bytes] = {}
        self.received = 0
        self.elsewhere = 0  # how many PATCHes are sent on to another path first
        self.patches: list[str] = []  # Content-Range of each


class Handler(Speaker):
    server: Sessions

    def do_HEAD(self) -> None:
        self.answer(200 if self.path.rpartition("/")[2] in self.server.blobs else 404)

    def do_POST(self) -> None:
        name = f"s{len(self.server.sessions)}"
        self.server.sessions[name] = bytearray()
        self.answer(202, Location=f"/v2/app/blobs/uploads/{name}?state=0")

    def do_GET(self) -> None:
        session = self.server.sessions.get(urlsplit(self.path).path.rpartition("/")[2])
        if self.path == "/v2/":
            self.answer(200)
        elif session is None:
            self.answer(404)
        else:
            self.answer(204, Range=f"0-{max(len(session) - 1, 0)}", Location=self.path)

    def do_PATCH(self) -> None:
        if self.server.elsewhere:
            self.server.elsewhere -= 1
            self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(307, Location=self.path + "&again")
            return
        name = urlsplit(self.path).path.rpartition("/")[2]
        session = self.server.sessions.get(name)
        if session is None:
            self.answer(404)
            return
        self.server.patches.append(self.headers["Content-Range"])
        first, left = int(self.headers["Content-Range"].partition("-")[0]), int(self.headers["Content-Length"])
        assert first == len(session)
        stop = self.server.breaks.pop(0) if self.server.breaks else left
        data = self.rfile.read(min(stop, left))
        session += data
        self.server.received += len(data)
        if stop < left:
            if self.server.forget:
                del self.server.sessions[name]
            self.close_connection = True
            return
        self.answer(202, Location=f"/v2/app/blobs/uploads/{name}?state={len(session)}", Range=f"0-{len(session) - 1}")

    def do_PUT(self) -> None:
        parts = urlsplit(self.path)
        digest = parse_qs(parts.query)["digest"][0]
        data = bytes(self.server.sessions.pop(parts.path.rpartition("/")[2]))
        good = "sha256:" + hashlib.sha256(data).hexdigest() == digest
        if good:
            self.server.blobs[digest] = data
        self.answer(201 if good else 400)


def send(server: Sessions, data: bytes = DATA) -> list[int]:
    """Upload a blob. Returns what was told of progress."""
    told: list[int] = []
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    repository = connect(Place(server.host, "app", True))
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        how = uploads.upload(repository, file.fileno(), {"digest": digest, "size": len(data)}, told.append)
    assert how == "pushed" and server.blobs == {digest: data}
    return told


def test_an_upload_that_breaks_off_is_gone_on_with() -> None:
    with Sessions([300_000, 200_000]) as server:
        told = send(server)
    assert server.received == len(DATA), "nothing was sent twice"
    assert [text.partition("-")[0] for text in server.patches] == ["0", "300000", "500000"]
    assert sum(told) == len(DATA)


def test_an_upload_whose_session_is_gone_begins_again() -> None:
    with Sessions([300_000], forget=True) as server:
        told = send(server)
    assert sum(told) == len(DATA) and server.received == len(DATA) + 300_000


def test_a_large_blob_goes_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "CHUNK", 250_000)
    with Sessions([]) as server:
        send(server)
    assert server.patches == ["0-249999", "250000-499999", "500000-749999", "750000-899999"]


def test_a_chunk_that_breaks_off_is_gone_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "CHUNK", 400_000)
    with Sessions([400_000, 1]) as server:
        send(server)
    assert server.received == len(DATA)


def test_an_empty_blob_is_pushed() -> None:
    with Sessions([]) as server:
        assert sum(send(server, b"")) == 0


def test_a_chunk_that_is_redirected_is_sent_there_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "CHUNK", 400_000)
    with Sessions([]) as server:
        server.elsewhere = 2
        told = send(server)
    assert sum(told) == len(DATA) == server.received and len(server.patches) == 3
