"""distribution-spec 1.1.1, sentence by sentence: what spec.md says that a registry MUST or SHOULD do.

Each test cites the section of spec.md (https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md) that it is
written from. The four categories are those of spec.md#workflow-categories.
"""

from __future__ import annotations

import json
import os
import re
import uuid
from typing import Any

import pytest
from registry_server import INDEX, LAYER, MANIFEST, Client, Server, digest_of, image, registry  # noqa: F401

UNKNOWN = "sha256:" + "0" * 64
DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"


@pytest.fixture
def client(registry: Server) -> Client:  # noqa: F811
    return registry.client


@pytest.fixture
def name() -> str:
    """A repository that nobody has used."""
    return f"conformance/{uuid.uuid4().hex[:12]}"


def location_of(value: str) -> str:
    """The path of a Location, which may be absolute (spec.md#post-then-put)."""
    return re.sub(r"^https?://[^/]+", "", value)


# -- spec.md#determining-support


def test_the_base_says_that_this_is_a_registry(client: Client) -> None:
    answer = client("GET", "/v2/")
    assert answer.status == 200 and answer.headers["docker-distribution-api-version"] == "registry/2.0"


# -- Pull


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_blob_comes_as_it_was_pushed(client: Client, name: str, algorithm: str) -> None:
    """spec.md#pulling-blobs"""
    data = os.urandom(300_000)
    digest = client.push_blob(name, data, algorithm)
    answer = client("GET", f"/v2/{name}/blobs/{digest}")
    assert (answer.status, answer.body) == (200, data)
    assert answer.headers["docker-content-digest"] == digest
    assert answer.headers["content-type"] == "application/octet-stream"


def test_an_empty_blob_is_a_blob(client: Client, name: str) -> None:
    digest = client.push_blob(name, b"")
    answer = client("GET", f"/v2/{name}/blobs/{digest}")
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "0")


@pytest.mark.parametrize("range,status,begin,end", [
    ("bytes=0-9", 206, 0, 10), ("bytes=990-", 206, 990, 1000), ("bytes=-10", 206, 990, 1000), ("bytes=500-5000", 206, 500, 1000),
    ("bytes=-5000", 206, 0, 1000), ("bytes=1000-", 416, 0, 0), ("lines=1-2", 200, 0, 1000), ("bytes=0-1,5-6", 200, 0, 1000),
])  # fmt: skip
def test_a_range_of_a_blob(client: Client, name: str, range: str, status: int, begin: int, end: int) -> None:
    """spec.md#pulling-blobs: a registry SHOULD support the Range header, in accordance with RFC 9110."""
    data = os.urandom(1000)
    answer = client("GET", f"/v2/{name}/blobs/{client.push_blob(name, data)}", Range=range)
    assert answer.status == status
    if status == 416:
        assert answer.headers["content-range"] == "bytes */1000"
        return
    assert answer.body == data[begin:end]
    if status == 206:
        assert answer.headers["content-range"] == f"bytes {begin}-{end - 1}/1000"


def test_content_that_a_client_has_is_not_sent_again(client: Client, name: str) -> None:
    digest = client.push_blob(name, b"content")
    answer = client("GET", f"/v2/{name}/blobs/{digest}", If_None_Match=f'"{digest}"')
    assert (answer.status, answer.body) == (304, b"")


@pytest.mark.parametrize("by", ["tag", "digest"])
def test_a_manifest_comes_as_it_was_pushed(client: Client, name: str, by: str) -> None:
    """spec.md#pulling-manifests"""
    document = image(client, name, b"layer")
    data = json.dumps(document, indent=7).encode() + b"\n"
    client("PUT", f"/v2/{name}/manifests/v1", data, Content_Type=MANIFEST)
    answer = client("GET", f"/v2/{name}/manifests/{'v1' if by == 'tag' else digest_of(data)}")
    assert (answer.status, answer.body, answer.headers["content-type"]) == (200, data, MANIFEST)
    assert answer.headers["docker-content-digest"] == digest_of(data)


