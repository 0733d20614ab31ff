"""Registries for tests: Debian's docker-registry (distribution) on loopback, its data in a directory of the test's."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

CONFIG = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {root}}}, delete: {{enabled: true}}, maintenance: {{uploadpurging: {{enabled: false}}}}}}
http: {{addr: "127.0.0.1:{port}"{tls}}}
{auth}
"""


class DockerRegistry:
    """A docker-registry; `host` is HOST:PORT. A context manager.

    Args: root, a directory of its own; users, a htpasswd file; certificate and key, to speak TLS.
    """

    def __init__(self, root: Path, users: Path | None = None, certificate: Path | None = None, key: Path | None = None) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.host = f"127.0.0.1:{port}"
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        auth = f"auth: {{htpasswd: {{realm: test, path: {users}}}}}" if users else ""
        tls = f", tls: {{certificate: {certificate}, key: {key}}}" if certificate else ""
        self._config = root / "config.yml"
        self._config.write_text(CONFIG.format(root=root / "data", port=port, auth=auth, tls=tls))

    def __enter__(self) -> DockerRegistry:
        self.process = subprocess.Popen(["docker-registry", "serve", self._config], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=open(self.root / "log", "wb"))  # fmt: skip
        host, _, port = self.host.partition(":")
        for _ in range(200):
            try:
                socket.create_connection((host, int(port)), 1).close()
                return self
            except OSError:
                assert self.process.poll() is None, (self.root / "log").read_text()
                time.sleep(0.05)
        raise AssertionError("docker-registry does not answer")

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(20)

    def blobs(self) -> set[str]:
        """Return the digests of the blobs that it has."""
        return {path.parent.name for path in self.root.glob("data/docker/registry/v2/blobs/sha256/*/*/data")}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    """One for all tests of a file."""
    with DockerRegistry(tmp_path_factory.mktemp("registry")) as registry:
        yield registry


def available() -> bool:
    """Return whether docker-registry is installed."""
    return shutil.which("docker-registry") is not None
