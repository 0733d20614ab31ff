"""A cache of another registry: what is not here is fetched once, and what cannot be fetched is served as it was."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from registry_server import INDEX, MANIFEST, Client, Server, digest_of, image


class Pair:
    """A registry and a cache of it."""

    def __init__(self, place: Path, *options: object) -> None:
        self.origin = Server(place / "origin")
        self.cache = Server(place / "cache", "-q", "--proxy", self.origin.url, *options)

    def requests(self) -> list[str]:
        """What the origin was asked for so far: `GET /v2/…`."""
        self.origin.log.seek(0)
        return [line.split('"')[1].rsplit(" ", 1)[0] for line in self.origin.log if '"' in line]

    def stop(self) -> None:
        for server in (self.cache, self.origin):
            if server.process.poll() is None:
                server.stop()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    pair = Pair(tmp_path)
    yield pair
    pair.stop()


def test_what_is_not_here_is_fetched_once(pair: Pair) -> None:
    layer = os.urandom(5_000_000)
    digest = pair.origin.client.push_image("team/app", "v1", layer)
    client = pair.cache.client
    for _ in range(2):
        answer = client("GET", "/v2/team/app/manifests/v1", Accept=MANIFEST)
        assert answer.headers["docker-content-digest"] == digest
        assert client("GET", f"/v2/team/app/blobs/{digest_of(layer)}").body == layer
    asked = pair.requests()
    assert asked.count(f"GET /v2/team/app/blobs/{digest_of(layer)}") == 1
    assert asked.count("GET /v2/team/app/manifests/v1") == 1 and asked.count("HEAD /v2/team/app/manifests/v1") == 1
    assert pair.cache.blobs == {digest, digest_of(layer)}


def test_many_who_want_a_blob_at_once_have_it_fetched_once(pair: Pair) -> None:
    layer = os.urandom(20_000_000)
    pair.origin.client.push_image("a", "v1", layer)
    bodies: list[str] = []
    threads = [
        threading.Thread(target=lambda: bodies.append(digest_of(pair.cache.client("GET", f"/v2/a/blobs/{digest_of(layer)}").body)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bodies == [digest_of(layer)] * 8
    assert pair.requests().count(f"GET /v2/a/blobs/{digest_of(layer)}") == 1


def test_a_tag_that_changed_is_fetched_again(pair: Pair) -> None:
    for layer in (b"1", b"2"):
        digest = pair.origin.client.push_image("a", "v1", layer)
        assert pair.cache.client("GET", "/v2/a/manifests/v1").headers["docker-content-digest"] == digest
    pair.origin.client("DELETE", f"/v2/a/manifests/{digest}")
    assert pair.cache.client("GET", "/v2/a/manifests/v1").codes == ["MANIFEST_UNKNOWN"]


def test_what_is_here_is_served_while_the_origin_is_away(pair: Pair) -> None:
    digest = pair.origin.client.push_image("a", "v1", b"layer")
    pair.origin.client.push_image("a", "v2", b"other")
    client = pair.cache.client
    client("GET", "/v2/a/manifests/v1")
    client("GET", f"/v2/a/blobs/{digest_of(b'layer')}")
    pair.origin.stop()
    assert client("GET", "/v2/a/manifests/v1").headers["docker-content-digest"] == digest
    assert client("GET", f"/v2/a/manifests/{digest}").status == 200
    assert client("GET", f"/v2/a/blobs/{digest_of(b'layer')}").body == b"layer"
    assert client("GET", "/v2/a/tags/list").json()["tags"] == ["v1"]
    missing = client("GET", "/v2/a/manifests/v2")
    assert (missing.status, missing.codes) == (502, ["UNKNOWN"])
    assert client("GET", f"/v2/a/blobs/{digest_of(b'other')}").status == 502


def test_an_index_comes_before_its_images(pair: Pair) -> None:
    origin = pair.origin.client
    child = origin.push_image("a", "child", b"layer")
    item = {"mediaType": MANIFEST, "digest": child, "size": 7}
    origin.push_manifest("a", "v1", {"schemaVersion": 2, "mediaType": INDEX, "manifests": [item]})
    client = pair.cache.client
    assert client("GET", "/v2/a/manifests/v1", Accept=INDEX).json()["manifests"] == [item]
    assert client("GET", f"/v2/a/manifests/{child}").headers["docker-content-digest"] == child


def test_lists_are_the_origin_s(pair: Pair) -> None:
    origin = pair.origin.client
    subject = origin.push_image("a", "v1")
    origin.push_image("a", "v2", subject={"mediaType": MANIFEST, "digest": subject, "size": 7}, artifactType="x/y")
    client = pair.cache.client
    answer = client("GET", "/v2/a/tags/list?n=1")
    assert answer.json()["tags"] == ["v1"] and "last=v1" in answer.headers["link"]
    found = client("GET", f"/v2/a/referrers/{subject}?artifactType=x/y")
    assert len(found.json()["manifests"]) == 1 and found.headers["oci-filters-applied"] == "artifactType"


def test_head_of_a_blob_fetches_nothing(pair: Pair) -> None:
    digest = pair.origin.client.push_blob("a", b"content")
    answer = pair.cache.client("HEAD", f"/v2/a/blobs/{digest}")
    assert (answer.status, answer.headers["content-length"]) == (200, "7") and pair.cache.blobs == set()
    assert pair.cache.client("HEAD", f"/v2/a/blobs/sha256:{'0' * 64}").status == 404


def test_a_range_of_what_is_not_here(pair: Pair) -> None:
    digest = pair.origin.client.push_blob("a", b"0123456789")
    answer = pair.cache.client("GET", f"/v2/a/blobs/{digest}", Range="bytes=3-5")
    assert (answer.status, answer.body) == (206, b"345")


def test_nothing_is_pushed_to_a_cache(pair: Pair) -> None:
    assert pair.cache.client("POST", "/v2/a/blobs/uploads/").codes == ["UNSUPPORTED"]


@pytest.mark.parametrize("auth", ["token", "basic"])
def test_the_origin_wants_a_password(tmp_path: Path, auth: str) -> None:
    from minirt.registry.users import set_password

    set_password(str(tmp_path / "users"), "cache", "secret")
    (tmp_path / "password").write_text("cache:secret\n")
    origin = Server(tmp_path / "origin", "-q", "--htpasswd", tmp_path / "users", "--auth", auth)
    cache = Server(tmp_path / "cache", "-q", "--proxy", origin.url, "--proxy-auth", tmp_path / "password")
    other = Server(tmp_path / "other", "-q", "--proxy", origin.url)
    try:
        import base64

        client = Client(origin.url, {"Authorization": "Basic " + base64.b64encode(b"cache:secret").decode()})
        digest = client.push_image("a", "v1", b"layer")
        assert cache.client("GET", "/v2/a/manifests/v1").headers["docker-content-digest"] == digest
        assert cache.client("GET", f"/v2/a/blobs/{digest_of(b'layer')}").body == b"layer"
        refused = other.client("GET", "/v2/a/manifests/v1")
        assert (refused.status, refused.codes) == (403, ["DENIED"])
    finally:
        for server in (origin, cache, other):
            server.stop()


class Liar(http.server.BaseHTTPRequestHandler):
    """A registry that says what the test wants: path -> (status, headers, body), or a function of the request's number."""

    answers: dict[str, Any] = {}
    count = 0
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        Liar.count += 1
        status, headers, body, sent = self.answers[self.path](Liar.count, self.headers)
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[:sent])
        if sent < len(body):
            self.close_connection = True

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        """Be quiet."""


