"""Images whose digests are SHA-512 (image-spec descriptor.md#sha-512): loaded, verified, pushed, pulled, saved."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path

import pytest
from command import Minirt
from liars import CONFIG, MANIFEST, tar
from registry_server import Server

pytest.importorskip("aiohttp")
PLAIN = "--tls-verify=false"


def layout(place: Path) -> str:
    """Write an image layout of such an image, as a tar. Returns the layer's digest."""
    blobs = place / "blobs" / "sha512"
    blobs.mkdir(parents=True)

    def put(data: bytes, media: str) -> dict[str, object]:
        name = hashlib.sha512(data).hexdigest()
        (blobs / name).write_bytes(data)
        return {"mediaType": media, "digest": f"sha512:{name}", "size": len(data)}

    layer = put(tar({"file": b"content"}), "application/vnd.oci.image.layer.v1.tar")
    rootfs = {"type": "layers", "diff_ids": [layer["digest"]]}
    config = put(json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}).encode(), CONFIG)
    document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]}
    named = {**put(json.dumps(document).encode(), MANIFEST), "annotations": {"org.opencontainers.image.ref.name": "long:1"}}
    (place / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [named]}))
    (place / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    with tarfile.open(place / "layout.tar", "w") as archive:
        for name in ("oci-layout", "index.json", "blobs"):
            archive.add(place / name, name)
    return str(layer["digest"])


def test_they_go_the_same_ways(own_store: Minirt, tmp_path: Path) -> None:
    digest = layout(tmp_path)
    own_store.good("load", "-i", tmp_path / "layout.tar")
    server = Server(tmp_path / "registry", "-q")
    try:
        name = f"{server.host}/long:1"
        own_store.good("push", PLAIN, "long:1", name)
        own_store.good("rmi", "long:1")
        assert not list((own_store.root / "lib" / "image" / "blobs" / "sha512").iterdir())
        own_store.good("pull", PLAIN, name)
    finally:
        server.stop()
    assert f"{digest}  ok" in own_store.good("image", "verify", name)
    (own_store.root / "lib/image/blobs/sha512" / digest.partition(":")[2]).chmod(0o600)
    with open(own_store.root / "lib/image/blobs/sha512" / digest.partition(":")[2], "r+b") as file:
        file.seek(600)
        file.write(b"x")
    done = own_store("image", "verify", name)
    assert done.returncode == 1 and f"{digest}  DAMAGED" in done.stdout
    own_store.good("image", "export", "-o", tmp_path / "tree.tar", name)
    with tarfile.open(tmp_path / "tree.tar") as tree:
        assert "file" in [member.name.removeprefix("./") for member in tree]
