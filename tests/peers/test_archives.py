"""Archives that skopeo, podman and umoci write and read: save, load, export, compared with what they say of them."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import subprocess
import tarfile
import time
from pathlib import Path

import pytest
from command import Minirt

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="layers with owners need root"),
]


def ok(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def run(*words: object) -> str:
    if shutil.which(str(words[0])) is None:
        pytest.skip(f"{words[0]} is not installed")
    return ok(subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=60))


def description(minirt: Minirt, name: str) -> dict[str, object]:
    return json.loads(ok(minirt("image", "inspect", name)))[0]


@pytest.mark.parametrize(("format", "transport"), [("oci", "oci-archive"), ("docker", "docker-archive")])
def test_what_is_saved_is_what_skopeo_reads(own_store: Minirt, tmp_path: Path, format: str, transport: str) -> None:
    ok(own_store("save", "--format", format, "-o", tmp_path / "a.tar", "busybox"))
    run("skopeo", "copy", "-q", f"{transport}:{tmp_path}/a.tar:{'docker.io/library/' * (format == 'docker')}busybox:latest",
        f"dir:{tmp_path}/out")  # fmt: skip
    mine = description(own_store, "busybox")
    config = json.loads((tmp_path / "out" / str(mine["Id"]).partition(":")[2]).read_text())
    assert config["rootfs"]["diff_ids"] == mine["RootFS"]["Layers"]


@pytest.mark.parametrize("format", ["oci", "docker"])
def test_a_saved_archive_is_the_same_bytes_each_time(own_store: Minirt, tmp_path: Path, format: str) -> None:
    archives = []
    for name in ("a.tar", "b.tar"):
        ok(own_store("save", "--format", format, "-o", tmp_path / name, "busybox"))
        archives.append((tmp_path / name).read_bytes())
        time.sleep(0.01)
    assert archives[0] == archives[1]


@pytest.mark.parametrize("format", ["oci", "docker"])
@pytest.mark.parametrize("packed", [False, True])
def test_what_is_saved_is_loaded_again(own_store: Minirt, tmp_path: Path, format: str, packed: bool) -> None:
    ok(own_store("tag", "busybox", "other:1"))
    ok(own_store("image", "save", "--format", format, "-o", tmp_path / "a.tar", "busybox", "other:1"))
    before = description(own_store, "busybox")
    ok(own_store("rmi", "busybox", "other:1"))
    path = tmp_path / "a.tar"
    if packed:
        path.write_bytes(gzip.compress(path.read_bytes(), 1))
    names = ok(own_store("image", "load", "-i", path)).splitlines()
    assert sorted(names) == ["Loaded image: busybox:latest", "Loaded image: other:1"]
    after = description(own_store, "other:1")
    assert (after["Id"], after["RootFS"]) == (before["Id"], before["RootFS"])
    assert format == "docker" or after["Digest"] == before["Digest"]
    assert ok(own_store("run", "--rm", "other:1", "echo", "hi")) == "hi"


@pytest.mark.parametrize("transport", ["oci-archive", "docker-archive"])
def test_what_skopeo_writes_is_loaded_through_a_pipe(own_store: Minirt, tmp_path: Path, transport: str) -> None:
    reference = "their:1" if transport == "oci-archive" else "docker.io/library/their:1"
    run("skopeo", "copy", "-q", f"oci:{own_store.root}/lib/image:busybox:latest", f"{transport}:{tmp_path}/a.tar:{reference}")
    load = f"cat {tmp_path}/a.tar | {' '.join(own_store.program)} load -q"
    id = ok(subprocess.run(load, shell=True, env=own_store.env, capture_output=True, text=True, timeout=60))
    assert description(own_store, "their:1")["Id"] == id
    assert ok(own_store("run", "--rm", "their:1", "echo", "hi")) == "hi"


@pytest.mark.parametrize("transport", ["oci-archive", "docker-archive"])
def test_an_archive_that_names_no_image_gives_one_that_its_id_leads_to(own_store: Minirt, tmp_path: Path, transport: str) -> None:
    run("skopeo", "copy", "-q", f"oci:{own_store.root}/lib/image:busybox:latest", f"{transport}:{tmp_path}/a.tar")
    ok(own_store("rmi", "busybox"))
    told = ok(own_store("load", "-i", f"{tmp_path}/a.tar"))
    id = told.removeprefix("Loaded image ID: ")
    assert ok(own_store("run", "--rm", id, "echo", "hi")) == "hi"
    assert f"<none> {id}" in ok(own_store("images", "--no-trunc", "--format", "{{.Tag}} {{.ID}}"))
    assert own_store("load", "-i", f"{tmp_path}/a.tar", "-t", "named:1").returncode == 0
    assert ok(own_store("images", "--format", "{{.Repository}}")).split() == ["named"]


def test_an_archive_of_sha512_is_loaded_and_run(own_store: Minirt, tmp_path: Path) -> None:
    import hashlib

    def add(tar: tarfile.TarFile, data: bytes) -> dict[str, object]:
        digest = hashlib.sha512(data).hexdigest()
        info = tarfile.TarInfo(f"blobs/sha512/{digest}")
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
        return {"digest": f"sha512:{digest}", "size": len(data)}

    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as layer:
        layer.add("/bin/busybox", "bin/echo")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        blob = add(tar, stream.getvalue())
        config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [blob["digest"]]}}
        manifest = {
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **add(tar, json.dumps(config).encode())},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", **blob}],
        }  # fmt: skip
        entry = {"mediaType": manifest["mediaType"], **add(tar, json.dumps(manifest).encode())}
        index = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
        info = tarfile.TarInfo("index.json")
        info.size = len(index)
        tar.addfile(info, io.BytesIO(index))
    nameless = own_store("load", "-i", tmp_path / "a.tar")
    assert nameless.returncode == 0 and nameless.stdout.startswith("Loaded image ID: sha512:")
    ok(own_store("load", "-i", tmp_path / "a.tar", "--tag", "big"))
    assert ok(own_store("run", "--rm", "big", "/bin/echo", "hi")) == "hi"
    assert ok(own_store("image", "verify", "big")).count("ok") == 3


def test_the_tree_that_is_exported_is_the_image(own_store: Minirt, tmp_path: Path) -> None:
    ok(own_store("image", "export", "-o", tmp_path / "a.tar", "busybox"))
    with tarfile.open(tmp_path / "a.tar") as tar:
        names = {name.removeprefix("./") for name in tar.getnames()}
    assert {"bin/sh", "etc/passwd", "tmp"} <= names
    ok(own_store("image", "import", tmp_path / "a.tar", "again"))
    ok(own_store("image", "export", "-o", tmp_path / "b.tar", "again"))
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


@pytest.mark.parametrize("kind", ["empty", "a root file system", "a changed blob", "a layer missing", "cut"])
def test_what_is_no_archive_of_images_leaves_nothing(own_store: Minirt, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.tar"
    ok(own_store("save", "-o", path, "busybox"))
    ok(own_store("rmi", "busybox"))
    blobs = own_store.root / "lib" / "image" / "blobs" / "sha256"
    data = path.read_bytes()
    if kind == "empty":
        data = b""
    elif kind == "a root file system":
        with tarfile.open(path, "w") as tar:
            tar.add("/bin/busybox", "bin/sh")
        data = path.read_bytes()
    elif kind == "a changed blob":
        data = data[:20_000] + b"no" + data[20_002:]
    elif kind == "a layer missing":
        with tarfile.open(path) as tar:
            largest = max(tar.getmembers(), key=lambda member: member.size)
        begin = largest.offset
        data = data[:begin] + data[largest.offset_data + (largest.size + 511) // 512 * 512 :]
    elif kind == "cut":
        data = data[: len(data) // 2]
    path.write_bytes(data)
    done = own_store("load", "-i", path)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and done.stderr.startswith("minirt: "), done.stderr
    assert list(blobs.iterdir()) == [] and "busybox" not in ok(own_store("images"))