@pytest.fixture
def liar(tmp_path: Path) -> Iterator[Server]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Liar)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    Liar.answers, Liar.count = {}, 0
    cache = Server(tmp_path / "cache", "-q", "--proxy", f"http://127.0.0.1:{server.server_port}")
    yield cache
    cache.stop()
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_blob_with_a_wrong_digest_is_never_whole(liar: Server) -> None:
    data = os.urandom(500_000)
    digest = digest_of(b"something else")
    Liar.answers[f"/v2/a/blobs/{digest}"] = lambda *_: (200, {}, data, len(data))
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        liar.client("GET", f"/v2/a/blobs/{digest}")
    assert liar.blobs == set() and not list(liar.root.glob("repositories/a/_uploads/*"))


def test_a_manifest_with_a_wrong_digest_is_refused(liar: Server) -> None:
    data = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}).encode()
    digest = digest_of(data + b" ")
    Liar.answers[f"/v2/a/manifests/{digest}"] = lambda *_: (200, {"Content-Type": INDEX}, data, len(data))
    Liar.answers["/v2/a/manifests/v1"] = lambda *_: (200, {"Content-Type": INDEX, "Docker-Content-Digest": digest}, data, len(data))
    for reference in (digest, "v1"):
        answer = liar.client("GET", f"/v2/a/manifests/{reference}")
        assert (answer.status, answer.codes) == (502, ["UNKNOWN"])
    assert liar.blobs == set()