def test_head_is_get_without_the_body(client: Client, name: str) -> None:
    """spec.md#checking-if-content-exists-in-the-registry"""
    digest = client.push_image(name, "v1", b"layer")
    for path in ("manifests/v1", f"manifests/{digest}", f"blobs/{digest_of(b'layer')}"):
        head, get = (client(method, f"/v2/{name}/{path}") for method in ("HEAD", "GET"))
        assert head.status == 200 and head.body == b""
        for header in ("content-length", "content-type", "docker-content-digest", "etag"):
            assert head.headers[header] == get.headers[header]
        assert int(head.headers["content-length"]) == len(get.body)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path,code", [
    (f"blobs/{UNKNOWN}", "BLOB_UNKNOWN"), (f"manifests/{UNKNOWN}", "MANIFEST_UNKNOWN"), ("manifests/none", "MANIFEST_UNKNOWN"),
    ("manifests/.INVALID_MANIFEST_NAME", "MANIFEST_UNKNOWN"),
])  # fmt: skip
def test_what_is_not_there_is_404(client: Client, name: str, method: str, path: str, code: str) -> None:
    """spec.md#pull: the response code MUST be 404 Not Found."""
    client.push_image(name, "v1")
    answer = client(method, f"/v2/{name}/{path}")
    assert answer.status == 404
    if method == "GET":
        assert answer.codes == [code]


def test_a_repository_that_is_not_there_is_404(client: Client, name: str) -> None:
    for path in ("manifests/latest", "tags/list"):
        answer = client("GET", f"/v2/{name}/{path}")
        assert (answer.status, answer.codes) == (404, ["NAME_UNKNOWN"])


def test_a_blob_of_another_repository_is_not_there(client: Client, name: str) -> None:
    digest = client.push_blob(name, b"of one")
    assert client("GET", f"/v2/{name}/other/blobs/{digest}").status == 404


@pytest.mark.parametrize("wrong", ["UPPER", "a..b", "-a", "a-", "a/", "a//b", "a___b", "_a", "a/_tags", "x" * 256, "a%2F..%2Fb"])
def test_a_wrong_name_is_refused(client: Client, wrong: str) -> None:
    """spec.md#pulling-manifests: <name> MUST match the regular expression."""
    answer = client("GET", f"/v2/{wrong}/manifests/v1")
    assert (answer.status, answer.codes) == (400, ["NAME_INVALID"])


@pytest.mark.parametrize("right", [
    "a", "a/b/c/d", "a.b", "a_b", "a__b", "a-b", "a---b", "0", "tags", "manifests/x", "a/blobs", "blobs/uploads",
])  # fmt: skip
def test_a_right_name_is_taken(client: Client, right: str) -> None:
    digest = client.push_image(right, "v1", b"layer")
    assert client("GET", f"/v2/{right}/manifests/v1").headers["docker-content-digest"] == digest
    assert client("GET", f"/v2/{right}/tags/list").json() == {"name": right, "tags": ["v1"]}
    assert client("DELETE", f"/v2/{right}/manifests/{digest}").status == 202


@pytest.mark.parametrize("wrong", [
    "sha256:abc", "sha256:" + "G" * 64, "sha256:" + "A" * 64, "md5:" + "0" * 32, "sha256", "sha1:" + "0" * 40,
])  # fmt: skip
def test_a_wrong_digest_is_refused(client: Client, name: str, wrong: str) -> None:
    """spec.md#error-codes, image-spec descriptor.md#digests"""
    for method, path in (("GET", f"blobs/{wrong}"), ("DELETE", f"blobs/{wrong}"), ("POST", f"blobs/uploads/?digest={wrong}"),
                         ("GET", f"referrers/{wrong}")):  # fmt: skip
        answer = client(method, f"/v2/{name}/{path}")
        assert (answer.status, answer.codes) == (400, ["DIGEST_INVALID"]), (method, path)


# -- Accept


def test_a_tag_is_given_in_a_type_that_the_client_takes(client: Client, name: str) -> None:
    """spec.md#pulling-manifests: the client SHOULD include an Accept header."""
    client.push_image(name, "v1")
    path = f"/v2/{name}/manifests/v1"
    for accept in (MANIFEST, f"{INDEX}, {MANIFEST};q=0.5", "*/*", "application/json", "text/html"):
        assert client("GET", path, Accept=accept).status == 200, accept
    refused = client("GET", path, Accept=DOCKER)
    assert (refused.status, refused.codes) == (404, ["MANIFEST_UNKNOWN"])


def test_a_client_without_indexes_gets_the_image_for_amd64(client: Client, name: str) -> None:
    amd64, arm64 = (client.push_image(name, tag, tag.encode()) for tag in ("amd64", "arm64"))
    items = [
        {"mediaType": MANIFEST, "digest": digest, "size": 7, "platform": {"os": "linux", "architecture": machine}}
        for machine, digest in (("arm64", arm64), ("amd64", amd64))
    ]
    index = client.push_manifest(name, "all", {"schemaVersion": 2, "mediaType": INDEX, "manifests": items})
    path = f"/v2/{name}/manifests/all"
    assert client("GET", path, Accept=MANIFEST).headers["docker-content-digest"] == amd64
    assert client("GET", path, Accept=f"{MANIFEST},{INDEX}").headers["docker-content-digest"] == index


