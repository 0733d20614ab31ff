"""The clients that people have, against `minirt registry serve`: each pushes to it and pulls from it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import Minirt
from engines import Engine, need, place, rootfs  # noqa: F401
from registries import DockerRegistry
from registry_server import INDEX, MANIFEST, Server, digest_of, image, registry  # noqa: F401
from test_docker import daemon

pytestmark = pytest.mark.root
SOURCE = ("--src-tls-verify=false",)
TARGET = ("--dest-tls-verify=false",)


def run(*words: object, env: dict[str, str] | None = None, input: str = "") -> str:
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=110, check=False, input=input,
                          env={**os.environ, **(env or {})})  # fmt: skip
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout.strip()


@pytest.fixture(scope="module")
def layout(place: Path, rootfs: Path) -> Path:
    """An image layout with one image of two layers, made with umoci."""
    need("umoci", "skopeo")
    path = place / "layout"
    run("umoci", "init", "--layout", path)
    run("umoci", "new", "--image", f"{path}:one")
    run("umoci", "unpack", "--image", f"{path}:one", place / "bundle")
    run("tar", "-xf", rootfs, "-C", place / "bundle" / "rootfs")
    run("umoci", "repack", "--refresh-bundle", "--image", f"{path}:one", place / "bundle")
    (place / "bundle" / "rootfs" / "second").write_text("layer\n" * 1000)
    run("umoci", "repack", "--refresh-bundle", "--image", f"{path}:one", place / "bundle")
    run("umoci", "config", "--image", f"{path}:one", "--config.cmd", "/bin/sh", "--config.label", "description=made by umoci")
    return path


# -- skopeo and umoci


@pytest.mark.parametrize("format,compression", [("oci", "gzip"), ("oci", "zstd"), ("v2s2", "gzip")])
def test_skopeo_pushes_and_pulls(registry: Server, layout: Path, place: Path, format: str, compression: str) -> None:
    name = f"docker://{registry.host}/skopeo/{format}-{compression}:v1"
    run("skopeo", "copy", *TARGET, f"--format={format}", f"--dest-compress-format={compression}", f"oci:{layout}:one", name)
    found = json.loads(run("skopeo", "inspect", "--tls-verify=false", name))
    assert found["RepoTags"] == ["v1"] and len(found["Layers"]) == 2
    raw = subprocess.run(["skopeo", "inspect", "--tls-verify=false", "--raw", name], capture_output=True, check=True).stdout
    assert digest_of(raw) == found["Digest"]
    run("skopeo", "copy", *SOURCE, name, f"oci:{place}/back-{format}-{compression}:one")
    if compression == "gzip":  # umoci 0.4.7 knows no zstd
        run("umoci", "unpack", "--image", f"{place}/back-{format}-{compression}:one", f"{place}/tree-{format}")
        tree = place / f"tree-{format}" / "rootfs"
        assert (tree / "second").read_text() == "layer\n" * 1000 and os.readlink(tree / "bin" / "sh") == "busybox"


def test_skopeo_does_not_send_a_layer_twice(registry: Server, layout: Path) -> None:
    for name in ("one", "two"):
        run("skopeo", "copy", *TARGET, f"oci:{layout}:one", f"docker://{registry.host}/mounted/{name}:v1")
    manifests = [registry.client("GET", f"/v2/mounted/{name}/manifests/v1").body for name in ("one", "two")]
    assert manifests[0] == manifests[1]


def test_skopeo_copies_an_index_with_all_its_images(registry: Server, place: Path) -> None:
    client = registry.client
    items = []
    for machine in ("amd64", "arm64"):
        config = json.dumps({"os": "linux", "architecture": machine, "rootfs": {"type": "layers", "diff_ids": []}}).encode()
        data = json.dumps(image(client, "multi/app", configuration=config)).encode()
        client("PUT", f"/v2/multi/app/manifests/{digest_of(data)}", data, Content_Type=MANIFEST)
        platform = {"os": "linux", "architecture": machine}
        items.append({"mediaType": MANIFEST, "digest": digest_of(data), "size": len(data), "platform": platform})
    index = client.push_manifest("multi/app", "v1", {"schemaVersion": 2, "mediaType": INDEX, "manifests": items})
    source = f"docker://{registry.host}/multi/app:v1"
    run("skopeo", "copy", "--all", *SOURCE, *TARGET, source, f"docker://{registry.host}/multi/copy:v1")
    assert client("GET", "/v2/multi/copy/manifests/v1", Accept=INDEX).headers["docker-content-digest"] == index
    run("skopeo", "copy", "--override-arch=arm64", *SOURCE, source, f"dir:{place}/arm64")
    assert digest_of((place / "arm64" / "manifest.json").read_bytes()) == items[1]["digest"]


def test_skopeo_lists_syncs_and_deletes(registry: Server, layout: Path, place: Path) -> None:
    for tag in ("v1", "v2"):
        run("skopeo", "copy", *TARGET, f"oci:{layout}:one", f"docker://{registry.host}/life/app:{tag}")
    listed = json.loads(run("skopeo", "list-tags", "--tls-verify=false", f"docker://{registry.host}/life/app"))
    assert listed["Tags"] == ["v1", "v2"]
    run("skopeo", "sync", *SOURCE, "--src", "docker", "--dest", "dir", f"{registry.host}/life/app", place / "synced")
    assert sorted(path.name for path in (place / "synced").iterdir()) == ["app:v1", "app:v2"]
    run("skopeo", "delete", "--tls-verify=false", f"docker://{registry.host}/life/app:v1")
    assert registry.client("GET", "/v2/life/app/tags/list").json()["tags"] == []  # both meant the same manifest


def test_skopeo_logs_in_by_token(place: Path, layout: Path) -> None:
    users = place / "users"
    run("htpasswd", "-cbB", users, "ada", "love lace")
    (place / "rules").write_text('[[rule]]\nusers = ["*"]\nmay = ["pull"]\nrepositories = ["*"]\n'
                                 '[[rule]]\nusers = ["ada"]\nmay = ["push"]\nrepositories = ["ada/*"]\n')  # fmt: skip
    server = Server(place / "private", "-q", "--htpasswd", users, "--rules", place / "rules")
    try:
        file = f"--authfile={place}/auth.json"
        login = ["skopeo", "login", file, "--tls-verify=false", "-u", "ada"]
        assert subprocess.run([*login, "-p", "x", server.host], capture_output=True).returncode != 0
        run("skopeo", "login", file, "--tls-verify=false", "-u", "ada", "--password-stdin", server.host, input="love lace")
        run("skopeo", "copy", file, *TARGET, f"oci:{layout}:one", f"docker://{server.host}/ada/app:v1")
        refused = subprocess.run(["skopeo", "copy", file, *TARGET, f"oci:{layout}:one", f"docker://{server.host}/bob/app:v1"],
                                 capture_output=True, text=True)  # fmt: skip
        assert refused.returncode != 0 and "denied" in refused.stderr
        assert run("skopeo", "inspect", "--no-creds", "--tls-verify=false", "--format={{.Digest}}", f"docker://{server.host}/ada/app:v1")
    finally:
        server.stop()


# -- podman and buildah


@pytest.fixture(scope="module")
def storage(place: Path) -> dict[str, str]:
    path = place / "storage.conf"
    path.write_text(f'[storage]\ndriver = "vfs"\ngraphroot = "{place}/graph"\nrunroot = "{place}/run"\n')
    return {"CONTAINERS_STORAGE_CONF": str(path)}


def test_podman_pushes_pulls_and_searches(registry: Server, place: Path, rootfs: Path, storage: dict[str, str]) -> None:
    need("podman")
    podman = Engine("podman", "--events-backend", "none", "--cgroup-manager", "cgroupfs", "--tmpdir", f"{place}/tmp", env=storage)
    podman.good("import", rootfs, "local/box")
    name = f"{registry.host}/podman/box:v1"
    podman.good("tag", "local/box", name)
    podman.good("push", "--tls-verify=false", name)
    id = podman.good("image", "inspect", "--format", "{{.Id}}", name)
    podman.good("rmi", "-f", id)
    podman.good("pull", "--tls-verify=false", name)
    assert podman.good("image", "inspect", "--format", "{{.Id}}", name) == id
    found = podman.good("search", "--tls-verify=false", "--format", "{{.Name}}", f"{registry.host}/podman")
    assert f"{registry.host}/podman/box" in found.split()
    tags = podman.good("search", "--tls-verify=false", "--list-tags", f"{registry.host}/podman/box")
    assert tags.split()[2:] == [f"{registry.host}/podman/box", "v1"]
    podman("rmi", "-fa")


def test_buildah_builds_from_it_and_pushes_to_it(registry: Server, place: Path, layout: Path, storage: dict[str, str]) -> None:
    need("buildah")
    run("skopeo", "copy", *TARGET, f"oci:{layout}:one", f"docker://{registry.host}/base/box:v1")
    (place / "context").mkdir()
    (place / "context" / "Containerfile").write_text(f"FROM {registry.host}/base/box:v1\nCOPY Containerfile /third\nLABEL a=b\n")
    name = f"{registry.host}/built/box:v1"
    run("buildah", "bud", "--tls-verify=false", "--isolation=chroot", "-t", name, place / "context", env=storage)
    run("buildah", "push", "--tls-verify=false", name, f"docker://{name}", env=storage)
    found = json.loads(run("skopeo", "inspect", "--tls-verify=false", f"docker://{name}"))
    assert found["Labels"]["a"] == "b" and len(found["Layers"]) == 3
    run("buildah", "rmi", "-fa", env=storage)


# -- docker


@pytest.fixture(scope="module")
def docker(place: Path, rootfs: Path) -> Iterator[Engine]:
    need("docker", "dockerd", "containerd")
    home = place / "dockerd"
    home.mkdir()
    engine = Engine("docker", "--config", f"{home}/config", "-H", f"unix://{home}/s")
    command = ["dockerd", "--data-root", f"{home}/data", "--exec-root", f"{home}/exec", "-p", f"{home}/pid",
               "-H", f"unix://{home}/s", "--iptables=false", "--bridge=none"]  # fmt: skip
    running = daemon(command, home / "log", lambda: engine("version").returncode == 0)
    next(running)
    engine.good("import", rootfs, "local/box")
    yield engine
    next(running, None)


def test_docker_pushes_and_pulls(registry: Server, docker: Engine) -> None:
    name = f"{registry.host}/docker/box:v1"
    docker.good("tag", "local/box", name)
    docker.good("push", name)
    id = docker.good("image", "inspect", "--format", "{{.Id}}", name)
    docker.good("rmi", name, "local/box")
    assert docker("image", "inspect", id).returncode != 0
    docker.good("pull", name)
    assert docker.good("image", "inspect", "--format", "{{.Id}}", name) == id
    docker.good("tag", name, f"{registry.host}/docker/again:v1")
    assert "Mounted from docker/box" in docker.good("push", f"{registry.host}/docker/again:v1")
    docker.good("tag", name, "local/box")


def test_docker_searches(registry: Server, docker: Engine) -> None:
    config = json.dumps({"config": {"Labels": {"org.opencontainers.image.description": "a box of sand"}}}).encode()
    registry.client.push_image("search/sandbox", "v1", configuration=config)
    found = docker.good("search", "--format", "{{.Name}}: {{.Description}}", f"{registry.host}/sand")
    assert "search/sandbox: a box of sand" in found.splitlines()
    assert docker.good("search", "--format", "{{.Name}}", f"{registry.host}/nothing-like-it") == ""


def test_docker_logs_in_by_token_and_pushes(docker: Engine, place: Path) -> None:
    users = place / "docker-users"
    run("htpasswd", "-cbB", users, "ada", "lovelace")
    server = Server(place / "docker-private", "-q", "--htpasswd", users)
    try:
        name = f"{server.host}/ada/box:v1"
        docker.good("tag", "local/box", name)
        refused = docker("push", name)
        assert refused.returncode != 0 and ("denied" in refused.stderr or "unauthorized" in refused.stderr), refused.stderr
        assert docker("login", "-u", "ada", "-p", "wrong", server.host).returncode != 0
        docker.good("login", "-u", "ada", "-p", "lovelace", server.host)
        docker.good("push", name)
        docker.good("pull", name)
        docker.good("logout", server.host)
        assert docker("pull", name).returncode != 0
    finally:
        server.stop()


def test_docker_s_client_alone_reads_manifests_and_makes_lists(registry: Server, place: Path) -> None:
    """The commands that need no daemon."""
    need("docker")
    name = f"{registry.host}/client/box"
    client = registry.client
    for machine in ("amd64", "arm64"):
        config = json.dumps({"os": "linux", "architecture": machine, "rootfs": {"type": "layers", "diff_ids": []}}).encode()
        document = image(client, "client/box", configuration=config)
        document["mediaType"] = "application/vnd.docker.distribution.manifest.v2+json"
        document["config"]["mediaType"] = "application/vnd.docker.container.image.v1+json"
        client.push_manifest("client/box", machine, document)
    alone = Engine("docker", "--config", f"{place}/docker-alone", env={"DOCKER_CLI_EXPERIMENTAL": "enabled", "DOCKER_HOST": "unix:///none"})
    assert json.loads(alone.good("manifest", "inspect", "--insecure", f"{name}:amd64"))["schemaVersion"] == 2
    alone.good("manifest", "create", "--insecure", f"{name}:all", f"{name}:amd64", f"{name}:arm64")
    digest = alone.good("manifest", "push", "--insecure", f"{name}:all")
    answer = client("GET", "/v2/client/box/manifests/all", Accept="*/*")
    assert answer.headers["docker-content-digest"] == digest
    assert {item["platform"]["architecture"] for item in answer.json()["manifests"]} == {"amd64", "arm64"}


# -- minirt


def test_minirt_pushes_pulls_and_searches(own_store: Minirt, registry: Server) -> None:
    name = f"{registry.host}/minirt/box:v1"
    plain = "--tls-verify=false"

    def ok(*words: str) -> str:
        done = own_store(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    id = ok("push", plain, "busybox", name)
    ok("pull", plain, name)
    assert json.loads(ok("image", "inspect", name))[0]["Id"] == id
    assert ok("run", "--rm", name, "echo", "hi") == "hi"
    rows = ok("search", plain, "--format=json", f"{registry.host}/minirt").splitlines()
    assert "minirt/box" in [json.loads(row)["Name"] for row in rows]
    assert hashlib.sha256(registry.client("GET", "/v2/minirt/box/manifests/v1").body).hexdigest()


# -- docker-registry


def test_skopeo_pulls_from_docker_registry_through_our_cache(place: Path, layout: Path) -> None:
    need("docker-registry")
    with DockerRegistry(place / "origin") as origin:
        run("skopeo", "copy", *TARGET, f"oci:{layout}:one", f"docker://{origin.host}/team/box:v1")
        cache = Server(place / "cache", "-q", "--proxy", f"http://{origin.host}")
        try:
            name = f"docker://{cache.host}/team/box:v1"
            run("skopeo", "copy", *SOURCE, name, f"dir:{place}/first")
            assert {digest.partition(":")[2] for digest in cache.blobs} == origin.blobs()
            origin.__exit__()
            run("skopeo", "copy", *SOURCE, name, f"dir:{place}/second")
        finally:
            cache.stop()
    first, second = ({path.name: path.read_bytes() for path in (place / name).iterdir()} for name in ("first", "second"))
    assert first == second


def test_docker_registry_is_a_cache_of_ours(registry: Server, place: Path, layout: Path) -> None:
    """Distribution's own pull-through cache takes what we say of manifests, blobs and ranges."""
    need("docker-registry")
    run("skopeo", "copy", *TARGET, f"oci:{layout}:one", f"docker://{registry.host}/mirrored/box:v1")
    mirror = DockerRegistry(place / "mirror")
    config = place / "mirror" / "config.yml"
    config.write_text(config.read_text() + f"proxy: {{remoteurl: {registry.url}}}\n")
    with mirror:
        run("skopeo", "copy", *SOURCE, f"docker://{mirror.host}/mirrored/box:v1", f"dir:{place}/mirrored")
    manifest = (place / "mirrored" / "manifest.json").read_bytes()
    assert digest_of(manifest) == registry.client("GET", "/v2/mirrored/box/manifests/v1").headers["docker-content-digest"]
