"""The embedded image, read from the store's files by others than us: hashlib, tarfile, skopeo; and built twice."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="devices and owners of layers need root"),
]

skopeo_needed = pytest.mark.skipif(not shutil.which("skopeo"), reason="skopeo is not installed")


def skopeo(*words: object) -> str:
    done = subprocess.run(["skopeo", "--insecure-policy", *map(str, words)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def layout(image_store: Path) -> Path:
    return image_store / "lib" / "image"


def blob(layout: Path, descriptor: dict) -> bytes:
    """Content, compared with all that its descriptor says (image-spec descriptor.md)."""
    algorithm, _, encoded = descriptor["digest"].partition(":")
    data = (layout / "blobs" / algorithm / encoded).read_bytes()
    assert hashlib.new(algorithm, data).hexdigest() == encoded and len(data) == descriptor["size"]
    return data


def manifest_of(layout: Path) -> dict:
    (entry,) = json.loads((layout / "index.json").read_text())["manifests"]
    return json.loads(blob(layout, entry))


def test_the_directory_is_an_image_layout(layout):
    assert json.loads((layout / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((layout / "index.json").read_text())
    assert index["schemaVersion"] == 2
    (entry,) = index["manifests"]
    assert entry["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert entry["annotations"] == {"org.opencontainers.image.ref.name": "busybox:latest"}
    for path in (layout / "blobs" / "sha256").iterdir():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name


def test_manifest_and_configuration_describe_the_layer_and_its_history(layout):
    manifest = manifest_of(layout)
    assert (manifest["schemaVersion"], manifest["mediaType"]) == (2, "application/vnd.oci.image.manifest.v1+json")
    assert manifest["config"]["mediaType"] == "application/vnd.oci.image.config.v1+json"
    config = json.loads(blob(layout, manifest["config"]))
    (layer,) = manifest["layers"]
    assert layer["mediaType"] == "application/vnd.oci.image.layer.v1.tar"
    assert config["rootfs"] == {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(blob(layout, layer)).hexdigest()]}
    assert len([step for step in config["history"] if not step.get("empty_layer")]) == len(manifest["layers"])
    rfc3339 = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
    assert all(re.fullmatch(rfc3339, text) for text in [config["created"], *(step["created"] for step in config["history"])])
    assert (config["os"], config["architecture"]) == ("linux", "amd64") and config["config"]["Cmd"] == ["sh"]


def test_tarfile_reads_the_layer_as_it_was_unpacked(layout):
    (layer,) = manifest_of(layout)["layers"]
    (unpacked,) = (layout / "layers").iterdir()
    with tarfile.open(fileobj=io.BytesIO(blob(layout, layer))) as tar:
        members = {os.path.normpath(info.name): info for info in tar}
    there = {os.path.relpath(os.path.join(above, name), unpacked) for above, d, f in os.walk(unpacked) for name in d + f}
    assert set(members) == there | {"."}
    for name, info in members.items():
        status = (unpacked / name).lstat()
        assert (status.st_mode & 0o7777, status.st_uid, status.st_mtime) == (info.mode, info.uid, info.mtime), name
    assert (unpacked / "bin/busybox").read_bytes() == Path("/bin/busybox").read_bytes()


def test_two_builds_in_two_places_at_two_times_are_the_same_bytes(own_store, image_store):
    image = own_store.root / "lib" / "image"
    shutil.rmtree(image)
    own_store.env |= {"TZ": "Asia/Kathmandu", "LC_ALL": "C", "HOME": "/nonexistent", "PYTHONHASHSEED": "1"}
    built = own_store("run", "--plan", "busybox", "true", umask=0o077)
    assert built.returncode == 0, built.stderr
    first = image_store / "lib" / "image"
    assert (image / "index.json").read_bytes() == (first / "index.json").read_bytes()
    for part in ("blobs/sha256", "layers"):
        assert set(os.listdir(image / part)) == set(os.listdir(first / part))


@skopeo_needed
def test_skopeo_inspects_it(layout):
    raw = json.loads(skopeo("inspect", "--raw", f"oci:{layout}:busybox:latest"))
    assert raw == manifest_of(layout)
    told = json.loads(skopeo("inspect", f"oci:{layout}:busybox:latest"))
    config = json.loads(blob(layout, raw["config"]))
    assert told["Layers"] == [layer["digest"] for layer in raw["layers"]]
    assert (told["Architecture"], told["Os"], told["Env"]) == ("amd64", "linux", config["config"]["Env"])


@skopeo_needed
@pytest.mark.parametrize("kind", ["dir", "oci-archive", "docker-archive"])
def test_skopeo_copies_it_out(layout, tmp_path, kind):
    target = f"{kind}:{tmp_path / 'copy'}" + (":box:copy" if kind == "docker-archive" else "")
    skopeo("copy", f"oci:{layout}:busybox:latest", target)
    config = json.loads(skopeo("inspect", "--config", target))
    assert config["rootfs"] == json.loads(blob(layout, manifest_of(layout)["config"]))["rootfs"]


@skopeo_needed
@pytest.mark.parametrize("packed", ["gzip", "zstd"])
def test_what_skopeo_puts_into_the_store_runs(own_store, packed):
    """It packs the layer on the way and writes index.json itself."""
    layout = own_store.root / "lib" / "image"
    between = f"dir:{own_store.root}/dir"
    skopeo("copy", "--dest-compress", "--dest-compress-format", packed, f"oci:{layout}:busybox:latest", between)
    skopeo("copy", between, f"oci:{layout}:copied:v1")
    names = own_store("image", "ls", "--format", "json").stdout
    assert {json.loads(line)["Repository"] for line in names.splitlines()} == {"busybox", "copied"}
    index = json.loads((layout / "index.json").read_text())["manifests"]
    (entry,) = [entry for entry in index if entry["annotations"]["org.opencontainers.image.ref.name"] == "copied:v1"]
    (layer,) = json.loads(blob(layout, entry))["layers"]
    magic = {"gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd"}[packed]
    assert layer["mediaType"].endswith("tar+" + packed) and blob(layout, layer).startswith(magic)
    shutil.rmtree(layout / "layers")
    (layout / "layers").mkdir()
    done = own_store("run", "--rm", "copied:v1", "cat", "/etc/passwd")
    assert (done.returncode, done.stdout[:5]) == (0, "root:"), done.stderr
    assert own_store("image", "verify", "copied:v1").returncode == 0


@skopeo_needed
def test_a_layout_that_skopeo_made_is_a_store(own_store):
    layout = own_store.root / "lib" / "image"
    layout.rename(own_store.root / "source")
    skopeo("copy", f"oci:{own_store.root}/source:busybox:latest", f"oci:{layout}:mine:latest")
    done = own_store("run", "--rm", "mine", "echo", "here")
    assert (done.returncode, done.stdout) == (0, "here\n"), done.stderr