# -- Push: blobs


def test_a_blob_by_post_then_put(client: Client, name: str) -> None:
    """spec.md#post-then-put"""
    data = os.urandom(1000)
    begun = client("POST", f"/v2/{name}/blobs/uploads/")
    assert begun.status == 202 and re.search(r"[0-9a-f]{8}-[0-9a-f-]{27}", begun.headers["location"])
    done = client("PUT", f"{location_of(begun.headers['location'])}?digest={digest_of(data)}", data,
                  Content_Type="application/octet-stream")  # fmt: skip
    assert done.status == 201 and done.headers["docker-content-digest"] == digest_of(data)
    assert client("GET", location_of(done.headers["location"])).body == data


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_blob_by_a_single_post(client: Client, name: str, algorithm: str) -> None:
    """spec.md#single-post"""
    data = os.urandom(1000)
    done = client("POST", f"/v2/{name}/blobs/uploads/?digest={digest_of(data, algorithm)}", data)
    assert done.status == 201
    assert client("GET", location_of(done.headers["location"])).body == data


@pytest.mark.parametrize("last_by", ["PATCH", "PUT"])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_blob_in_chunks(client: Client, name: str, last_by: str, algorithm: str) -> None:
    """spec.md#pushing-a-blob-in-chunks"""
    data = os.urandom(2500)
    location = client.begin(name)
    for begin in (0, 1000):
        chunk = data[begin : begin + 1000]
        answer = client("PATCH", location, chunk, Content_Range=f"{begin}-{begin + 999}", Content_Type="application/octet-stream")
        assert (answer.status, answer.headers["range"]) == (202, f"0-{begin + 999}")
        location = location_of(answer.headers["location"])
    rest = {"body": data[2000:], "Content_Range": "2000-2499"}
    if last_by == "PATCH":
        assert client("PATCH", location, **rest).status == 202
        rest = {}
    done = client("PUT", f"{location}?digest={digest_of(data, algorithm)}", **rest)
    assert done.status == 201
    assert client("GET", location_of(done.headers["location"])).body == data


def test_a_chunk_out_of_order_is_416_and_the_state_can_be_asked_for(client: Client, name: str) -> None:
    """spec.md#pushing-a-blob-in-chunks: the registry MUST respond with 416; a GET retrieves the valid offset."""
    location = client.begin(name)
    ahead = client("PATCH", location, b"later", Content_Range="10-14")
    assert ahead.status == 416
    client("PATCH", location, b"first", Content_Range="0-4")
    again = client("PATCH", location, b"first", Content_Range="0-4")
    assert (again.status, again.headers["range"]) == (416, "0-4")
    status = client("GET", location)
    assert (status.status, status.headers["range"], location_of(status.headers["location"])) == (204, "0-4", location)
    data = b"first and last"
    client("PATCH", location, data[5:], Content_Range="5-13")
    assert client("PUT", f"{location}?digest={digest_of(data)}").status == 201


def test_a_chunk_without_a_range_is_appended(client: Client, name: str) -> None:
    """As docker sends it: the whole blob in one PATCH, of a length not known before."""
    location = client.begin(name)
    assert client("PATCH", location, iter([b"one ", b"two"])).headers["range"] == "0-6"
    assert client("PUT", f"{location}?digest={digest_of(b'one two')}").status == 201


@pytest.mark.parametrize("range,length,code", [
    ("0-9", 5, "SIZE_INVALID"), ("0-1", 5, "SIZE_INVALID"), ("5-0", 5, "BLOB_UPLOAD_INVALID"), ("x-y", 5, "BLOB_UPLOAD_INVALID"),
])  # fmt: skip
def test_a_chunk_that_is_not_what_it_says_leaves_nothing(client: Client, name: str, range: str, length: int, code: str) -> None:
    location = client.begin(name)
    body: list[Any] = [b"x" * length, iter([b"x" * length])]  # the second has no Content-Length
    for data in body:
        answer = client("PATCH", location, data, Content_Range=range)
        assert (answer.status, answer.codes) == (400, [code])
        assert client("GET", location).headers["range"] == "0-0"
    assert client("PUT", f"{location}?digest={digest_of(b'')}").status == 201


