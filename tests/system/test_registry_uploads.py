"""Uploads that break off, or whose session is gone: what the registry has is not sent again, and what it gets is right."""

from __future__ import annotations

import hashlib
import itertools
import random
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from liars import Content, Loopback, Registry, Speaker

from minirt.image.remote import upload as uploads
from minirt.image.remote.errors import Denied
from minirt.image.remote.pull import Quiet, pull
from minirt.image.remote.push import push_image
from minirt.image.remote.registries import Place
from minirt.image.remote.registry import connect
from minirt.image.store import Image, Store

DATA = random.Random(2).randbytes(900_000)
DIGEST = "sha256:" + hashlib.sha256(DATA).hexdigest()


class Sessions(Loopback):
    """A registry that takes uploads (distribution-spec "Pushing a blob in chunks"), and breaks where it is told."""

    def __init__(self, breaks: list[int], forget: bool = False) -> None:
        super().__init__(Handler)
        self.breaks = breaks  # after so many bytes of a PATCH the connection ends, each once
        self.forget = forget  # and the session with it
        self.sessions: dict[str, bytearray] = {}
        self.numbers = itertools.count()
        self.blobs: dict[str, bytes] = {}
        self.received = 0
        self.elsewhere = 0  # how many PATCHes are sent on to another path first
        self.manifests: dict[str, bytes] = {}
        self.patches: list[str] = []  # Content-Range of each
        self.posts: list[str] = []  # query of each
        self.denied = ""  # a repository of which nobody may mount blobs

    def manifest(self, path: str) -> bytes | None:
        """Return the manifest of a path's tag or digest."""
        digests = {"sha256:" + hashlib.sha256(data).hexdigest(): data for data in self.manifests.values()}
        return (self.manifests | digests).get(path.rpartition("/")[2]) if "/manifests/" in path else None


class Handler(Speaker):
    server: Sessions

    def do_HEAD(self) -> None:
        manifest = self.server.manifest(self.path)
        if manifest is not None:
            self.answer(200, manifest, Docker_Content_Digest="sha256:" + hashlib.sha256(manifest).hexdigest())
        else:
            self.answer(200 if self.path.rpartition("/")[2] in self.server.blobs else 404)

    def do_POST(self) -> None:
        self.server.posts.append(self.path.partition("?")[2])
        if self.server.denied and parse_qs(urlsplit(self.path).query).get("from") == [self.server.denied]:
            self.answer(401, WWW_Authenticate=f'Bearer realm="http://{self.server.host}/token"')
            return
        name = f"s{next(self.server.numbers)}"  # never again one that has ended: uploads run side by side
        self.server.sessions[name] = bytearray()
        self.answer(202, Location=f"/v2/app/blobs/uploads/{name}?state=0")

    def do_GET(self) -> None:
        session = self.server.sessions.get(urlsplit(self.path).path.rpartition("/")[2])
        if self.path.startswith("/token"):
            allowed = f"repository:{self.server.denied}:pull" not in parse_qs(urlsplit(self.path).query)["scope"]
            self.answer(200 if allowed else 401, b'{"token": "any"}')
        elif self.path == "/v2/":
            self.answer(200)
        elif (manifest := self.server.manifest(self.path)) is not None:
            self.answer(200, manifest)
        elif session is None:
            self.answer(404)
        else:
            self.answer(204, Range=f"0-{max(len(session) - 1, 0)}", Location=self.path)

    def do_DELETE(self) -> None:
        self.answer(204 if self.server.sessions.pop(urlsplit(self.path).path.rpartition("/")[2], None) is not None else 404)

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
        if "/manifests/" in parts.path:
            self.server.manifests[parts.path.rpartition("/")[2]] = self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(201)
            return
        digest = parse_qs(parts.query)["digest"][0]
        data = bytes(self.server.sessions.pop(parts.path.rpartition("/")[2]))
        good = "sha256:" + hashlib.sha256(data).hexdigest() == digest
        if good:
            self.server.blobs[digest] = data
        self.answer(201 if good else 400)


