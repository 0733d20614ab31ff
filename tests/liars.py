"""A registry that tells the truth but for one thing: plain HTTP on loopback, scripted by who starts it."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import socket
import tarfile
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def digest(data: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def descriptor(data: bytes, media: str, **more: object) -> dict[str, object]:
    return {"mediaType": media, "digest": digest(data), "size": len(data), **more}


def tar(files: dict[str, bytes]) -> bytes:
    """Return an archive of files."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


class Content:
    """An image: what its manifest, configuration and layers are, as bytes; change them before it is served."""

    def __init__(self, *tars: bytes) -> None:
        tars = tars or (tar({"hello": b"hello " * 5000}), tar({"more": random.Random(1).randbytes(300_000)}))
        self.layers = [gzip.compress(one, 1) for one in tars]
        self.config = json.dumps({
            "architecture": "amd64", "os": "linux", "config": {"Cmd": ["/hello"]},
            "rootfs": {"type": "layers", "diff_ids": [digest(one) for one in tars]},
        }).encode()  # fmt: skip
        self.describe()

    def describe(self) -> None:
        """Make the manifest of what is there now."""
        self.document = {
            "schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(self.config, CONFIG),
            "layers": [descriptor(layer, LAYER) for layer in self.layers],
        }  # fmt: skip

    @property
    def manifest(self) -> bytes:
        return json.dumps(self.document).encode()

    @property
    def blobs(self) -> dict[str, bytes]:
        return {digest(data): data for data in (self.config, *self.layers)}


def speaks_tls(connection: socket.socket) -> bool:
    """Return whether a client begins with TLS: it is to hear at once that here is none, and not wait for a line's end."""
    return connection.recv(1, socket.MSG_PEEK) == b"\x16"


class Loopback(ThreadingHTTPServer):
    """A server on a port of its own. A context manager; `host` is HOST:PORT."""

    daemon_threads = True

    def __init__(self, handler: type[Speaker]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.host = f"127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, *_: object) -> None:
        """A client that has heard enough is no error of the test's."""


class Speaker(BaseHTTPRequestHandler):
    """One connection to it, in plain HTTP."""

    protocol_version = "HTTP/1.1"

    def handle(self) -> None:
        if not speaks_tls(self.connection):
            super().handle()

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, body: bytes = b"", **headers: object) -> None:
        """Send a response; `_` in a header's name stands for `-`."""
        self.send_response(status)
        for name, value in {"Content_Length": len(body), **headers}.items():
            if value != "":
                self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class Registry(Loopback):
    """Serves one image under every name.

    Args: content; lie, called with the handler before each answer: it returns whether it answered itself.
    """

    def __init__(self, content: Content, lie: Callable[[Handler], bool] = lambda handler: False) -> None:
        super().__init__(Handler)
        self.content = content
        self.lie = lie
        self.guarded = False  # /v2/ may be lied about too: else it says to all that here is a registry
        self.asked: list[str] = []  # METHOD PATH, in order
        self.ranges: list[str] = []


class Handler(Speaker):
    """One connection."""

    server: Registry

    @property
    def blob(self) -> bool:
        """Whether the last layer's blob is asked for."""
        return self.path.endswith(digest(self.server.content.layers[-1]))

    def do_GET(self) -> None:
        content = self.server.content
        self.server.asked.append(f"{self.command} {self.path}")
        if (self.path != "/v2/" or self.server.guarded) and self.server.lie(self):
            return
        name = self.path.rpartition("/")[2]
        if self.path == "/v2/":
            self.answer(200, b"{}")
        elif "/manifests/" in self.path:
            known = ":" not in name or name == digest(content.manifest)
            self.answer(200 if known else 404, content.manifest if known else b"", Content_Type=MANIFEST)
        elif "/blobs/" in self.path and name in content.blobs:
            self.send_blob(content.blobs[name])
        else:
            self.answer(404, b'{"errors": [{"code": "NAME_UNKNOWN", "message": "no such thing"}]}')

    do_HEAD = do_POST = do_GET

    def send_blob(self, data: bytes) -> None:
        wanted = self.headers.get("Range", "")
        if not wanted:
            self.answer(200, data)
            return
        self.server.ranges.append(wanted)
        begin = int(wanted.removeprefix("bytes=").partition("-")[0])
        self.answer(206, data[begin:], Content_Range=f"bytes {begin}-{len(data) - 1}/{len(data)}")
