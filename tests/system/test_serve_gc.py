"""Garbage collection of a registry, while it serves: what a manifest leads to stays, and so does what is being pushed."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from registry_server import INDEX, MANIFEST, Server, digest_of, fresh


@pytest.fixture
def server() -> Iterator[Server]:
    with fresh("-q") as server:
        yield server


def test_what_a_deleted_manifest_led_to_goes_and_the_rest_stays(server: Server) -> None:
    client = server.client
    shared, own, other = os.urandom(1000), os.urandom(1000), os.urandom(1000)
    digest = client.push_image("a", "v1", shared, own)
    client.push_image("a", "v2", shared, other)
    client("DELETE", f"/v2/a/manifests/{digest}")
    would = server.gc("--grace", 0, "--dry-run")
    assert digest_of(own) in server.blobs
    gone = server.gc("--grace", 0)
    assert gone == would
    assert {found["name"] for found in gone if found["kind"] == "blob"} == {digest, digest_of(own)}
    assert sum(found["size"] for found in gone) == 1000 + next(f["size"] for f in gone if f["name"] == digest)
    assert client("GET", f"/v2/a/blobs/{digest_of(own)}").status == 404
    for data in (shared, other):
        assert client("GET", f"/v2/a/blobs/{digest_of(data)}").body == data
    assert server.gc("--grace", 0) == []


def test_a_blob_stays_as_long_as_one_repository_links_to_it(server: Server) -> None:
    client = server.client
    for name in ("a", "b"):
        client.push_image(name, "v1", b"shared")
    client("DELETE", f"/v2/a/blobs/{digest_of(b'shared')}")
    assert not [found for found in server.gc("--grace", 0) if found["kind"] == "blob"]
    assert client("GET", f"/v2/b/blobs/{digest_of(b'shared')}").status == 200


def test_a_push_that_is_under_way_keeps_its_blobs(server: Server) -> None:
    """The manifest comes last; meanwhile the blobs are nobody's."""
    client = server.client
    client.push_blob("a", b"new")
    client.push_blob("a", b"old")
    old = server.root / "repositories/a/_blobs" / digest_of(b"old").replace(":", "/")
    os.utime(old, (1, 1))
    assert [found["name"] for found in server.gc() if found["kind"] == "blob"] == [digest_of(b"old")]
    assert client("HEAD", f"/v2/a/blobs/{digest_of(b'new')}").status == 200


def test_what_a_client_was_told_is_here_stays(server: Server) -> None:
    """HEAD says "you need not send it": that must hold until the manifest comes."""
    client = server.client
    client.push_blob("a", b"blob")
    os.utime(server.root / "repositories/a/_blobs" / digest_of(b"blob").replace(":", "/"), (1, 1))
    assert client("HEAD", f"/v2/a/blobs/{digest_of(b'blob')}").status == 200
    assert server.gc() == []


def test_uploads_that_nobody_goes_on_with_go(server: Server) -> None:
    client = server.client
    left, fresh = client.begin("a"), client.begin("a")
    client("PATCH", left, b"data")
    os.utime(server.root / "repositories/a/_uploads" / left.rpartition("/")[2], (1, 1))
    assert [(found["kind"], found["size"]) for found in server.gc()] == [("upload", 4)]
    assert client("GET", left).status == 404 and client("GET", fresh).status == 204


def test_untagged_manifests_go_when_asked_and_what_tags_lead_to_stays(server: Server) -> None:
    client = server.client
    child = client.push_image("a", "child", b"child")
    item = {"mediaType": MANIFEST, "digest": child, "size": 7}
    index = client.push_manifest("a", "index", {"schemaVersion": 2, "mediaType": INDEX, "manifests": [item]})
    client("DELETE", "/v2/a/manifests/child")
    refers = client.push_image("a", "sig", b"signature", subject={"mediaType": MANIFEST, "digest": child, "size": 7})
    lone = client.push_image("a", "lone", b"lone")
    for tag in ("sig", "lone"):
        client("DELETE", f"/v2/a/manifests/{tag}")
    assert server.gc("--grace", 0) == []
    gone = server.gc("--grace", 0, "--untagged")
    assert {found["name"] for found in gone if found["kind"] == "manifest"} == {lone}
    for digest in (child, index, refers):
        assert client("GET", f"/v2/a/manifests/{digest}").status == 200
    client("DELETE", f"/v2/a/manifests/{index}")
    server.gc("--grace", 0, "--untagged")
    assert server.blobs == set()


def test_a_damaged_manifest_keeps_all_that_it_might_lead_to(server: Server) -> None:
    client = server.client
    digest = client.push_image("a", "v1", b"layer")
    path = server.root / "blobs" / digest.replace(":", "/")
    path.chmod(0o600)
    path.write_bytes(path.read_bytes().replace(b"2", b"3", 1))
    answer = client("GET", "/v2/a/manifests/v1")
    assert answer.status == 500 and answer.codes == ["UNKNOWN"]
    assert server.gc("--grace", 0) == []
    client.push_image("a", "v1", b"layer")  # heals it
    assert client("GET", "/v2/a/manifests/v1").status == 200


def test_pushes_pulls_and_deletions_while_garbage_is_collected(server: Server) -> None:
    """Four clients and a collector without grace for links that manifests need: what a manifest leads to is there."""
    problems: list[str] = []
    stop = threading.Event()
    shared = [os.urandom(20_000) for _ in range(4)]

    def work(number: int) -> None:
        rng = random.Random(number)
        client = server.client
        try:
            for turn in range(12):
                name = f"busy/{rng.randrange(3)}"
                layers = [*rng.sample(shared, 2), rng.randbytes(1000)]
                tag = f"{number}-{turn}"
                digest = client.push_image(name, tag, *layers)
                for data in layers:
                    if client("GET", f"/v2/{name}/blobs/{digest_of(data)}").body != data:
                        problems.append(f"{tag}: a layer is missing")
                if rng.random() < 0.6:
                    client("DELETE", f"/v2/{name}/manifests/{digest}")
        except Exception as error:
            problems.append(repr(error))

    def collect() -> None:
        while not stop.is_set():
            server.gc("--grace", 5)

    collector = threading.Thread(target=collect)
    collector.start()
    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    stop.set()
    collector.join()
    assert problems == []
    server.gc("--grace", 0)
    for name in server.client("GET", "/v2/_catalog").json()["repositories"]:
        for tag in server.client("GET", f"/v2/{name}/tags/list").json()["tags"]:
            for layer in server.client("GET", f"/v2/{name}/manifests/{tag}").json()["layers"]:
                answer = server.client("GET", f"/v2/{name}/blobs/{layer['digest']}")
                assert answer.status == 200 and digest_of(answer.body) == layer["digest"]
    needed = set(server.blobs)
    assert server.gc("--grace", 0) == [] and server.blobs == needed


def test_a_collector_that_is_killed_leaves_what_the_next_one_goes_on_with(server: Server) -> None:
    client, rng = server.client, random.Random(6)
    kept = [client.push_image("a", f"kept{number}", rng.randbytes(500)) for number in range(10)]
    for number in range(6):
        for extra in range(10):
            client.push_image("a", "x", rng.randbytes(500 + extra))
        words = [sys.executable, "-m", "minirt", "registry", "gc", "--root", server.root, "--grace", "0", "--untagged"]
        collector = subprocess.Popen(list(map(str, words)), stdout=subprocess.DEVNULL)
        time.sleep(0.1 + 0.05 * number)
        collector.kill()
        collector.wait()
        for digest in kept:
            layers = client("GET", f"/v2/a/manifests/{digest}").json()["layers"]
            assert [client("GET", f"/v2/a/blobs/{layer['digest']}").status for layer in layers] == [200]
    server.gc("--grace", 0, "--untagged")
    assert len(server.blobs) == 1 + 2 * 11  # the configuration; manifest and layer of each image that has a tag


def test_a_blob_that_is_being_read_is_read_to_its_end(server: Server) -> None:
    data = os.urandom(30_000_000)
    digest = server.client.push_blob("a", data)
    connection = server.client.connection()
    connection.request("GET", f"/v2/a/blobs/{digest}")
    response = connection.getresponse()
    first = response.read(100)
    assert server.client("DELETE", f"/v2/a/blobs/{digest}").status == 202
    assert [found["kind"] for found in server.gc("--grace", 0)] == ["blob"]
    assert first + response.read() == data and server.blobs == set()
