"""rmi: names and IDs, as docker has them; what cannot be read goes by its name."""

from __future__ import annotations

import json
import subprocess
import threading

import pytest
from command import Minirt
from liars import Content, Handler, Registry


@pytest.fixture
def box(own_store: Minirt) -> str:
    """The ID of an image with two names."""
    own_store.good("run", "--rm", "busybox", "true")
    own_store.good("tag", "busybox", "box:1")
    return str(json.loads(own_store.good("image", "inspect", "box:1"))[0]["Id"])


def names(minirt: Minirt) -> list[str]:
    return minirt.good("images", "--format", "{{.Repository}}:{{.Tag}}").split()


@pytest.mark.parametrize("form", ["sha256:{}", "{}", "{:.12}", "sha256:{:.8}"])
def test_an_id_that_has_several_names_is_removed_only_by_force(own_store: Minirt, box: str, form: str) -> None:
    word = form.format(box.partition(":")[2])
    refused = own_store("rmi", word)
    assert refused.returncode == 1 and "must be forced" in refused.stderr and len(names(own_store)) == 2
    lines = own_store.good("rmi", "--force", word).splitlines()
    assert lines[:2] == ["Untagged: box:1", "Untagged: busybox:latest"] and f"Deleted: {box}" in lines and names(own_store) == []


def test_an_id_with_one_name_is_removed_with_it(own_store: Minirt, box: str) -> None:
    own_store.good("rmi", "box:1")
    assert own_store.good("rmi", box.partition(":")[2][:12]).splitlines()[0] == "Untagged: busybox:latest"
    assert names(own_store) == []


def test_one_of_two_names_leaves_the_content(own_store: Minirt, box: str) -> None:
    assert own_store.good("rmi", "box:1") == "Untagged: box:1\n"
    assert own_store("run", "--rm", "busybox", "true").returncode == 0


def test_what_is_not_there_is_an_error_but_by_force(own_store: Minirt, box: str) -> None:
    assert own_store("rmi", "nothere").returncode == 1
    done = own_store("rmi", "-f", "nothere", "box:1")
    assert (done.returncode, done.stderr) == (0, "") and names(own_store) == ["busybox:latest"]


def test_what_cannot_be_read_is_removed_by_its_name(own_store: Minirt, box: str) -> None:
    digest = json.loads(own_store.good("image", "inspect", "box:1"))[0]["Digest"]
    path = own_store.root / "lib" / "image" / "blobs" / digest.replace(":", "/")
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1])
    assert own_store("image", "inspect", "box:1").returncode == 1
    for name in ("box:1", "busybox"):
        own_store.good("rmi", name)
    assert json.loads((own_store.root / "lib" / "image" / "index.json").read_text())["manifests"] == []
    assert not path.exists()


def test_rmi_does_not_wait_for_a_pull_that_takes_long(own_store: Minirt, box: str) -> None:
    begun, go = threading.Event(), threading.Event()

    def slow(handler: Handler) -> bool:
        if handler.blob:
            begun.set()
            assert go.wait(60)
        return False

    with Registry(Content(), slow) as registry:
        pull = own_store.start("pull", "-q", "--tls-verify=false", f"{registry.host}/slow:1", stderr=subprocess.DEVNULL)
        try:
            assert begun.wait(60)
            assert "Untagged: box:1" in own_store.good("rmi", "-f", box) and pull.poll() is None
        finally:
            go.set()
        assert pull.communicate(timeout=60)[0].startswith("sha256:") and pull.returncode == 0
    blobs = own_store.root / "lib" / "image" / "blobs" / "sha256"
    assert not (blobs / box.partition(":")[2]).exists(), "what was removed goes when the pull is over"
