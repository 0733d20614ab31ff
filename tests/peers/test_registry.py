"""Registries that others wrote, and images that others put there: pull and push, compared with what skopeo says."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import Minirt
from registries import DockerRegistry, available, registry  # noqa: F401
from registry_server import fresh
from relay import Relay

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="layers with owners need root"),
    pytest.mark.skipif(not available(), reason="docker-registry is not installed"),
]
PLAIN = "--tls-verify=false"


def skopeo(*words: object) -> str:
    done = subprocess.run(["skopeo", *map(str, words)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def ok(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def store(minirt: Minirt) -> Path:
    return minirt.root / "lib" / "image"


def test_what_is_pushed_is_what_skopeo_finds(own_store: Minirt, registry: DockerRegistry) -> None:
    name = f"{registry.host}/team/box:1"
    id = ok(own_store("push", PLAIN, "busybox", name))
    found = json.loads(skopeo("inspect", PLAIN, f"docker://{name}"))
    mine = json.loads(ok(own_store("image", "inspect", "busybox")))[0]
    assert found["Digest"] == mine["Digest"] and id == mine["Id"]
    assert found["Layers"] == [layer["digest"] for layer in mine["Layers"]]


@pytest.mark.parametrize(("format", "compression"), [("oci", "gzip"), ("oci", "zstd"), ("v2s2", "gzip")])
def test_what_skopeo_pushed_runs(own_store: Minirt, registry: DockerRegistry, format: str, compression: str) -> None:
    name = f"{registry.host}/{format}/{compression}:1"
    skopeo("copy", "-q", f"--format={format}", f"--dest-compress-format={compression}", "--dest-tls-verify=false",
           f"oci:{store(own_store)}:busybox:latest", f"docker://{name}")  # fmt: skip
    ok(own_store("pull", PLAIN, name))
    assert ok(own_store("run", "--rm", name, "echo", "hi")) == "hi"
    assert json.loads(skopeo("inspect", PLAIN, f"docker://{name}"))["Digest"] in ok(own_store("images", "--digests"))
    assert "DAMAGED" not in ok(own_store("image", "verify", "--all"))


@pytest.fixture(params=["docker-registry", "minirt"])
def wire(request: pytest.FixtureRequest, registry: DockerRegistry) -> Iterator[Relay]:
    """A wire to docker-registry, and one to ours."""
    with contextlib.ExitStack() as stack:
        host = registry.host
        if request.param == "minirt":
            host = stack.enter_context(fresh("--quiet")).host
        yield stack.enter_context(Relay(host))


def test_what_another_repository_of_the_registry_got_is_not_sent_twice(own_store: Minirt, wire: Relay) -> None:
    first = own_store("push", PLAIN, "busybox", f"{wire.host}/mount/a:1")
    sent = wire.up
    second = own_store("push", PLAIN, "busybox", f"{wire.host}/mount/b:1")
    assert "pushed" in ok(first) + first.stderr and "pushed" not in ok(second) + second.stderr and "mounted" in second.stderr
    size = sum(layer["size"] for layer in json.loads(ok(own_store("image", "inspect", "busybox")))[0]["Layers"])
    assert sent > size and wire.up - sent < 20_000 < size
    skopeo("copy", "-q", "--src-tls-verify=false", f"docker://{wire.host}/mount/b:1", f"dir:{own_store.root}/out")


def test_what_a_repository_was_pulled_from_has_is_not_sent_to_its_neighbour(own_store: Minirt, wire: Relay) -> None:
    pulled, built = f"{wire.host}/base/box:1", f"{wire.host}/app/box:1"
    skopeo("copy", "-q", "--dest-tls-verify=false", f"oci:{store(own_store)}:busybox:latest", f"docker://{pulled}")
    ok(own_store("rmi", "busybox"))
    ok(own_store("pull", PLAIN, pulled))
    (own_store.root / "Dockerfile").write_text(f"FROM {pulled}\nENV A=b\n")
    ok(own_store("build", "-q", "-t", built, own_store.root))
    ok(own_store("rmi", pulled))
    done = own_store("push", PLAIN, built)
    assert ok(done) and "mounted" in done.stderr


def test_what_is_there_is_not_sent_again(own_store: Minirt, registry: DockerRegistry) -> None:
    name = f"{registry.host}/again/box:1"
    ok(own_store("push", PLAIN, "busybox", name))
    done = own_store("push", PLAIN, "busybox", name)
    assert ok(done) and "there" in done.stderr and "pushed" not in done.stderr


def test_what_is_here_is_not_fetched_again(own_store: Minirt, registry: DockerRegistry) -> None:
    name = f"{registry.host}/once/box:1"
    ok(own_store("push", PLAIN, "busybox", name))
    layer = json.loads(ok(own_store("image", "inspect", "busybox")))[0]["Layers"][0]["digest"].partition(":")[2]
    before = (store(own_store) / "blobs" / "sha256" / layer).stat()
    ok(own_store("pull", PLAIN, name))
    after = (store(own_store) / "blobs" / "sha256" / layer).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert len(os.listdir(store(own_store) / "layers")) == 1


def test_all_tags_of_a_repository_go_and_come(own_store: Minirt, registry: DockerRegistry) -> None:
    names = [f"{registry.host}/many/box:{tag}" for tag in ("a", "b", "c")]
    for name in names:
        ok(own_store("tag", "busybox", name))
    ok(own_store("tag", "busybox", f"{registry.host}/many/other:x"))
    ok(own_store("push", "-q", "--all-tags", PLAIN, f"{registry.host}/many/box"))
    ok(own_store("rmi", *names))
    assert own_store("push", "-q", "-a", PLAIN, f"{registry.host}/many/box").returncode == 1
    ok(own_store("pull", "-q", "-a", PLAIN, f"{registry.host}/many/box"))
    listed = ok(own_store("images", "--format", "{{.Repository}}:{{.Tag}}"))
    assert set(names) <= set(listed.split())
    refused = own_store("pull", "-a", PLAIN, names[0])
    assert refused.returncode == 125 and "without a tag" in refused.stderr


def test_an_image_is_pulled_by_its_digest(own_store: Minirt, registry: DockerRegistry) -> None:
    digest = json.loads(ok(own_store("image", "inspect", "busybox")))[0]["Digest"]
    ok(own_store("push", PLAIN, "busybox", f"{registry.host}/by/digest:1"))
    name = f"{registry.host}/by/digest@{digest}"
    ok(own_store("pull", PLAIN, name))
    assert ok(own_store("run", "--rm", name, "echo", "hi")) == "hi"
    ok(own_store("rmi", name))
    assert own_store("image", "inspect", name).returncode == 1


def test_tls_is_verified_unless_asked_otherwise(own_store: Minirt, registry: DockerRegistry) -> None:
    done = own_store("pull", f"{registry.host}/team/box:1")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "does not speak TLS (minirt pull --tls-verify=false takes plain HTTP too" in done.stderr


def test_a_catalog_is_searched(own_store: Minirt, registry: DockerRegistry) -> None:
    ok(own_store("push", PLAIN, "busybox", f"{registry.host}/find/needle:v2"))
    rows = ok(own_store("search", PLAIN, "--format=json", f"{registry.host}/needle")).splitlines()
    assert [json.loads(row)["Name"] for row in rows] == ["find/needle"]
    assert ok(own_store("search", PLAIN, "--list-tags", f"{registry.host}/find/needle")).split()[-1] == "v2"


@pytest.mark.parametrize("tool", ["podman", "buildah"])
def test_podman_and_buildah_pull_what_we_push_and_push_what_we_pull(
    own_store: Minirt, registry: DockerRegistry, tmp_path: Path, tool: str
) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    conf = tmp_path / "storage.conf"
    conf.write_text(f'[storage]\ndriver = "vfs"\ngraphroot = "{tmp_path}/graph"\nrunroot = "{tmp_path}/run"\n')
    env = {**os.environ, "CONTAINERS_STORAGE_CONF": str(conf)}

    def theirs(*words: str) -> str:
        return ok(subprocess.run([tool, *words], capture_output=True, text=True, timeout=90, env=env))

    ours, back = f"{registry.host}/{tool}/box:1", f"{registry.host}/{tool}/back:1"
    id = ok(own_store("push", PLAIN, "busybox", ours))
    assert theirs("pull", "-q", PLAIN, ours).splitlines()[-1] == id.partition(":")[2]
    theirs("tag", ours, back)
    theirs("push", "-q", PLAIN, back)
    assert ok(own_store("pull", PLAIN, back)) == id or tool == "buildah"  # which may write the configuration anew
    assert ok(own_store("run", "--rm", back, "echo", "hi")) == "hi"
