"""The docker command line and images, networks, volumes: each command, and what a registry, the kernel or a file says of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from api_server import Api, api, emptied, until  # noqa: F401

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("emptied")]
QUICK = ("--network", "none")


@pytest.fixture(scope="module")
def registry(api: Api, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`minirt registry serve` on the server's host; gives HOST:PORT."""
    root = tmp_path_factory.mktemp("registry")
    process = api.minirt.start("registry", "serve", "--root", root, "--listen", "127.0.0.1:0", "--format", "json", "--quiet")
    yield json.loads(process.stdout.readline())["url"].partition("://")[2]
    process.send_signal(signal.SIGTERM)
    process.wait(30)


# -- registries


def test_an_image_is_tagged_pushed_removed_pulled_and_run(api: Api, registry: str) -> None:
    name = f"{registry}/team/box:1"
    api.good("tag", "busybox", name)
    pushed = api.good("push", name)
    digest = next(word for word in pushed.split() if word.startswith("sha256:"))
    assert name in api.good("images", "--format", "{{.Repository}}:{{.Tag}}")
    api.good("rmi", name)
    assert name not in api.good("images", "--format", "{{.Repository}}:{{.Tag}}")
    assert f"Digest: {digest}" in api.good("pull", name)
    assert "up to date" in api.good("pull", name)
    assert api.good("run", "--rm", *QUICK, name, "echo", "from the registry") == "from the registry"
    ids = set(api.good("images", "-q", "--no-trunc", name).split())
    assert ids == {json.loads(api.good("image", "inspect", name))[0]["Id"]}
    api.good("rmi", name)


def test_run_pulls_an_image_that_is_missing(api: Api, registry: str) -> None:
    name = f"{registry}/team/missing:1"
    api.good("tag", "busybox", name)
    api.good("push", name)
    api.good("rmi", name)
    done = api.docker("run", "--rm", *QUICK, name, "echo", "hi")
    assert done.stdout == "hi\n" and "Unable to find image" in done.stderr
    api.good("rmi", name)


def test_an_image_that_nobody_has_is_told_so(api: Api, registry: str) -> None:
    done = api.docker("pull", f"{registry}/no/such:1")
    assert done.returncode == 1 and "does not exist" in done.stderr
    assert api.docker("image", "inspect", "nowhere").returncode == 1
    assert "No such image" in api.docker("rmi", "nowhere").stderr


def test_search_asks_the_registry(api: Api, registry: str) -> None:
    api.good("tag", "busybox", f"{registry}/found/me:1")
    api.good("push", f"{registry}/found/me:1")
    assert "found/me" in api.good("search", f"{registry}/found")
    api.good("rmi", f"{registry}/found/me:1")


def test_login_is_tried_at_a_registry_with_users(api: Api, tmp_path: Path) -> None:
    users = tmp_path / "users"
    done = api.minirt("registry", "passwd", users, "ada", input="secret\n")
    assert done.returncode == 0, done.stderr
    where = ("--root", tmp_path / "r", "--listen", "127.0.0.1:0", "--format", "json")
    process = api.minirt.start("registry", "serve", *where, "--htpasswd", users, "-q")
    host = json.loads(process.stdout.readline())["url"].partition("://")[2]
    try:
        assert api.docker("login", "-u", "ada", "--password-stdin", host, input="wrong").returncode == 1
        assert "Login Succeeded" in api.good("login", "-u", "ada", "--password-stdin", host, input="secret")
        api.good("tag", "busybox", f"{host}/private:1")
        api.good("push", f"{host}/private:1")
        api.good("logout", host)
        assert api.docker("push", f"{host}/private:2").returncode == 1
        api.good("rmi", f"{host}/private:1")
    finally:
        process.terminate()
        process.wait(30)


# -- archives, history, builds


def test_save_and_load_give_the_same_image(api: Api, tmp_path: Path) -> None:
    ids = set(api.good("images", "-q", "--no-trunc", "busybox").split())
    api.good("tag", "busybox", "saved:1")
    api.good("save", "-o", tmp_path / "saved.tar", "saved:1")
    api.good("rmi", "saved:1")
    assert "Loaded image: saved:1" in api.good("load", "-i", tmp_path / "saved.tar")
    assert set(api.good("images", "-q", "--no-trunc", "saved:1").split()) == ids
    api.good("rmi", "saved:1")


def test_import_makes_an_image_of_a_tar(api: Api, tmp_path: Path) -> None:
    api.good("create", "--name", "box", *QUICK, "busybox", "true")
    api.good("export", "-o", tmp_path / "root.tar", "box")
    api.good("import", "-c", "CMD [\"echo\", \"imported\"]", tmp_path / "root.tar", "imported:1")
    assert api.good("run", "--rm", *QUICK, "imported:1") == "imported"
    api.good("rmi", "imported:1")


