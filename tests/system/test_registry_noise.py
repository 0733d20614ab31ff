"""A registry that answers anything at all: one error of ours, and nothing left."""

from __future__ import annotations

import os
from collections.abc import Iterator

import liars
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from liars import Content, Handler, Registry

from minirt.image.errors import ImageError
from minirt.image.remote.http import Http
from minirt.image.remote.pull import pull
from minirt.image.remote.registries import Place
from minirt.image.remote.registry import connect
from minirt.image.remote.search import search
from minirt.image.store import Store

WORDS = [
    "", "0", "-1", "7", "99999999999999999999", "bytes 0-", "bytes 5-9/10", "http://[", "//", "/v2/", "ftp://x/", "http://\x7f/",
    "²", "Bearer", 'Bearer realm="', 'Bearer realm="http://[",scope="x"', 'Basic realm="x"',
    'Digest x, Bearer realm="http://127.0.0.1:1/"', "sha256:" + 64 * "0", "sha256:..", "application/json", liars.MANIFEST,
    "application/vnd.oci.image.index.v1+json", "gzip", "deflate", "chunked", '<http://[>; rel="next"',
    '</v2/_catalog>; rel="next"', "Thu, 99 Foo 2000",
]  # fmt: skip
NAMES = [
    "Location", "Content-Range", "Content-Type", "Docker-Content-Digest", "WWW-Authenticate", "Retry-After", "Content-Encoding",
    "Link", "Transfer-Encoding", "Content-Length",
]  # fmt: skip
BODIES = [
    b"", b"{}", b"[]", b"null", b'"x"', b"{", b'{"layers": [], "config": {}}', b'{"manifests": [{}]}', b'{"manifests": 3}',
    b'{"errors": [{}]}', b'{"errors": []}', b'{"token": 3}', b'{"results": [3, {"name": 1}]}', b'{"repositories": [1]}',
    b"\xff\xfe", b'{"mediaType": [], "layers": 3}', b'{"tags": 3, "results": 3, "repositories": 3}',
    b'{"tags": ["a", 3, "\\u001b[2J"]}',
    b'{"results": [{"name": "\\u001b[2J", "description": 7}, {"name": "x", "description": "\\ud800"}]}',
    b'{"repositories": ["\\u009b1mx"]}', b'{"errors": [{"code": "\\u001b[2J"}]}',
    b'{"manifests": [{"platform": {"os": "\\u001b[2J"}}, {"platform": 3}]}',
    b'{"mediaType": "application/vnd.docker.distribution.manifest.v1+json"}',
]  # fmt: skip
ANSWER = st.tuples(
    st.sampled_from([200, 200, 200, 201, 204, 206, 301, 307, 308, 400, 401, 401, 403, 404, 416, 429, 500]),
    st.dictionaries(st.sampled_from(NAMES), st.sampled_from(WORDS), max_size=3),
    st.sampled_from(BODIES),
)


@pytest.fixture(scope="module")
def noise() -> Iterator[Registry]:
    """A registry whose answers are in `script`, the last of them for ever."""

    def answer(handler: Handler) -> bool:
        script = handler.server.script  # type: ignore[attr-defined]
        status, headers, body = script.pop(0) if len(script) > 1 else script[0]
        if status == 0:
            return False
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)
        handler.close_connection = True
        return True

    with Registry(Content(), answer) as registry:
        yield registry


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(str(tmp_path_factory.mktemp("noise") / "image"))


@pytest.mark.timeout(300)
@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(truths=st.integers(0, 3), script=st.lists(ANSWER, min_size=1, max_size=4))
def test_noise_is_an_error_and_leaves_nothing(truths: int, script: list[object], noise: Registry, store: Store) -> None:
    noise.script = [(0, {}, b"")] * truths + script  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Http, "pause", lambda *_: None)
        try:
            pull(store, f"{noise.host}/noise:1", verify=False)
        except ImageError as error:
            assert str(error).isprintable() and len(str(error)) < 1500
        else:
            return  # the noise came after the end
    store.collect()
    assert store.index.entries() == [] or store.remove(f"{noise.host}/noise:1")
    assert store.blobs.all() == store.layers.all() == os.listdir(store.root + "/tmp") == []


@pytest.mark.timeout(300)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(script=st.lists(ANSWER, min_size=1, max_size=3))
def test_noise_in_place_of_a_catalog_is_an_error_or_names(script: list[object], noise: Registry) -> None:
    noise.script = list(script)  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Http, "pause", lambda *_: None)
        try:
            assert all((one["name"] + one.get("description", "")).isprintable() for one in search(f"{noise.host}/x", verify=False))
        except ImageError as error:
            assert str(error).isprintable()


@pytest.mark.timeout(300)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(script=st.lists(ANSWER, min_size=1, max_size=3), look=st.sampled_from(["tags", "referrers"]))
def test_noise_in_place_of_a_list_is_an_error_or_what_may_be_printed(script: list[object], look: str, noise: Registry) -> None:
    noise.script = list(script)  # type: ignore[attr-defined]
    repository = connect(Place(noise.host, "app", True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Http, "pause", lambda *_: None)
        try:
            found = list(repository.tags()) if look == "tags" else repository.referrers("sha256:" + 64 * "0")
            assert all(isinstance(one, dict) or one.isprintable() for one in found)
        except ImageError as error:
            assert str(error).isprintable()