def send(server: Sessions, data: bytes = DATA, sources: list[str] | None = None) -> list[int]:
    """Upload a blob. Args: sources, repositories that may have it. Returns what was told of progress."""
    told: list[int] = []
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    repository = connect(Place(server.host, "app", True))
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        how = uploads.upload(repository, file.fileno(), {"digest": digest, "size": len(data)}, told.append, sources)
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


def test_where_no_neighbour_has_the_blob_it_is_sent_and_no_upload_stays_open() -> None:
    with Sessions([]) as server:
        told = send(server, sources=["a", "b"])
        assert [parse_qs(query).get("from") for query in server.posts] == [["a"], ["b"]]
        assert sum(told) == len(DATA) == server.received and server.sessions == {}


def test_where_the_neighbour_may_not_be_read_the_blob_is_sent() -> None:
    """Here it is who gives out the tokens that says no."""
    with Sessions([]) as server:
        server.denied = "secret"
        assert sum(send(server, sources=["secret"])) == len(DATA) == server.received
        assert len(server.posts) == 2 and not server.posts[1]


def test_an_empty_blob_is_pushed() -> None:
    with Sessions([]) as server:
        assert sum(send(server, b"")) == 0


def test_a_chunk_that_is_redirected_is_sent_there_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "CHUNK", 400_000)
    with Sessions([]) as server:
        server.elsewhere = 2
        told = send(server)
    assert sum(told) == len(DATA) == server.received and len(server.patches) == 3


class Refusing(Sessions):
    """Takes no blob of more than 100 kB; the others it leaves hanging until it has said so."""

    def __init__(self) -> None:
        super().__init__([])
        self.RequestHandlerClass = RefusingHandler
        self.refused = threading.Event()


class RefusingHandler(Handler):
    server: Refusing

    def do_PATCH(self) -> None:
        length = int(self.headers["Content-Length"])
        if length > 100_000:
            self.rfile.read(length)
            self.answer(403)
            self.server.refused.set()
        else:
            assert self.server.refused.wait(60)
            self.close_connection = True


@pytest.fixture(scope="module")
def pulled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Image]]:
    """An image of a small layer and a large one, in a store."""
    store = Store(str(tmp_path_factory.mktemp("store")))
    with Registry(Content()) as origin:
        yield store, pull(store, f"{origin.host}/two:1", verify=False)


def test_a_push_tells_what_went_wrong_and_not_what_was_stopped_by_it(pulled: tuple[Store, Image]) -> None:
    with Refusing() as server, pytest.raises(Denied, match="403"):
        push_image(pulled[0], connect(Place(server.host, "app", True)), pulled[1], "1", Quiet())


def test_an_image_that_cannot_be_read_does_not_keep_another_from_being_pushed(
    pulled: tuple[Store, Image], tmp_path: Path
) -> None:
    store, image = pulled
    with store.adding():
        entry = store.blobs.add(b'{"no": "manifest"}', str(image.descriptor["mediaType"]))
        store.set_name("broken", entry)
    with Sessions([]) as server:
        repository = connect(Place(server.host, "app", True))
        push_image(store, repository, image, "1", Quiet())
        assert server.manifests["1"] == store.blobs.read(image.descriptor)
        assert set(server.blobs) == {str(one["digest"]) for one in [image.manifest["config"], *image.manifest["layers"]]}
    assert [one.name for one in store.readable()] == [image.name]
    assert store.resolve(image.id.partition(":")[2][:12]).name == image.name


def test_what_refers_to_another_is_listed_even_if_its_push_was_killed_in_between(pulled: tuple[Store, Image]) -> None:
    store, image = pulled
    subject = {name: image.descriptor[name] for name in ("mediaType", "digest", "size")}
    with store.adding():
        notes = {"who": "ada"}
        written = store.add_image(image.config, image.manifest["layers"], notes, {"subject": subject, "artifactType": "a/b"})
        store.set_name("about", written)
    about = store.resolve("about")
    with Sessions([]) as server:
        repository = connect(Place(server.host, "app", True))
        server.manifests = {"1": store.blobs.read(about.descriptor)}  # all that the first push came to
        push_image(store, repository, about, "1", Quiet())
        assert [(one["digest"], one["artifactType"], one["annotations"]) for one in repository.referrers(image.digest)] == [
            (about.digest, "a/b", notes)
        ]