def test_build_by_the_classic_builder(api: Api, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("copied\n")
    (tmp_path / "Dockerfile").write_text(
        "FROM busybox AS first\nARG WORD=none\nRUN echo $WORD > /word\n"
        "FROM busybox\nCOPY --from=first /word /word\nCOPY file /file\nRUN cat /word /file\nLABEL made=here\nCMD cat /word /file\n"
    )
    out = api.good("build", "-t", "built:1", "--build-arg", "WORD=given", "--label", "more=1", tmp_path)
    assert "Step 1/" in out and "Successfully tagged built:1" in out and "given\ncopied" in out
    assert api.good("run", "--rm", *QUICK, "built:1") == "given\ncopied"
    assert "Using cache" in api.good("build", "-t", "built:1", "--build-arg", "WORD=given", tmp_path)
    found = json.loads(api.good("image", "inspect", "built:1"))[0]
    assert found["Config"]["Labels"]["made"] == "here"
    assert "LABEL made=here" in api.good("history", "--no-trunc", "built:1")
    id = api.good("build", "-q", "-t", "built:1", tmp_path)
    assert id.startswith("sha256:") and api.good("images", "-q", "--no-trunc", "built:1") == id
    api.good("rmi", "built:1")


def test_run_of_a_build_has_the_bridge_or_what_network_says(api: Api, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN readlink /proc/self/ns/net; ip -o -4 addr\n")
    host = api.here("readlink", "/proc/self/ns/net").strip()
    out = api.good("build", "--no-cache", "-t", "built:net", tmp_path)
    assert "eth0    inet 10." in out and host not in out
    out = api.good("build", "--no-cache", "--network", "host", "-t", "built:net", tmp_path)
    assert host in out
    out = api.good("build", "--no-cache", "--network", "none", "-t", "built:net", tmp_path)
    assert "inet 127.0.0.1" in out and "eth0" not in out and host not in out
    api.good("network", "create", "steps")
    assert "eth0" in api.good("build", "--no-cache", "--network", "steps", "-t", "built:net", tmp_path)
    assert "no network 'nosuch'" in api.docker("build", "--no-cache", "--network", "nosuch", tmp_path).stderr
    api.good("network", "rm", "steps")
    api.good("rmi", "built:net")


def test_a_step_that_fails_fails_the_build_with_its_status(api: Api, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN echo before; exit 9\n")
    done = api.docker("build", tmp_path)
    assert done.returncode != 0 and "before" in done.stdout and "9" in done.stderr
    (tmp_path / "Dockerfile").write_text("FROM busybox\nNONSENSE\n")
    assert "NONSENSE" in api.docker("build", tmp_path).stderr


def test_filters_choose_the_same_images_by_the_command_and_by_the_api(api: Api, tmp_path: Path) -> None:
    api.good("image", "prune", "-f")  # what other tests have left without a name
    for word, names in (("a", ("-t", "team/box:1")), ("b", ())):
        (tmp_path / "Dockerfile").write_text(f"FROM busybox\nCOPY Dockerfile /\nLABEL word={word}\n")
        api.good("build", "-q", *names, tmp_path)
    api.good("tag", "team/box:1", "other:1")
    box, ours, nameless = "busybox:latest", ["other:1", "team/box:1"], "<none>:<none>"
    wanted = {
        "reference=*": [box, "other:1"], "reference=*/*": ["team/box:1"], "reference=team/box": ["team/box:1"],
        "reference=*box": [box], "reference=oth[a-f]r:?": ["other:1"], "reference=box": [], "dangling=true": [nameless],
        "dangling=false": [box, *ours], "label=word": [nameless, *ours], "label=word=a": ours, "before=other:1": [box],
        "since=busybox": [nameless, *ours], "until=2001-01-01": [],
    }  # fmt: skip
    for text, expected in wanted.items():
        words = ("images", "--filter", text, "--format", "{{.Repository}}:{{.Tag}}")
        assert sorted(api.good(*words).split()) == sorted(expected), text
        assert sorted(api.minirt.good(*words).split()) == sorted(expected), text
    api.good("rmi", *ours)
    api.good("image", "prune", "-f")


def test_an_image_in_use_is_removed_by_force_alone(api: Api) -> None:
    api.good("tag", "busybox", "used:1")
    api.good("commit", api.good("create", "--name", "one", *QUICK, "busybox", "true"), "used:2")
    api.good("create", "--name", "two", *QUICK, "used:2", "echo", "still here")
    assert "is using its referenced image" in api.docker("rmi", "used:2").stderr
    api.good("rmi", "-f", "used:2")
    assert api.good("start", "-a", "two") == "still here"
    api.good("rmi", "used:1")


def test_an_image_whose_name_went_to_another_is_listed_without_one_until_it_is_pruned(api: Api, tmp_path: Path) -> None:
    api.good("image", "prune", "-f")
    ids = []
    for word in ("one", "two"):
        (tmp_path / "Dockerfile").write_text(f"FROM busybox\nLABEL word={word}\n")
        ids.append(api.good("build", "-q", "-t", "moved:1", tmp_path))
    assert api.good("images", "-q", "--no-trunc", "-f", "dangling=true") == ids[0]
    lines = api.good("images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}").splitlines()
    assert f"<none>:<none> {ids[0]}" in lines
    for version, tags, digests in (("1.42", ["<none>:<none>"], ["<none>@<none>"]), ("1.50", [], [])):
        _, listed = api.ask("GET", f"/v{version}/images/json")
        (found,) = (image for image in listed if image["Id"] == ids[0])
        assert (found["RepoTags"], found["RepoDigests"]) == (tags, digests)
    out = api.good("image", "prune", "-f")
    assert ids[0] in out and ids[1] not in out
    assert api.good("images", "-q", "--no-trunc", "moved:1") == ids[1]
    api.good("tag", "busybox", "moved:1")
    assert f"Deleted: {ids[1]}" in api.good("rmi", ids[1][7:19])


# -- networks


def get(api: Api, url: str) -> str:
    """Ask a web server from the server's host."""
    script = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=5).read().decode().strip())"
    done = subprocess.run([*api.inside(), sys.executable, "-c", script, url], capture_output=True, text=True, timeout=60)
    return done.stdout.strip() or done.stderr.strip().rpartition("\n")[2]


WEB = ("busybox", "httpd", "-f", "-p", "80", "-h", "/etc")


def test_a_published_port_leads_to_the_container(api: Api) -> None:
    api.good("run", "-d", "--name", "web", "-p", "8080:80", "--hostname", "web-host", *WEB)
    until(lambda: get(api, "http://127.0.0.1:8080/hostname") == "web-host")
    assert "0.0.0.0:8080" in api.good("port", "web", "80/tcp")
    assert "8080->80/tcp" in api.good("ps", "--format", "{{.Ports}}")
    found = api.inspect("web")["NetworkSettings"]
    assert found["Ports"]["80/tcp"][0]["HostPort"] == "8080" and found["Networks"]["bridge"]["IPAddress"] == found["IPAddress"]
    assert get(api, f"http://{found['IPAddress']}/hostname") == "web-host"
    api.good("rm", "-f", "web")
    assert "dport 8080" not in api.here("nft", "list", "ruleset")


def test_any_free_port_is_published_and_told(api: Api) -> None:
    api.good("run", "-d", "--name", "web", "-p", "80", "--hostname", "web-host", *WEB)
    port = api.good("port", "web", "80/tcp").splitlines()[0].rpartition(":")[2]
    until(lambda: get(api, f"http://127.0.0.1:{port}/hostname") == "web-host")


def test_names_are_known_in_a_network_of_one_s_own_and_not_beyond(api: Api) -> None:
    api.good("network", "create", "--subnet", "10.123.0.0/24", "--label", "a=b", "back")
    api.good("run", "-d", "--name", "db", "--network", "back", "--network-alias", "store", *WEB)
    assert "10.123.0" in api.good("run", "--rm", "--network", "back", "busybox", "ping", "-c", "1", "-w", "20", "store")
    assert api.docker("run", "--rm", "busybox", "ping", "-c", "1", "-w", "2", "db").returncode != 0
    (found,) = json.loads(api.good("network", "inspect", "back"))
    assert [end["Name"] for end in found["Containers"].values()] == ["db"] and found["Labels"] == {"a": "b"}
    assert "back" in api.good("network", "ls", "--filter", "label=a=b", "--format", "{{.Name}}").split()
    assert "in use" in api.docker("network", "rm", "back").stderr
    api.good("rm", "-f", "db")
    api.good("network", "rm", "back")
    assert "10.123.0" not in api.here("ip", "addr")
    assert api.docker("network", "inspect", "back").returncode == 1


def test_a_container_is_connected_and_disconnected_while_it_runs(api: Api) -> None:
    api.good("network", "create", "side")
    api.good("run", "-d", "--name", "box", *QUICK, "busybox", "sleep", "600")
    api.good("run", "-d", "--name", "net", "busybox", "sleep", "600")
    api.good("network", "connect", "--alias", "other", "side", "net")
    devices = Path(f"/proc/{api.pid('net')}/net/dev")
    assert "eth1" in devices.read_text() and "side" in api.inspect("net")["NetworkSettings"]["Networks"]
    api.good("network", "disconnect", "side", "net")
    assert "eth1" not in devices.read_text()
    api.good("rm", "-f", "net", "box")
    api.good("network", "rm", "side")


# -- volumes


def test_a_volume_outlives_containers_and_is_shared(api: Api) -> None:
    api.good("volume", "create", "--label", "a=b", "data")
    api.good("run", "--rm", *QUICK, "-v", "data:/d", "busybox", "sh", "-c", "echo kept > /d/file")
    (found,) = json.loads(api.good("volume", "inspect", "data"))
    assert (Path(found["Mountpoint"]) / "file").read_text() == "kept\n" and found["Labels"] == {"a": "b"}
    api.good("create", "--name", "box", *QUICK, "--mount", "type=volume,src=data,dst=/d,readonly", "busybox", "cat", "/d/file")
    assert api.good("start", "-a", "box") == "kept"
    assert [m["Name"] for m in api.inspect("box")["Mounts"]] == ["data"]
    assert "in use" in api.docker("volume", "rm", "data").stderr
    api.good("rm", "box")
    assert "data" in api.good("volume", "ls", "-q").split()
    api.good("volume", "rm", "data")
    assert not os.path.exists(found["Mountpoint"])


def test_an_anonymous_volume_goes_with_rm(api: Api) -> None:
    api.good("run", "--rm", *QUICK, "-v", "/anonymous", "busybox", "touch", "/anonymous/file")
    assert api.good("volume", "ls", "-q") == ""


# -- the whole


def test_info_counts_what_there_is(api: Api) -> None:
    api.good("run", "-d", *QUICK, "busybox", "sleep", "600")
    api.good("create", *QUICK, "busybox", "true")
    fields = ("Containers", "ContainersRunning", "ContainersStopped", "KernelVersion", "NCPU")
    text = api.good("info", "--format", " ".join(f"{{{{.{field}}}}}" for field in fields))
    assert text == f"2 1 1 {os.uname().release} {os.cpu_count()}"


def test_system_df_tells_what_images_share_and_builds_keep_as_our_own_command_does(api: Api, tmp_path: Path) -> None:
    api.minirt.good("system", "prune", "-f")
    api.minirt.good("builder", "prune", "-a")
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN dd if=/dev/urandom of=/file bs=1M count=2\nRUN rm /file\n")
    api.good("build", "-q", "-t", "kept:1", tmp_path)
    _, told = api.ask("GET", "/system/df")
    found = {image["RepoTags"][0]: image for image in told["Images"]}
    base, image = found["busybox:latest"], found["kept:1"]
    assert 0 < base["SharedSize"] == image["SharedSize"] < base["Size"] and image["Size"] - image["SharedSize"] > 2 << 20
    assert {(one["Type"], one["Shared"]) for one in told["BuildCache"]} == {("regular", True)} and told["BuilderSize"] == 0
    assert len(told["BuildCache"]) == 3, "the base's layer, and one of each RUN"
    api.good("rmi", "kept:1")
    _, left = api.ask("GET", "/system/df?type=build-cache")
    own = [one["Size"] for one in left["BuildCache"] if not one["Shared"]]
    assert left.keys() == {"BuildCache", "BuilderSize"} and left["BuilderSize"] == sum(own) > 2 << 20 and len(own) == 2
    rows, ours = (
        {row["Type"]: row["Size"] for row in map(json.loads, out.splitlines())}
        for out in (api.good("system", "df", "--format", "json"), api.minirt.good("system", "df", "--format", "json"))
    )
    assert rows == ours and rows["Build Cache"] != "0B"
    assert "Build cache usage: " + rows["Build Cache"] in api.minirt.good("system", "df", "-v")
    _, pruned = api.ask("POST", "/build/prune?all=1")
    assert pruned["SpaceReclaimed"] > 2 << 20 and api.ask("GET", "/system/df")[1]["BuildCache"] == []


def test_system_df_and_prune_count_and_free(api: Api) -> None:
    api.good("image", "prune", "-f")
    api.good("run", "--name", "box", *QUICK, "busybox", "dd", "if=/dev/urandom", "of=/file", "bs=1M", "count=3")
    rows = {row["Type"]: row for row in map(json.loads, api.good("system", "df", "--format", "json").splitlines())}
    assert rows["Containers"]["TotalCount"] == "1" and rows["Containers"]["Size"].startswith("3.1")
    api.good("network", "create", "unused")
    api.good("volume", "create", "keep")
    out = api.good("system", "prune", "-f")
    assert "unused" in out and "reclaimed space: 3.1" in out
    assert api.minirt.containers == [] and "unused" not in api.good("network", "ls")
    assert api.good("volume", "ls", "-q") == "keep"
    assert "keep" in api.good("volume", "prune", "-af")
    assert "busybox" in api.good("images", "--format", "{{.Repository}}")