def test_a_wrong_digest_is_told_and_the_content_not_kept(client: Client, registry: Server, name: str) -> None:  # noqa: F811
    """spec.md#error-codes: DIGEST_INVALID"""
    before = registry.blobs
    answer = client("PUT", f"{client.begin(name)}?digest={UNKNOWN}", b"something else")
    assert (answer.status, answer.codes) == (400, ["DIGEST_INVALID"])
    assert registry.blobs == before and client("GET", f"/v2/{name}/blobs/{UNKNOWN}").status == 404


def test_an_upload_that_nobody_began_is_404(client: Client, name: str) -> None:
    path = f"/v2/{name}/blobs/uploads/{uuid.uuid4()}"
    for method, query in (("GET", ""), ("PATCH", ""), ("PUT", f"?digest={UNKNOWN}"), ("DELETE", "")):
        answer = client(method, path + query)
        assert (answer.status, answer.codes) == (404, ["BLOB_UPLOAD_UNKNOWN"]), method


def test_an_upload_belongs_to_its_repository(client: Client, name: str) -> None:
    location = client.begin(name)
    assert client("GET", location.replace(name, name + "/other")).status == 404
    assert client("GET", location).status == 204


def test_a_cancelled_upload_is_gone(client: Client, name: str) -> None:
    """spec.md#endpoints of 1.2 (end-14), which docker's API had before."""
    location = client.begin(name)
    client("PATCH", location, b"data")
    assert client("DELETE", location).status == 204
    assert client("GET", location).status == 404


def test_a_closing_put_without_a_digest_is_refused(client: Client, name: str) -> None:
    answer = client("PUT", client.begin(name), b"data")
    assert (answer.status, answer.codes) == (400, ["DIGEST_INVALID"])


def test_a_blob_is_mounted_from_another_repository(client: Client, name: str) -> None:
    """spec.md#mounting-a-blob-from-another-repository"""
    digest = client.push_blob(name, b"shared")
    answer = client("POST", f"/v2/{name}/copy/blobs/uploads/?mount={digest}&from={name}")
    assert answer.status == 201
    assert client("GET", location_of(answer.headers["location"])).body == b"shared"


@pytest.mark.parametrize("query", [f"mount={UNKNOWN}&from=conformance/none", f"mount={UNKNOWN}"])
def test_what_cannot_be_mounted_begins_an_upload(client: Client, name: str, query: str) -> None:
    """spec.md#mounting-a-blob-from-another-repository: it SHOULD return a 202."""
    answer = client("POST", f"/v2/{name}/blobs/uploads/?{query}")
    assert answer.status == 202
    assert client("PUT", f"{location_of(answer.headers['location'])}?digest={digest_of(b'x')}", b"x").status == 201


# -- Push: manifests


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_manifest_by_digest(client: Client, name: str, algorithm: str) -> None:
    """spec.md#pushing-manifests"""
    data = json.dumps(image(client, name, b"layer")).encode()
    digest = digest_of(data, algorithm)
    answer = client("PUT", f"/v2/{name}/manifests/{digest}", data, Content_Type=MANIFEST)
    assert answer.status == 201 and answer.headers["docker-content-digest"] == digest
    assert client("GET", location_of(answer.headers["location"])).body == data
    assert client("GET", f"/v2/{name}/tags/list").json()["tags"] == []


def test_a_manifest_under_a_wrong_digest_is_refused(client: Client, name: str) -> None:
    answer = client("PUT", f"/v2/{name}/manifests/{UNKNOWN}", json.dumps(image(client, name)).encode(), Content_Type=MANIFEST)
    assert (answer.status, answer.codes) == (400, ["DIGEST_INVALID"])


def test_a_manifest_without_layers_is_one(client: Client, name: str) -> None:
    """spec.md#pushing-manifests: the list of blobs MAY be empty."""
    assert client.push_image(name, "v1")


@pytest.mark.parametrize("media", [DOCKER, DOCKER_LIST, INDEX])
def test_the_other_types_of_manifest(client: Client, name: str, media: str) -> None:
    document = image(client, name, b"layer")
    if media == DOCKER:
        document["mediaType"] = media
    else:
        digest = client.push_manifest(name, "v1", document)
        item = {"mediaType": MANIFEST, "digest": digest, "size": len(json.dumps(document))}
        document = {"schemaVersion": 2, "mediaType": media, "manifests": [item]}
    client.push_manifest(name, "v2", document)
    answer = client("GET", f"/v2/{name}/manifests/v2", Accept=media)
    assert (answer.status, answer.headers["content-type"], answer.json()) == (200, media, document)


