"""load and pull of anything at all: an image, or one error; never a traceback, never half of one."""

from __future__ import annotations

import fcntl
import gzip
import io
import json
import os
import struct
import tarfile
import termios
import threading
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minirt.image.errors import BadArchive, ImageError
from minirt.image.load import load
from minirt.image.reference import Reference
from minirt.image.remote.errors import Lied
from minirt.image.remote.pull import _read
from minirt.image.save import save_docker, save_oci
from minirt.image.store import Store

LAYER = "application/vnd.oci.image.layer.v1.tar"
KEYS = st.sampled_from(["digest", "size", "mediaType", "layers", "config", "Config", "Layers", "RepoTags", "manifests"])
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8), lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(KEYS, inner, max_size=4), max_leaves=8,
)  # fmt: skip


def archives(tmp: str) -> dict[str, bytes]:
    """A small image, saved in both forms."""
    store = Store(f"{tmp}/source")
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("file"))
    with store.adding():
        layer = store.blobs.add(stream.getvalue(), LAYER)
        rootfs = {"type": "layers", "diff_ids": [layer["digest"]]}
        store.set_name("box", store.add_image({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}, [layer]))
    image = store.resolve("box")
    return {"oci": b"".join(save_oci(store, [("box", image)])), "docker": b"".join(save_docker(store, [("box", image)]))}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return archives(str(tmp_path_factory.mktemp("saved")))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(str(tmp_path_factory.mktemp("store") / "image"))


def tried(store: Store, data: bytes, /) -> None:
    """Load an archive: then the store has its image, or nothing."""
    fd = os.memfd_create("archive")
    try:
        os.write(fd, data)
        os.lseek(fd, 0, os.SEEK_SET)
        images = load(store, fd)
    except ImageError as error:
        assert "\n" not in str(error)
        images = []
    finally:
        os.close(fd)
    for image in images:
        assert store.resolve(image.name).layers()
    for entry in store.index.entries():
        store.remove(store.image(entry).name)
    assert store.blobs.all() == store.layers.all() == os.listdir(store.root + "/tmp") == []


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_changed_archive_is_an_image_or_an_error(data: st.DataObject, saved: dict[str, bytes], store: Store) -> None:
    archive = bytearray(saved[data.draw(st.sampled_from(["oci", "docker"]))])
    for _ in range(data.draw(st.integers(1, 3))):
        archive[data.draw(st.integers(0, len(archive) - 1))] = data.draw(st.integers(0, 255))
    tried(store, bytes(archive[: data.draw(st.integers(0, len(archive)))]) if data.draw(st.booleans()) else bytes(archive))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document=VALUES, name=st.sampled_from(["index.json", "manifest.json"]), raw=st.binary(max_size=20))
def test_any_index_is_an_image_or_an_error(document: object, name: str, raw: bytes, store: Store) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for path, text in ((name, json.dumps(document).encode()), ("layer.tar", raw)):
            info = tarfile.TarInfo(path)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text))
    tried(store, stream.getvalue())


def piped(store: Store, data: bytes) -> list[str]:
    """Load what comes through a pipe, its first bytes one by one."""
    reader, writer = os.pipe()

    def write() -> None:
        with open(writer, "wb", buffering=0) as pipe:
            for byte in data[:6]:
                pipe.write(bytes([byte]))
                while not empty(reader):
                    pass
            pipe.write(data[6:])

    def empty(fd: int) -> bool:
        return struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))[0] == 0

    thread = threading.Thread(target=write)
    thread.start()
    try:
        return [image.name for image in load(store, reader)]
    finally:
        thread.join()
        os.close(reader)


@pytest.mark.parametrize("form", ["oci", "docker"])
def test_what_comes_through_a_pipe_by_bytes_is_loaded(saved: dict[str, bytes], form: str, store: Store) -> None:
    assert piped(store, gzip.compress(saved[form])) == ["box:latest"]
    store.remove("box")


def test_an_archive_that_unpacks_without_an_end_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minirt.image.load.PACKED_LIMIT", 1 << 20)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        info = tarfile.TarInfo("layer.tar")
        info.size = 8 << 20
        tar.addfile(info, io.BytesIO(bytes(info.size)))
    with open(os.memfd_create("bomb"), "w+b") as bomb:
        bomb.write(gzip.compress(stream.getvalue()))
        bomb.seek(0)
        with pytest.raises(BadArchive, match="more than 1 MiB, the limit for an archive"):
            load(store, bomb.fileno())
    assert store.blobs.all() == os.listdir(store.root + "/tmp") == []


@settings(max_examples=300)
@given(manifest=st.dictionaries(st.sampled_from(["layers", "config", "mediaType"]), VALUES, max_size=3))
def test_any_manifest_of_a_registry_is_read_or_called_a_lie(manifest: dict[str, Any]) -> None:
    try:
        config, layers = _read(manifest, Reference.parse("box"))
    except Lied:
        return
    assert all(one["size"] >= 0 and ":" in one["digest"] for one in [config, *layers])
