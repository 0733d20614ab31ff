"""docker-py (PyPI: docker) and testcontainers drive minirt, as programs use them."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_server import Api, api, emptied, until  # noqa: F401

docker = pytest.importorskip("docker", reason="docker-py is not installed (pip install docker)")
pytestmark = [pytest.mark.root, pytest.mark.usefixtures("emptied")]
QUICK = {"network_mode": "none"}


@pytest.fixture
def client(api: Api) -> Iterator[Any]:
    made = docker.DockerClient(base_url=f"unix://{api.path}")
    yield made
    made.close()


def test_it_agrees_on_a_version(client: Any) -> None:
    assert client.ping() and client.version()["Components"][0]["Name"] == "Engine"
    assert client.info()["KernelVersion"] == os.uname().release


def test_run_returns_the_output_or_raises_with_the_status(client: Any) -> None:
    assert client.containers.run("busybox", ["echo", "hi"], remove=True, **QUICK) == b"hi\n"
    with pytest.raises(docker.errors.ContainerError) as caught:
        client.containers.run("busybox", ["sh", "-c", "echo wrong >&2; exit 4"], remove=True, **QUICK)
    assert caught.value.exit_status == 4 and b"wrong" in caught.value.stderr
    with pytest.raises(docker.errors.ImageNotFound):
        client.images.get("nowhere")
    with pytest.raises(docker.errors.NotFound):
        client.containers.get("nobody")


def test_how_a_detached_exec_ended_can_be_asked_and_is_told(client: Any) -> None:
    box = client.containers.run("busybox", ["sleep", "600"], detach=True, name="box", **QUICK)
    follower = client.events(since=0, filters={"event": "exec_die", "container": box.id}, decode=True)
    id = client.api.exec_create(box.id, ["sh", "-c", "exit 7"])["Id"]
    client.api.exec_start(id, detach=True)
    told = next(follower)["Actor"]["Attributes"]
    assert (told["execID"], told["exitCode"]) == (id, "7")
    found = client.api.exec_inspect(id)
    assert (found["Running"], found["ExitCode"], found["Pid"]) == (False, 7, 0)


def test_an_exec_whose_client_hangs_up_is_told_when_it_ends_and_once(client: Any) -> None:
    box = client.containers.run("busybox", ["sleep", "600"], detach=True, name="box", **QUICK)
    follower = client.events(since=0, filters={"event": "exec_die", "container": box.id}, decode=True)
    id = client.api.exec_create(box.id, ["sh", "-c", "until test -e /go; do sleep 0.1; done; exit 5"])["Id"]
    client.api.exec_start(id, socket=True).close()
    until(lambda: client.api.exec_inspect(id)["Running"])
    assert box.exec_run(["touch", "/go"]).exit_code == 0
    codes = {(event := next(follower)["Actor"]["Attributes"])["execID"]: event["exitCode"] for _ in range(2)}
    assert codes[id] == "5" and sorted(codes.values()) == ["0", "5"]


def test_a_container_is_an_object_with_a_life(client: Any) -> None:
    box = client.containers.run("busybox", ["sleep", "600"], detach=True, name="box", labels={"a": "b"}, **QUICK)
    assert box.status in ("created", "running")
    box.reload()
    assert box.status == "running" and [c.name for c in client.containers.list(filters={"label": "a=b"})] == ["box"]
    pid = box.attrs["State"]["Pid"]
    assert Path(f"/proc/{pid}/comm").read_text() == "sleep\n"
    code, output = box.exec_run(["sh", "-c", "echo out; echo err >&2; exit 3"], demux=True)
    assert (code, output) == (3, (b"out\n", b"err\n"))
    assert str(pid) in box.top()["Processes"][0]
    assert box.stats(stream=False)["pids_stats"]["current"] >= 1
    box.pause()
    box.reload()
    assert box.status == "paused"
    box.unpause()
    box.rename("crate")
    box.restart(timeout=0)
    box.stop(timeout=0)
    assert box.wait()["StatusCode"] == 137
    box.remove()
    with pytest.raises(docker.errors.NotFound):
        client.containers.get("crate")


def test_logs_and_attach_stream(client: Any) -> None:
    script = "i=0; while [ $i -lt 5 ]; do echo $i; i=$((i + 1)); sleep 0.1; done"
    box = client.containers.create("busybox", ["sh", "-c", script], **QUICK)
    stream = box.attach(stream=True, logs=True)
    box.start()
    assert b"".join(stream).split() == [b"0", b"1", b"2", b"3", b"4"]
    assert b"".join(box.logs(stream=True, follow=True)).split() == [b"0", b"1", b"2", b"3", b"4"]
    assert box.logs(tail=2).split() == [b"3", b"4"]


def test_input_goes_through_a_socket_that_is_half_closed(client: Any) -> None:
    box = client.containers.create("busybox", ["cat"], stdin_open=True, **QUICK)
    socket = box.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    box.start()
    socket._sock.sendall(b"typed\n")
    socket._sock.shutdown(1)
    assert b"typed\n" in socket.read()
    socket.close()
    assert box.wait()["StatusCode"] == 0


def test_archives_go_in_and_come_out(client: Any) -> None:
    box = client.containers.create("busybox", ["cat", "/tmp/file"], **QUICK)
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        entry = tarfile.TarInfo("file")
        entry.size = 6
        tar.addfile(entry, io.BytesIO(b"words\n"))
    assert box.put_archive("/tmp", data.getvalue())
    box.start()
    box.wait()
    assert box.logs() == b"words\n"
    pieces, stat = box.get_archive("/tmp/file")
    assert stat["size"] == 6 and tarfile.open(fileobj=io.BytesIO(b"".join(pieces))).extractfile("file").read() == b"words\n"


def test_images_are_built_tagged_saved_and_loaded(client: Any) -> None:
    image, lines = client.images.build(fileobj=io.BytesIO(b"FROM busybox\nRUN echo made > /made\nCMD cat /made\n"), tag="py:1")
    assert any("Step 1/" in line.get("stream", "") for line in lines) and "py:1" in image.tags
    assert client.containers.run("py:1", remove=True, **QUICK) == b"made\n"
    with pytest.raises(docker.errors.BuildError):
        client.images.build(fileobj=io.BytesIO(b"FROM busybox\nRUN exit 3\n"))
    assert image.tag("py", "2") and image.history()[0]["Id"] == image.id
    archive = b"".join(client.images.get("py:2").save(named="py:2"))
    client.images.remove("py:1")
    client.images.remove("py:2")
    assert [loaded.tags for loaded in client.images.load(archive)] == [["py:2"]]
    client.images.remove("py:2")


def test_networks_and_volumes(client: Any) -> None:
    network = client.networks.create("py-net", driver="bridge", labels={"a": "b"})
    volume = client.volumes.create("py-data")
    mounts = {"py-data": {"bind": "/d", "mode": "rw"}}
    one = client.containers.run("busybox", ["httpd", "-f", "-h", "/etc"], detach=True, name="one", network="py-net", volumes=mounts)
    said = client.containers.run("busybox", ["wget", "-qO-", "http://one/hostname"], remove=True, network="py-net")
    assert said.decode().strip() == one.id[:12]
    network.reload()
    assert [c.name for c in network.containers] == ["one"]
    network.disconnect(one)
    network.reload()
    assert network.containers == []
    with pytest.raises(docker.errors.APIError) as caught:
        volume.remove()
    assert caught.value.status_code == 409
    one.remove(force=True)
    volume.remove()
    network.remove()
    assert client.networks.list(names=["py-net"]) == [] and client.volumes.list() == []


def test_events_come_as_objects(client: Any) -> None:
    import time

    since = int(time.time())
    client.containers.run("busybox", "true", remove=True, name="box", **QUICK)
    told = client.events(since=since, until=int(time.time()) + 2, decode=True, filters={"type": "container", "container": "box"})
    life = ["create", "start", "die", "destroy"]
    assert [event["Action"] for event in told if event["Action"] in life] == life


def test_what_has_ended_is_pruned(client: Any) -> None:
    box = client.containers.create("busybox", "true", **QUICK)
    assert client.containers.prune()["ContainersDeleted"] == [box.id]
    assert client.df()["Containers"] in ([], None)


CONTAINERS = """
import urllib.request
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from testcontainers.core.waiting_utils import wait_for_logs

