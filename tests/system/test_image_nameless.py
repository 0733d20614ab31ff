"""Images whose name went to another one: kept, listed as docker lists them, found by their ID, pruned."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

pytestmark = [pytest.mark.timeout(300), pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]


def build(own_store, path: Path, word: str, *more: str) -> str:
    """Build an image with a file of its own; return its ID."""
    (path / "Dockerfile").write_text(f"FROM busybox\nLABEL word={word}\nCOPY word /word\n")
    (path / "word").write_text(f"{word}\n")
    return own_store.good("build", "-q", *more, path).strip()


def blobs(own_store) -> set[str]:
    folder = own_store.root / "lib" / "image" / "blobs"
    return {f"{kind.name}:{blob.name}" for kind in folder.iterdir() for blob in kind.iterdir()}


def rows(own_store, *more: str) -> list[dict]:
    return [json.loads(line) for line in own_store.good("images", "--format", "json", "--no-trunc", *more).splitlines()]


def test_what_a_build_replaces_stays_without_a_name_until_it_is_pruned(own_store, tmp_path: Path) -> None:
    first, second = build(own_store, tmp_path, "one", "-t", "app"), build(own_store, tmp_path, "two", "-t", "app")
    third = build(own_store, tmp_path, "three")
    found = {row["ID"]: (row["Repository"], row["Tag"]) for row in rows(own_store)}
    assert found[first] == found[third] == ("<none>", "<none>") and found[second] == ("app", "latest")
    assert {row["ID"] for row in rows(own_store, "-f", "dangling=true")} == {first, third}
    assert {row["Repository"] for row in rows(own_store, "-f", "dangling=false")} == {"app", "busybox"}
    assert own_store.good("run", "--rm", first[7:19], "cat", "/word") == "one\n"
    told = json.loads(own_store.good("inspect", first))[0]
    assert told["RepoTags"] == told["RepoDigests"] == []
    own_store.good("create", "--name", "box", first[7:19], "cat", "/word")
    assert own_store.good("ps", "-a", "--format", "{{.Image}}").strip() == first[7:19]
    own_store.good("image", "prune", "-f")
    left = {row["ID"] for row in rows(own_store)}
    assert {first, second} <= left and third not in left, "a container stands on the first"
    assert first in blobs(own_store) and third not in blobs(own_store)
    assert own_store.good("start", "-a", "box") == "one\n"
    own_store.good("rm", "box")
    own_store.good("system", "prune", "-f", "--filter", "label=word=none")
    assert first in blobs(own_store)
    own_store.good("system", "prune", "-f")
    assert {row["Repository"] for row in rows(own_store)} == {"app", "busybox"} and first not in blobs(own_store)


def test_an_image_without_a_name_gets_one_is_saved_and_is_removed_by_its_id(own_store, tmp_path: Path) -> None:
    first, second = build(own_store, tmp_path, "one"), build(own_store, tmp_path, "two", "-t", "app", "-t", "other:2")
    own_store.good("save", "-o", tmp_path / "saved.tar", first[7:19])
    own_store.good("tag", first, "first")
    assert {row["Repository"] for row in rows(own_store)} == {"app", "busybox", "first", "other"}
    own_store.good("tag", "app", "first")
    assert own_store.good("rmi", first[7:19]).startswith("Deleted: ") and first not in blobs(own_store)
    own_store.good("load", "--tag", "back:1", "-i", tmp_path / "saved.tar")
    assert own_store.good("run", "--rm", "back:1", "cat", "/word") == "one\n"
    done = own_store("rmi", second)
    assert done.returncode == 1 and "multiple repositories" in done.stderr and second in blobs(own_store)
    own_store.good("rmi", "-f", second)
    assert {row["Repository"] for row in rows(own_store)} == {"back", "busybox"} and second not in blobs(own_store)


def test_one_that_cannot_be_read_is_listed_and_does_not_outlive_a_prune(own_store, tmp_path: Path) -> None:
    id = build(own_store, tmp_path, "one")
    blob = own_store.root / "lib" / "image" / "blobs" / id.replace(":", "/")
    blob.chmod(0o600)
    blob.write_text("{}")
    assert [row["ID"] for row in rows(own_store, "-f", "dangling=true")] == ["damaged"]
    own_store.good("image", "prune", "-f")
    assert [row["Repository"] for row in rows(own_store)] == ["busybox"] and not blob.exists()


def test_a_commit_without_a_name_is_kept(own_store) -> None:
    own_store.good("run", "--name", "box", "busybox", "sh", "-c", "echo kept > /note")
    id = own_store.good("commit", "box").strip()
    own_store.good("rm", "box")
    own_store.good("builder", "prune")
    assert own_store.good("run", "--rm", id, "cat", "/note") == "kept\n"


def test_an_import_without_a_name_is_kept(own_store, tmp_path: Path) -> None:
    own_store.good("image", "export", "-o", tmp_path / "root.tar", "busybox")
    id = own_store.good("image", "import", tmp_path / "root.tar").strip()
    own_store.good("builder", "prune")
    assert [row["ID"] for row in rows(own_store, "-f", "dangling=true")] == [id]
    assert own_store.good("run", "--rm", id[7:19], "echo", "runs") == "runs\n"


@pytest.mark.parametrize(("default", "allowed"), [("insecureAcceptAnything", True), ("reject", False)])
def test_a_policy_asks_of_an_image_without_a_name_what_it_asks_by_default(
    own_store, tmp_path: Path, default: str, allowed: bool
) -> None:
    id = build(own_store, tmp_path, "one")
    policy = {"default": [{"type": default}], "transports": {"docker": {"docker.io": [{"type": "insecureAcceptAnything"}]}}}
    (tmp_path / "policy.json").write_text(json.dumps(policy))
    own_store.env["MINIRT_POLICY"] = str(tmp_path / "policy.json")
    done = own_store("run", "--rm", id, "cat", "/word")
    assert (done.returncode == 0) == allowed, done.stderr
    assert own_store("run", "--rm", "busybox", "true").returncode == 0