def test_a_download_that_breaks_off_goes_on(liar: Server) -> None:
    data = os.urandom(3_000_000)

    def answer(count: int, headers: Any) -> Any:
        begin = int(headers.get("Range", "bytes=0-")[6:].rstrip("-"))
        if begin:
            return 206, {"Content-Range": f"bytes {begin}-{len(data) - 1}/{len(data)}"}, data[begin:], len(data)
        return 200, {}, data, 1_000_000

    Liar.answers[f"/v2/a/blobs/{digest_of(data)}"] = answer
    assert hashlib.sha256(liar.client("GET", f"/v2/a/blobs/{digest_of(data)}").body).hexdigest() == digest_of(data)[7:]
    assert Liar.count == 2


def test_a_download_that_begins_again_is_not_sent_twice(liar: Server) -> None:
    """An origin without ranges answers 200 to the rest: all of it, again."""
    data = os.urandom(3_000_000)
    Liar.answers[f"/v2/a/blobs/{digest_of(data)}"] = lambda count, headers: (200, {}, data, 1_000_000 if count == 1 else len(data))
    assert liar.client("GET", f"/v2/a/blobs/{digest_of(data)}").body == data


@pytest.mark.parametrize("status,wanted", [(404, 404), (429, 502), (503, 502), (403, 403)])
def test_what_the_origin_says_instead(liar: Server, status: int, wanted: int) -> None:
    Liar.answers["/v2/a/manifests/v1"] = lambda *_: (status, {}, b"", 0)
    assert liar.client("GET", "/v2/a/manifests/v1").status == wanted


@pytest.mark.parametrize("answer", [
    b"no json", b"[]", b"{}", b'{"token": 7}', b'{"token": "a\\nb"}', b'{"token": "t", "expires_in": "soon"}', b" " * (1 << 21),
])  # fmt: skip
def test_a_token_server_that_talks_nonsense_is_told(liar: Server, answer: bytes) -> None:
    def guarded(count: int, headers: Any) -> Any:
        realm = f"http://{headers['Host']}/token"
        return 401, {"WWW-Authenticate": f'Bearer realm="{realm}",service="x"'}, b"", 0

    Liar.answers["/v2/a/manifests/v1"] = guarded
    Liar.answers["/token?service=x&scope=repository:a:pull"] = lambda *_: (200, {}, answer, len(answer))
    refused = liar.client("GET", "/v2/a/manifests/v1")
    assert (refused.status, refused.codes) == (502, ["UNKNOWN"])


def test_a_password_for_the_origin_is_not_sent_in_the_clear() -> None:
    """The origin speaks TLS; where it says that tokens are had need not."""
    import asyncio
    from types import SimpleNamespace

    from minirt.registry.upstream import Offline, Upstream

    response = SimpleNamespace(headers={"WWW-Authenticate": 'Bearer realm="http://127.0.0.1:1/token"'}, release=lambda: None)
    upstream = Upstream("https://registry.example", "ada", "secret")
    with pytest.raises(Offline, match="which is not https"):
        asyncio.run(upstream._authorize(response, "repository:a:pull"))  # type: ignore[arg-type]


def test_a_tag_stays_where_the_origin_only_says_that_it_will_not(liar: Server) -> None:
    data = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}).encode()
    Liar.answers["/v2/a/manifests/v1"] = lambda *_: (200, {"Content-Type": INDEX}, data, len(data))
    assert liar.client("GET", "/v2/a/manifests/v1").status == 200
    Liar.answers["/v2/a/manifests/v1"] = lambda *_: (405, {}, b"", 0)
    assert liar.client("GET", "/v2/a/manifests/v1").status == 404
    assert list(liar.root.glob("repositories/a/_tags/v1=")), "it is gone there only where it says so: by 404"


def test_a_client_that_goes_away_does_not_stop_the_download(pair: Pair) -> None:
    layer = os.urandom(30_000_000)
    pair.origin.client.push_blob("a", layer)
    connection = pair.cache.client.connection()
    connection.request("GET", f"/v2/a/blobs/{digest_of(layer)}")
    connection.getresponse().read(1000)
    connection.close()
    for _ in range(300):
        if digest_of(layer) in pair.cache.blobs:
            break
        time.sleep(0.1)
    assert digest_of(layer) in pair.cache.blobs


def test_what_is_cached_survives_a_collection(pair: Pair) -> None:
    pair.origin.client.push_manifest("a", "v1", image(pair.origin.client, "a", b"layer"))
    client = pair.cache.client
    client("GET", "/v2/a/manifests/v1")
    client("GET", f"/v2/a/blobs/{digest_of(b'layer')}")
    assert pair.cache.gc("--grace", 0) == []