with DockerContainer("busybox").with_command("httpd -f -vv -p 80 -h /etc").with_exposed_ports(80).with_env("A", "b") as web:
    address = f"http://{web.get_container_host_ip()}:{web.get_exposed_port(80)}/hostname"
    assert urllib.request.urlopen(address, timeout=10).read().decode().strip() == web.get_wrapped_container().id[:12]
    wait_for_logs(web, "response:200", timeout=30)
    assert web.exec(["sh", "-c", "echo $A"]).output.decode().strip() == "b"

with Network() as network:
    with DockerContainer("busybox").with_network(network).with_network_aliases("db").with_command("sleep 600"):
        ping = DockerContainer("busybox").with_network(network).with_command("ping -c 1 db")
        with ping:
            wait_for_logs(ping, "1 packets received", timeout=30)
print("all of it")
"""


def test_testcontainers_gives_tests_containers_with_ports_and_networks(api: Api) -> None:
    pytest.importorskip("testcontainers", reason="testcontainers is not installed (pip install testcontainers)")
    env = {**api.env, "TESTCONTAINERS_RYUK_DISABLED": "true"}  # its reaper is an image of a registry that is not here
    command = [*api.inside(), sys.executable, "-c", CONTAINERS]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=110)
    assert done.stdout.strip().endswith("all of it"), done.stderr
