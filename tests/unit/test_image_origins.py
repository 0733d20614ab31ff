"""Which repositories have a blob: hints that are short, newest first, and gone with their blob."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from minirt.image import origins
from minirt.image.origins import Origins
from minirt.image.store import Store

A, B = "sha256:" + "a" * 64, "sha512:" + "b" * 128


def test_the_newest_repository_comes_first_and_each_once(tmp_path: Path) -> None:
    store = Origins(str(tmp_path / "origins"))
    for name in ("host/a", "host/b", "host/a", "other:5000/c"):
        store.add([A, B], name)
    assert store.of(A) == store.of(B) == ["other:5000/c", "host/b", "host/a"]


def test_what_is_not_noted_or_cannot_be_read_has_no_origins(tmp_path: Path) -> None:
    assert Origins(str(tmp_path / "none")).of(A) == []
    (tmp_path / f"sha256-{'a' * 64}").write_bytes(b"host/a\n\0\0\xff\xfe\n\nhost/b\n")
    assert [name for name in Origins(str(tmp_path)).of(A) if name.startswith("host/")] == ["host/b", "host/a"]


def test_a_file_does_not_grow_for_ever(tmp_path: Path) -> None:
    store = Origins(str(tmp_path))
    for number in range(1000):
        store.add([A], f"registry.example:5000/team/app{number}")
    assert store.of(A)[0].endswith("app999")
    assert max(path.stat().st_size for path in tmp_path.iterdir()) <= origins.LIMIT


def test_a_disk_that_is_full_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Origins, "_place", lambda *_: "/dev/full")
    Origins(str(tmp_path)).add([A], "host/a")


def test_what_is_noted_goes_with_its_blob(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    with store.adding():
        layer = store.blobs.add(b"any", "application/vnd.oci.image.layer.v1.tar")
        rootfs = {"type": "layers", "diff_ids": [layer["digest"]]}
        kept = store.add_image({"architecture": "amd64", "os": "linux", "rootfs": rootfs}, [layer])
        store.set_name("kept", kept)
        store.origins.add([kept["digest"], A], "host/a")
    store.collect()
    assert store.origins.of(kept["digest"]) == ["host/a"]
    assert os.listdir(tmp_path / "store" / "origins") == [kept["digest"].replace(":", "-")]