def edited(document: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {key: value for key, value in {**document, **changes}.items() if value is not ...}


@pytest.mark.parametrize("changes", [
    {"schemaVersion": 1}, {"schemaVersion": ...}, {"config": ...}, {"layers": ...}, {"layers": {}}, {"layers": [{}]},
    {"config": "x"},
    {"manifests": []}, {"mediaType": INDEX}, {"mediaType": "text/plain"}, {"subject": {"digest": "x"}}, {"annotations": {"a": 1}},
    {"artifactType": 7}, {"config": {"mediaType": "a/b", "digest": digest_of(b"{}"), "size": -1}},
    {"config": {"mediaType": "a/b", "digest": digest_of(b"{}"), "size": 2.0}},
    {"subject": {"mediaType": "a/b", "digest": digest_of(b"{}"), "size": 1 << 63}},
    {"config": {"mediaType": "a/b", "digest": "sha256:../x", "size": 2}},
    {"config": {"mediaType": "a/b", "digest": digest_of(b"{}"), "size": 2, "platform": "linux"}},
], ids=str)  # fmt: skip
def test_a_wrong_manifest_is_refused(client: Client, name: str, changes: dict[str, Any]) -> None:
    """spec.md#error-codes: MANIFEST_INVALID; image-spec manifest.md"""
    document = edited(image(client, name), **changes)
    answer = client("PUT", f"/v2/{name}/manifests/v1", json.dumps(document).encode(), Content_Type=MANIFEST)
    assert (answer.status, answer.codes) == (400, ["MANIFEST_INVALID"])
    assert client("GET", f"/v2/{name}/manifests/v1").status == 404


@pytest.mark.parametrize("configuration", [
    {"config": "a text"}, {"config": ["a"]}, {"config": {"Labels": ["a"], "ExposedPorts": ["80", 81], "Env": 7, "Volumes": "/"}},
    {"history": ["a"]}, {"history": 7}, {"config": {"Labels": {"description": ["a"]}}},
    {"config": {"Labels": {"description": "half \ud800 a pair"}}, "author": "\udfff"},
], ids=ascii)  # fmt: skip
def test_what_one_pushes_breaks_no_list_of_all(client: Client, name: str, configuration: dict[str, Any]) -> None:
    """Anybody who may push may push a configuration that is none: it is a blob like others."""
    client.push_image(name, "v1", configuration=json.dumps(configuration).encode())
    for path in ("/v1/search?q=", "/", f"/repository/{name}", f"/image/{name}:v1"):
        assert client("GET", path).status == 200, path
    assert name in [one["name"] for one in client("GET", f"/v1/search?q={name}").json()["results"]]


def test_a_long_description_is_cut(client: Client, name: str) -> None:
    """It stands in answers to all, and is kept in memory."""
    client.push_image(name, "v1", annotations={"org.opencontainers.image.description": "word " * 100_000})
    (found,) = client("GET", f"/v1/search?q={name}").json()["results"]
    assert found["description"].startswith("word word") and len(found["description"]) < 1000


@pytest.mark.parametrize("body", [b"", b"blob", b"[]", b"null", b"\xff", b"[" * 100_000])
def test_what_is_no_json_is_no_manifest(client: Client, name: str, body: bytes) -> None:
    answer = client("PUT", f"/v2/{name}/manifests/v1", body, Content_Type=MANIFEST)
    assert (answer.status, answer.codes) == (400, ["MANIFEST_INVALID"])


@pytest.mark.parametrize("tag", [".hidden", "-x", "a" * 129, "a%20b", "a%2Fb", "..%2F..%2Fx"])
def test_a_wrong_tag_is_refused(client: Client, name: str, tag: str) -> None:
    """spec.md#pulling-manifests: <reference> as a tag MUST match the regular expression."""
    data = json.dumps(image(client, name)).encode()
    assert client("PUT", f"/v2/{name}/manifests/{tag}", data, Content_Type=MANIFEST).status == 400


@pytest.mark.parametrize("tag", ["a" * 128, "_x", "v1.new", "v1.", "A-b_c.9"])
def test_a_right_tag_is_taken(client: Client, name: str, tag: str) -> None:
    client.push_image(name, tag)
    client.push_image(name, "v1")
    assert client("GET", f"/v2/{name}/tags/list").json()["tags"] == sorted([tag, "v1"])


def test_a_tag_of_another_repository_is_not_reached_by_a_path(client: Client, name: str) -> None:
    client.push_image(name + "/b", "v1")
    client.push_image(name + "/a", "v1")
    assert client("DELETE", f"/v2/{name}/a/manifests/..%2F..%2Fb%2F_tags%2Fv1").status == 404
    assert client("GET", f"/v2/{name}/b/manifests/v1").status == 200


def test_a_manifest_may_be_four_mebibytes_and_no_more(client: Client, name: str) -> None:
    """spec.md#pushing-manifests: 413 Payload Too Large; at least 4 megabytes SHOULD be taken."""
    document = image(client, name, annotations={"a": ""})
    document["annotations"]["a"] = "x" * ((4 << 20) - len(json.dumps(document)))
    assert client("PUT", f"/v2/{name}/manifests/v1", json.dumps(document).encode(), Content_Type=MANIFEST).status == 201
    answer = client("PUT", f"/v2/{name}/manifests/v2", json.dumps(document).encode() + b" ", Content_Type=MANIFEST)
    assert (answer.status, answer.codes) == (413, ["MANIFEST_INVALID"])


def test_parameters_of_the_content_type_are_ignored(client: Client, name: str) -> None:
    """spec.md#pushing-manifests: the registry SHOULD ignore parameters on the Content-Type header."""
    data = json.dumps(image(client, name)).encode()
    assert client("PUT", f"/v2/{name}/manifests/v1", data, Content_Type=f"{MANIFEST}; charset=utf-8").status == 201
    assert client("GET", f"/v2/{name}/manifests/v1").headers["content-type"] == MANIFEST


def test_a_manifest_that_lacks_a_blob_is_refused(client: Client, name: str) -> None:
    """spec.md#push: the registry MUST return one or more MANIFEST_BLOB_UNKNOWN errors."""
    missing = {"mediaType": LAYER, "digest": UNKNOWN, "size": 5}
    document = edited(image(client, name), layers=[missing])
    answer = client("PUT", f"/v2/{name}/manifests/v1", json.dumps(document).encode(), Content_Type=MANIFEST)
    assert answer.status in (400, 404) and answer.codes == ["MANIFEST_BLOB_UNKNOWN"]
    document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [{**missing, "mediaType": MANIFEST}]}
    answer = client("PUT", f"/v2/{name}/manifests/v1", json.dumps(document).encode(), Content_Type=INDEX)
    assert answer.codes == ["MANIFEST_BLOB_UNKNOWN"]


