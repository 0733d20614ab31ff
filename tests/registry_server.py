"""A registry of ours that runs, and a client so thin that a test sees each header: for tests of `minirt registry`."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

__all__ = ["INDEX", "MANIFEST", "Answer", "Client", "Server", "digest_of", "fresh", "image", "registry"]

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
EMPTY = b"{}"


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


class Answer:
    """What came back; header names in lower case."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def codes(self) -> list[str]:
        """The specification's error codes in the body (spec.md#error-codes)."""
        document = self.json()
        assert set(document) == {"errors"} and all({"code", "message"} <= set(error) for error in document["errors"])
        return [error["code"] for error in document["errors"]]


class Client:
    """Requests, each over a connection of its own."""

    def __init__(self, url: str, headers: dict[str, str] | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.url = url
        self.host = urlsplit(url).netloc
        self.headers = headers or {}
        self._tls = tls

    def connection(self) -> http.client.HTTPConnection:
        if self._tls:
            return http.client.HTTPSConnection(self.host, timeout=30, context=self._tls)
        return http.client.HTTPConnection(self.host, timeout=30)

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Send a request; `Content_Type="x"` is the header Content-Type."""
        connection = self.connection()
        sent = {**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        if body is None and method in ("POST", "PUT", "PATCH"):
            sent.setdefault("Content-Length", "0")
        connection.request(method, path, body, sent)
        try:
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def begin(self, name: str) -> str:
        """Begin an upload; return its location."""
        answer = self("POST", f"/v2/{name}/blobs/uploads/")
        assert answer.status == 202, answer.body
        return answer.headers["location"]

    def push_blob(self, name: str, data: bytes, algorithm: str = "sha256") -> str:
        digest = digest_of(data, algorithm)
        answer = self("PUT", f"{self.begin(name)}?digest={digest}", data)
        assert answer.status == 201, answer.body
        return digest

    def push_manifest(self, name: str, reference: str, document: dict[str, Any]) -> str:
        data = json.dumps(document).encode()
        answer = self("PUT", f"/v2/{name}/manifests/{reference}", data, Content_Type=document["mediaType"])
        assert answer.status == 201, answer.body
        return digest_of(data)

    def push_image(self, name: str, reference: str, *layers: bytes, **more: Any) -> str:
        """Push an image of some layers; return its manifest's digest."""
        return self.push_manifest(name, reference, image(self, name, *layers, **more))


def image(client: Client, name: str, *layers: bytes, **more: Any) -> dict[str, Any]:
    """Push blobs and return a manifest that leads to them."""
    config = more.pop("configuration", EMPTY)
    items = [(LAYER, layer) for layer in layers]
    for _, data in [(CONFIG, config), *items]:
        client.push_blob(name, data)
    descriptors = [{"mediaType": kind, "digest": digest_of(data), "size": len(data)} for kind, data in [(CONFIG, config), *items]]
    return {"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptors[0], "layers": descriptors[1:], **more}


class Server:
    """`minirt registry serve` on a free port of loopback."""

    def __init__(self, root: Path, *options: object, port: int = 0) -> None:
        self.root = root
        self.options = options
        self.start(port)

    def start(self, port: int = 0) -> None:
        words = ["registry", "serve", "--root", self.root, "--listen", f"127.0.0.1:{port}", "--format", "json", *self.options]
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen([sys.executable, "-m", "minirt", *map(str, words)], stdout=subprocess.PIPE,
                                        stderr=self.log, text=True)  # fmt: skip
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, self.messages()
        self.url = json.loads(line)["url"]
        self.host = urlsplit(self.url).netloc
        self.port = int(self.host.rpartition(":")[2])
        self.client = Client(self.url)

    def messages(self) -> str:
        self.process.wait(10)
        self.log.seek(0)
        return self.log.read()

    def stop(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)
        self.process.wait(20)

    def restart(self, number: int = signal.SIGTERM) -> None:
        """Stop it, and start it again on the same port."""
        self.stop(number)
        self.start(self.port)

    def gc(self, *options: object) -> list[dict[str, Any]]:
        """Collect garbage as another process; return what went."""
        words = ["registry", "gc", "--root", self.root, "--format", "json", *options]
        done = subprocess.run([sys.executable, "-m", "minirt", *map(str, words)], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    @property
    def blobs(self) -> set[str]:
        """The digests of all content on disk, each checked."""
        found = set()
        for path in (self.root / "blobs").glob("*/*"):
            digest = f"{path.parent.name}:{path.name}"
            assert digest_of(path.read_bytes(), path.parent.name) == digest, f"{path} is not what it is called"
            found.add(digest)
        return found


@contextlib.contextmanager
def fresh(*options: object) -> Iterator[Server]:
    """Serve from a new directory on a disk, which goes with the server."""
    root = Path(tempfile.mkdtemp(prefix="minirt-registry-", dir="/var/tmp"))
    server = Server(root / "registry", *options)
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(root)


@pytest.fixture(scope="module")
def registry() -> Iterator[Server]:
    """A registry for a module's tests, which take repositories of their own."""
    pytest.importorskip("aiohttp", reason="the extra `serve` is not installed")
    with fresh("--quiet") as server:
        yield server


def free_space(path: Path) -> int:
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize
