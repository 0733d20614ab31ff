"""Images whose configuration is none, from a registry or an archive: refused in one line when they come, and nothing is left."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import liars
import pytest
from command import Minirt
from liars import Content, Registry, tar

from minirt.image.errors import ImageError
from minirt.image.load import load
from minirt.image.remote.errors import Lied
from minirt.image.remote.pull import pull
from minirt.image.store import Store

WRONG = [
    {"config": {"Env": 7}}, {"config": {"Env": [7]}}, {"config": {"Labels": ["a"]}}, {"config": {"WorkingDir": ["x"]}},
    {"config": {"Healthcheck": 7}}, {"config": {"Healthcheck": {"Test": 7}}}, {"config": {"OnBuild": 7}}, {"config": ["x"]},
    {"history": 7}, {"history": ["a"]}, {"author": ["\ud800"]},
]  # fmt: skip
RIGHT = {
    "config": {"Env": None, "Labels": None, "OnBuild": None, "Healthcheck": {"Interval": 1}, "Cmd": ["\U0001f600"]},
    "history": None,
}  # fmt: skip


def content(changes: dict[str, Any]) -> Content:
    found = Content()
    found.config = json.dumps({**json.loads(found.config), **changes}).encode()
    found.describe()
    return found


def left(store: Store) -> list[object]:
    return [*store.index.entries(), *store.blobs.all(), *store.layers.all(), *os.listdir(store.root + "/tmp")]


@pytest.mark.parametrize("changes", WRONG, ids=ascii)
def test_what_is_no_configuration_is_not_pulled(tmp_path: Path, changes: dict[str, Any]) -> None:
    store = Store(str(tmp_path / "store"))
    with Registry(content(changes)) as registry, pytest.raises(Lied, match=r" is not |half of a character"):
        pull(store, f"{registry.host}/app:1", verify=False)
    assert left(store) == []


@pytest.mark.parametrize("changes", WRONG, ids=ascii)
def test_what_is_no_configuration_is_not_loaded(tmp_path: Path, changes: dict[str, Any]) -> None:
    found = content(changes)
    index = {"schemaVersion": 2, "manifests": [liars.descriptor(found.manifest, liars.MANIFEST)]}
    blobs = {f"blobs/{digest.replace(':', '/')}": data for digest, data in found.blobs.items()}
    blobs[f"blobs/{liars.digest(found.manifest).replace(':', '/')}"] = found.manifest
    (tmp_path / "archive").write_bytes(tar({"oci-layout": b"{}", "index.json": json.dumps(index).encode(), **blobs}))
    store = Store(str(tmp_path / "store"))
    why = r" is not |half of a character|lacks what it must have"
    with open(tmp_path / "archive", "rb") as file, pytest.raises(ImageError, match=why):
        load(store, file.fileno())
    assert left(store) == []


def test_what_is_null_or_rare_is_taken(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    with Registry(content(RIGHT)) as registry:
        assert pull(store, f"{registry.host}/app:1", verify=False).config["config"] == RIGHT["config"]


def test_history_moves_no_cursor_and_is_a_line_a_step(own_store: Minirt) -> None:
    steps = [{"created_by": "RUN one\n\ttwo \x1b[2J\u009b1m", "comment": "a\rb"}]
    with Registry(content({"history": steps})) as registry:
        own_store.good("pull", "-q", "--tls-verify=false", f"{registry.host}/app:1")
        rows = own_store.good("history", "--no-trunc", f"{registry.host}/app:1").splitlines()
    assert len(rows) == 2 and "RUN one two ?[2J?1m" in rows[1] and rows[1].endswith("a b") and rows[1].isprintable()