def test_a_manifest_that_lies_about_a_size_is_refused(client: Client, name: str) -> None:
    document = image(client, name, b"layer")
    document["layers"][0]["size"] += 1
    answer = client("PUT", f"/v2/{name}/manifests/v1", json.dumps(document).encode(), Content_Type=MANIFEST)
    assert answer.codes == ["MANIFEST_INVALID"]


def test_layers_that_lie_elsewhere_need_not_be_here(client: Client, name: str) -> None:
    """image-spec layer.md#non-distributable-layers"""
    layer = {"mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar", "digest": UNKNOWN, "size": 5}
    assert client.push_manifest(name, "v1", edited(image(client, name), layers=[layer]))


def test_a_tag_can_be_changed_only_by_who_knows_it(client: Client, name: str) -> None:
    """spec.md#pushing-manifests-with-subject: the client MAY use conditional HTTP requests."""
    first = client.push_image(name, "v1", b"1")
    data = json.dumps(image(client, name, b"2")).encode()
    path = f"/v2/{name}/manifests/v1"
    assert client("PUT", path, data, Content_Type=MANIFEST, If_None_Match="*").status == 412
    assert client("PUT", path, data, Content_Type=MANIFEST, If_Match=f'"{UNKNOWN}"').status == 412
    assert client("GET", path).headers["docker-content-digest"] == first
    assert client("PUT", path, data, Content_Type=MANIFEST, If_Match=f'"{first}"').status == 201
    assert client("GET", path).headers["docker-content-digest"] == digest_of(data)


# -- Push: subject


def refer(client: Client, name: str, subject: str, tag: str = "", **more: Any) -> str:
    document = image(client, name, subject={"mediaType": MANIFEST, "digest": subject, "size": 7}, **more)
    data = json.dumps(document).encode()
    answer = client("PUT", f"/v2/{name}/manifests/{tag or digest_of(data)}", data, Content_Type=MANIFEST)
    assert (answer.status, answer.headers["oci-subject"]) == (201, subject)
    return digest_of(data)


def test_a_subject_is_answered_and_need_not_be_here(client: Client, name: str) -> None:
    """spec.md#pushing-manifests-with-subject: the response MUST include OCI-Subject; the subject MAY not exist."""
    assert refer(client, name, UNKNOWN)
    assert "oci-subject" not in client("PUT", f"/v2/{name}/manifests/v1", json.dumps(image(client, name)).encode(),
                                       Content_Type=MANIFEST).headers  # fmt: skip


