"""A registry that lies gets one line that says about what, and leaves nothing."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import liars
import pytest
from command import Minirt
from liars import Content, Handler, Registry, tar

PLAIN = "--tls-verify=false"


def contents(root: Path) -> set[str]:
    """All files of a store that are content or unfinished; not its locks."""
    image = root / "lib" / "image"
    parts = ("blobs/sha256", "blobs/sha512", "layers", "tmp", "holds", "partial")
    found = {str(path.relative_to(image)) for part in parts if (image / part).exists() for path in (image / part).iterdir()}
    return found | {json.dumps(entry) for entry in json.loads((image / "index.json").read_text())["manifests"]}


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    errors = [line for line in done.stderr.splitlines() if line.startswith("minirt: ")]
    assert (done.returncode, done.stdout, len(errors)) == (1, "", 1), done.stderr
    assert re.fullmatch(r"minirt: .{10,600}", errors[0]) and "Error:" not in errors[0], done.stderr
    return errors[0]


def changed(data: bytes) -> bytes:
    return data[:1000] + b"no" + data[1002:]


def other_bytes(handler: Handler) -> bool:
    if handler.blob:
        handler.answer(200, changed(handler.server.content.layers[1]))
    return handler.blob


def short(handler: Handler) -> bool:
    if handler.blob:
        handler.answer(200, handler.server.content.layers[1][:-7])
    return handler.blob


def truncated(handler: Handler) -> bool:
    """The connection ends in the middle, at the same place each time; of ranges it has not heard."""
    if handler.blob:
        data = handler.server.content.layers[1]
        handler.answer(200, data[:1000], Content_Length=len(data))
        handler.close_connection = True
    return handler.blob


def endless(handler: Handler) -> bool:
    if handler.blob:
        handler.answer(200, Transfer_Encoding="chunked", Content_Length="")
        pour(handler, b"endless " * 4096)
    return handler.blob


def pour(handler: Handler, data: bytes) -> None:
    """Send chunks until nobody listens."""
    chunk = f"{len(data):x}\r\n".encode() + data + b"\r\n"
    for _ in range(200_000):
        handler.wfile.write(chunk)


def huge_manifest(handler: Handler) -> bool:
    if "/manifests/" in handler.path:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        pour(handler, b" " * 65536)
    return "/manifests/" in handler.path


def in_circles(handler: Handler) -> bool:
    handler.answer(307, Location=f"http://{handler.server.host}{handler.path}")
    return True


def to_a_file(handler: Handler) -> bool:
    handler.answer(302, Location="file:///etc/passwd")
    return True


def wrong_range(handler: Handler) -> bool:
    """The connection breaks once; and then comes something else than was asked for."""
    data = handler.server.content.layers[1]
    if not handler.blob:
        return False
    if handler.headers.get("Range"):
        handler.answer(206, data[:-3000], Content_Range=f"bytes 0-{len(data) - 1}/{len(data)}")
    else:
        handler.answer(200, data[:3000], Content_Length=len(data))
        handler.close_connection = True
    return True


def other_manifest(handler: Handler) -> bool:
    if "/manifests/" in handler.path:
        wrong = "sha256:" + 64 * "0"
        handler.answer(200, handler.server.content.manifest, Content_Type=liars.MANIFEST, Docker_Content_Digest=wrong)
    return "/manifests/" in handler.path


def manifest_of(text: bytes) -> Callable[[Handler], bool]:
    def lie(handler: Handler) -> bool:
        if "/manifests/" in handler.path:
            handler.answer(200, text, Content_Type=liars.MANIFEST)
        return "/manifests/" in handler.path

    return lie


def no_layer(handler: Handler) -> bool:
    if handler.blob:
        handler.answer(404)
    return handler.blob


SERVERS: dict[str, tuple[Callable[[Handler], bool], str]] = {
    "a layer of other bytes": (other_bytes, "arrived as sha256:|announced with"),
    "a layer that is too short": (short, "announced with"),
    "a layer that breaks off": (truncated, "ended after 1000 of"),
    "a layer without an end": (endless, "is longer than the"),
    "a manifest without an end": (huge_manifest, "longer than 4096 KiB"),
    "redirects in a circle": (in_circles, "redirects more than 5 times"),
    "a redirect to a file": (to_a_file, "redirects to 'file:///etc/passwd'"),
    "a range that was not asked for": (wrong_range, "asked for bytes from 3000 on"),
    "a digest that is not the manifest's": (other_manifest, "as manifest sha256:0000"),
    "a manifest that is no JSON": (manifest_of(b"<html>"), "not a JSON object"),
    "a manifest that is nested": (manifest_of(b'{"a":' * 100_000), "not a JSON object"),
    "a manifest of nothing": (manifest_of(b"{}"), "has no list of layers|is not an image"),
    "a layer that is not there": (no_layer, "404"),
}


@pytest.mark.parametrize("kind", SERVERS)
def test_a_registry_that_lies_is_found_out_and_leaves_nothing(own_store: Minirt, kind: str) -> None:
    lie, text = SERVERS[kind]
    before = contents(own_store.root)
    with Registry(Content(), lie) as registry:
        line = one_line(own_store("pull", PLAIN, f"{registry.host}/liar:1"))
    assert re.search(text, line), line
    assert contents(own_store.root) == before


@pytest.mark.parametrize("status", [307, 401, 404])
def test_what_nobody_wants_to_read_is_not_read_without_an_end(own_store: Minirt, status: int) -> None:
    sent = 0

    def drowning(handler: Handler) -> bool:
        nonlocal sent
        handler.send_response(status)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.send_header("Location", handler.path)
        handler.send_header("WWW-Authenticate", 'Bearer realm="/token"')
        handler.end_headers()
        chunk = b"10000\r\n" + bytes(65536) + b"\r\n"
        for _ in range(1000):
            handler.wfile.write(chunk)
            sent += len(chunk)
        return True

    with Registry(Content(), drowning) as registry:
        one_line(own_store("pull", PLAIN, f"{registry.host}/liar:1"))
    assert sent < 30 << 20, "the client hears no more than the system has buffered"


def altered(kind: str) -> Content:
    """An image that is wrong in itself, though every blob is what its digest says."""
    content = Content()
    config = json.loads(content.config)
    if kind == "too few diff_ids":
        config["rootfs"]["diff_ids"].pop()
    elif kind == "other diff_ids":
        config["rootfs"]["diff_ids"].reverse()
    elif kind == "a layer that is no archive":
        content.layers[1] = b"no archive" * 1000
    elif kind == "a layer that climbs out":
        content = Content(tar({"a": b"a"}), tar({"../../../../tmp/imgclient-escaped": b"b"}))
        config = json.loads(content.config)
    content.config = json.dumps(config).encode()
    content.describe()
    if kind == "a path for a digest":
        content.document["layers"][1]["digest"] = "sha256:../../../../etc/passwd"  # type: ignore[index]
    elif kind == "a size that is none":
        content.document["layers"][1]["size"] = -1  # type: ignore[index]
    elif kind == "a size of a petabyte":
        content.document["config"]["size"] = 1 << 49  # type: ignore[index]
    elif kind == "too many layers":
        content.document["layers"] *= 5000  # type: ignore[operator]
    elif kind == "a kind of layer that nobody has":
        content.document["layers"][1]["mediaType"] = "text/plain"  # type: ignore[index]
    return content


@pytest.mark.parametrize("kind", [
    "too few diff_ids", "other diff_ids", "a layer that is no archive", "a layer that climbs out", "a path for a digest",
    "a size that is none", "a size of a petabyte", "too many layers", "a kind of layer that nobody has",
])  # fmt: skip
def test_an_image_that_is_wrong_in_itself_leaves_nothing(own_store: Minirt, kind: str) -> None:
    before = contents(own_store.root)
    with Registry(altered(kind)) as registry:
        one_line(own_store("pull", PLAIN, f"{registry.host}/wrong:1"))
    assert contents(own_store.root) == before and not Path("/tmp/imgclient-escaped").exists()


@pytest.mark.parametrize("status", [429, 503])
def test_a_registry_that_is_always_busy_is_left_after_a_few_tries(own_store: Minirt, status: int) -> None:
    def busy(handler: Handler) -> bool:
        handler.answer(status, Retry_After="0")
        return True

    with Registry(Content(), busy) as registry:
        line = one_line(own_store("pull", PLAIN, f"{registry.host}/busy:1"))
    assert f"answers {status}" in line and 2 < len([path for path in registry.asked if "manifests" in path]) < 10


def test_a_registry_that_asks_for_a_day_is_not_waited_for(own_store: Minirt) -> None:
    def tomorrow(handler: Handler) -> bool:
        handler.answer(429, Retry_After="86400")
        return True

    begin = time.monotonic()
    with Registry(Content(), tomorrow) as registry:
        line = one_line(own_store("pull", PLAIN, f"{registry.host}/busy:1"))
    assert "86400 s" in line and time.monotonic() - begin < 100


def test_a_registry_that_is_busy_for_a_moment_is_asked_again(own_store: Minirt) -> None:
    answers = [503, 429, 502]

    def busy(handler: Handler) -> bool:
        if answers:
            handler.answer(answers.pop(), Retry_After="0")
            return True
        return False

    with Registry(Content(), busy) as registry:
        done = own_store("pull", PLAIN, f"{registry.host}/busy:1")
    assert done.returncode == 0 and not answers, done.stderr


def test_a_blob_that_breaks_off_is_gone_on_with_where_it_ended(own_store: Minirt) -> None:
    breaks = [5000, 100_000, 200_000]

    def breaking(handler: Handler) -> bool:
        data = handler.server.content.layers[1]
        if not breaks or not handler.blob:
            return False
        begin = int(handler.headers.get("Range", "bytes=0-")[6:-1])
        end = breaks.pop(0)
        handler.answer(206 if begin else 200, data[begin:end], Content_Length=len(data) - begin,
                       Content_Range=f"bytes {begin}-{len(data) - 1}/{len(data)}")  # fmt: skip
        handler.close_connection = True
        return True

    with Registry(Content(), breaking) as registry:
        done = own_store("pull", PLAIN, f"{registry.host}/breaks:1")
        assert done.returncode == 0, done.stderr
        assert [int(text[6:-1]) for text in registry.ranges] == [200_000]
    assert own_store("image", "verify", f"{registry.host}/breaks:1").returncode == 0