# -- Content discovery: tags


def test_tags_in_order_and_in_pages(client: Client, name: str) -> None:
    """spec.md#listing-tags"""
    tags = ["v10", "v1", "V2", "latest", "a.b", "_", "0"]
    for tag in tags:
        client.push_image(name, tag)
    path = f"/v2/{name}/tags/list"
    assert client("GET", path).json() == {"name": name, "tags": sorted(tags)}
    for size in (1, 2, 3, 7, 8):
        seen, query = [], f"?n={size}"
        while True:
            answer = client("GET", path + query if query.startswith("?") else query)
            page = answer.json()["tags"]
            seen += page
            if "link" not in answer.headers:
                break
            assert len(page) == size
            match = re.fullmatch(r'<([^>]+)>; rel="next"', answer.headers["link"])
            assert match
            query = match[1]
        assert seen == sorted(tags), size


def test_no_tags_where_none_are_asked_for(client: Client, name: str) -> None:
    """spec.md#listing-tags: when n is zero, an empty list, and no Link."""
    client.push_image(name, "v1")
    answer = client("GET", f"/v2/{name}/tags/list?n=0")
    assert answer.json()["tags"] == [] and "link" not in answer.headers


def test_last_is_a_tag_that_need_not_exist(client: Client, name: str) -> None:
    for tag in ("a", "c", "e"):
        client.push_image(name, tag)
    path = f"/v2/{name}/tags/list"
    assert client("GET", path + "?last=b").json()["tags"] == ["c", "e"]
    assert client("GET", path + "?last=c&n=1").json()["tags"] == ["e"]
    assert client("GET", path + "?last=z").json()["tags"] == []
    assert client("GET", path + "?n=x").status == 400 and client("GET", path + "?n=-1").status == 400


def test_the_catalog_in_pages(client: Client, name: str) -> None:
    names = [f"{name}/{letter}" for letter in "abc"]
    for each in names:
        client.push_image(each, "v1")
    found, path = [], "/v2/_catalog?n=2"
    while path:
        answer = client("GET", path)
        found += answer.json()["repositories"]
        match = re.fullmatch(r'<([^>]+)>; rel="next"', answer.headers.get("link", ""))
        path = match[1] if match else ""
    assert found == sorted(found) and set(names) <= set(found) and len(set(found)) == len(found)


# -- Content discovery: referrers


def test_referrers_are_listed_with_what_they_say_of_themselves(client: Client, name: str) -> None:
    """spec.md#listing-referrers"""
    subject = client.push_image(name, "v1", b"layer")
    bare = refer(client, name, subject)
    typed = refer(client, name, subject, artifactType="application/vnd.example.sbom.v1", annotations={"org.example.kind": "sbom"})
    leads = {"mediaType": MANIFEST, "digest": subject, "size": 7}
    document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [], "subject": leads}
    index = client.push_manifest(name, "index", document)
    answer = client("GET", f"/v2/{name}/referrers/{subject}")
    assert (answer.status, answer.headers["content-type"]) == (200, INDEX) and "oci-filters-applied" not in answer.headers
    assert (answer.json()["schemaVersion"], answer.json()["mediaType"]) == (2, INDEX)
    found = {item["digest"]: item for item in answer.json()["manifests"]}
    assert set(found) == {bare, typed, index}
    assert found[bare]["artifactType"] == "application/vnd.oci.image.config.v1+json" and "annotations" not in found[bare]
    assert found[typed]["artifactType"] == "application/vnd.example.sbom.v1"
    assert found[typed]["annotations"] == {"org.example.kind": "sbom"}
    assert "artifactType" not in found[index] and found[index]["mediaType"] == INDEX
    for digest, item in found.items():
        assert item["size"] == len(client("GET", f"/v2/{name}/manifests/{digest}").body)


def test_referrers_of_one_type(client: Client, name: str) -> None:
    """spec.md#listing-referrers: the response MUST include OCI-Filters-Applied."""
    wanted = refer(client, name, UNKNOWN, artifactType="application/wanted+json")
    refer(client, name, UNKNOWN, artifactType="application/other")
    answer = client("GET", f"/v2/{name}/referrers/{UNKNOWN}?artifactType=application/wanted%2Bjson")
    assert answer.headers["oci-filters-applied"] == "artifactType"
    assert [item["digest"] for item in answer.json()["manifests"]] == [wanted]


def test_nobody_refers_to_it(client: Client, name: str) -> None:
    """spec.md#listing-referrers: 200 with an empty list, never 404."""
    answer = client("GET", f"/v2/{name}/referrers/{UNKNOWN}")
    assert (answer.status, answer.json()["manifests"]) == (200, [])


def test_many_referrers_come_in_pages(client: Client, name: str) -> None:
    """spec.md#listing-referrers: a Link header with rel=next where one response cannot hold them."""
    pushed = {refer(client, name, UNKNOWN, annotations={"n": str(n), "text": "x" * 900_000}) for n in range(6)}
    found, path, pages = [], f"/v2/{name}/referrers/{UNKNOWN}", 0
    while path:
        answer = client("GET", path)
        assert len(answer.body) <= (4 << 20) + 1000
        found += [item["digest"] for item in answer.json()["manifests"]]
        match = re.fullmatch(r'<([^>]+)>; rel="next"', answer.headers.get("link", ""))
        path, pages = (match[1] if match else ""), pages + 1
    assert set(found) == pushed and len(found) == 6 and pages == 2


def test_a_deleted_referrer_is_not_listed(client: Client, name: str) -> None:
    one, two = refer(client, name, UNKNOWN), refer(client, name, UNKNOWN, annotations={"n": "2"})
    assert client("DELETE", f"/v2/{name}/manifests/{one}").status == 202
    assert [item["digest"] for item in client("GET", f"/v2/{name}/referrers/{UNKNOWN}").json()["manifests"]] == [two]


# -- Content management


def test_a_tag_is_deleted_and_its_manifest_stays(client: Client, name: str) -> None:
    """spec.md#deleting-tags"""
    digest = client.push_image(name, "v1")
    assert client("DELETE", f"/v2/{name}/manifests/v1").status == 202
    assert client("GET", f"/v2/{name}/manifests/v1").status == 404
    assert client("GET", f"/v2/{name}/manifests/{digest}").status == 200
    assert client("GET", f"/v2/{name}/tags/list").json()["tags"] == []
    assert client("DELETE", f"/v2/{name}/manifests/v1").status == 404


def test_a_manifest_is_deleted_with_its_tags(client: Client, name: str) -> None:
    """spec.md#deleting-manifests: a GET of the digest and of any tag pointing to it returns 404."""
    digest = client.push_image(name, "v1", b"1")
    client.push_image(name, "v2", b"1")
    other = client.push_image(name, "v3", b"3")
    assert client("DELETE", f"/v2/{name}/manifests/{digest}").status == 202
    for reference in (digest, "v1", "v2"):
        assert client("GET", f"/v2/{name}/manifests/{reference}").status == 404
    assert client("GET", f"/v2/{name}/tags/list").json()["tags"] == ["v3"]
    assert client("GET", f"/v2/{name}/manifests/v3").headers["docker-content-digest"] == other


def test_a_blob_is_deleted_from_one_repository(client: Client, name: str) -> None:
    """spec.md#deleting-blobs"""
    digest = client.push_blob(name, b"blob")
    client.push_blob(name + "/other", b"blob")
    assert client("DELETE", f"/v2/{name}/blobs/{digest}").status == 202
    assert client("GET", f"/v2/{name}/blobs/{digest}").status == 404
    assert client("GET", f"/v2/{name}/other/blobs/{digest}").status == 200
    again = client("DELETE", f"/v2/{name}/blobs/{digest}")
    assert (again.status, again.codes) == (404, ["BLOB_UNKNOWN"])


def test_deletion_from_a_repository_that_is_not_there_is_404(client: Client, name: str) -> None:
    """spec.md#deleting-manifests: if the repository does not exist, the response MUST return 404."""
    assert client("DELETE", f"/v2/{name}/manifests/{UNKNOWN}").codes == ["NAME_UNKNOWN"]


# -- other


@pytest.mark.parametrize("method,path", [
    ("POST", "/v2/"), ("PATCH", "/v2/a/manifests/v1"), ("PUT", "/v2/a/tags/list"), ("DELETE", "/v2/_catalog"),
])  # fmt: skip
def test_a_method_that_does_nothing_is_405(client: Client, method: str, path: str) -> None:
    answer = client(method, path)
    assert (answer.status, answer.codes) == (405, ["UNSUPPORTED"])


def test_a_path_that_is_none_is_404_in_json(client: Client) -> None:
    assert client("GET", "/v2/a/nothing").codes == ["NAME_UNKNOWN"]
