"""The server that the docker command line speaks to: where it listens, who may come in, what it does with bad requests."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from api_server import Api, api, emptied, own_host, until  # noqa: F401
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("emptied")]
QUICK = ("--network", "none")


def openssl(folder: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, a server's certificate and a client's, and a client's by another authority."""
    folder = tmp_path_factory.mktemp("tls")
    for ca, subjects in (("ca", ("server", "client")), ("other", ("stranger",))):
        openssl(folder, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{ca}.key",
                "-out", f"{ca}.pem", "-subj", f"/CN={ca}", "-days", "2")  # fmt: skip
        for name in subjects:
            openssl(folder, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key",
                    "-out", f"{name}.csr", "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1")  # fmt: skip
            openssl(folder, "x509", "-req", "-in", f"{name}.csr", "-CA", f"{ca}.pem", "-CAkey", f"{ca}.key", "-out", f"{name}.pem",
                    "-days", "2", "-copy_extensions", "copy")  # fmt: skip
    return folder


def test_tcp_with_certificates_on_both_sides(api: Api, certificates: Path) -> None:
    tls = ("--tlscacert", "ca.pem", "--tlscert", "server.pem", "--tlskey", "server.key")
    server = api.minirt.start("serve", "-q", "-H", "tcp://127.0.0.1:0", *tls, cwd=certificates)
    where = server.stdout.readline().split()[-1]
    try:
        for name, good in (("client", True), ("stranger", False)):
            words = ["--tlsverify", "--tlscacert=ca.pem", f"--tlscert={name}.pem", f"--tlskey={name}.key", "-H", where]
            command = [*api.inside(), "docker", *words, "run", "--rm", "-i", *QUICK, "busybox", "cat"]
            done = subprocess.run(command, input=b"typed" * 100_000, capture_output=True, cwd=certificates, timeout=60, env=api.env)
            assert (done.returncode == 0) == good and (done.stdout == b"typed" * 100_000) == good, done.stderr
        plain = subprocess.run([*api.inside(), "docker", "-H", where, "version"], capture_output=True, env=api.env, timeout=60)
        assert plain.returncode != 0
    finally:
        server.terminate()
        assert server.wait(30) == 0


def test_tcp_that_anybody_could_reach_needs_certificates(api: Api) -> None:
    done = api.minirt("serve", "-H", "tcp://0.0.0.0:2375")
    assert done.returncode == 125 and "root" in done.stderr
    done = api.minirt("serve", "-H", "tcp://127.0.0.1:0", "--tlscert", "x")
    assert done.returncode == 125 and "--tlscacert" in done.stderr


def test_a_socket_that_is_handed_over_is_served(api: Api, tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()
    script = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1')\n" \
             "os.execv(sys.argv[2], sys.argv[2:])"  # fmt: skip
    command = [sys.executable, "-c", script, str(listener.fileno()), sys.executable, "-m", "minirt", "serve", "-q", "-H", "fd://"]
    server = subprocess.Popen(command, pass_fds=[listener.fileno()], env=api.minirt.env, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout and "fd://3" in server.stdout.readline()
        done = subprocess.run(["docker", "-H", f"unix://{tmp_path}/s", "version"], capture_output=True, env=api.env, timeout=60)
        assert done.returncode == 0
    finally:
        server.terminate()
        server.wait(30)
    assert (tmp_path / "s").exists()  # it is not ours to remove
    assert "no socket was handed over" in api.minirt("serve", "-H", "fd://").stderr


def test_the_socket_is_root_s_alone_unless_a_group_is_named(api: Api) -> None:
    status = os.stat(api.path)
    assert stat.S_IMODE(status.st_mode) == 0o600 and status.st_uid == 0
    path = api.minirt.root / "group.sock"
    server = api.minirt.start("serve", "-q", "-H", f"unix://{path}", "--group", "daemon")
    assert server.stdout.readline()
    assert stat.S_IMODE(path.stat().st_mode) == 0o660 and path.group() == "daemon"
    server.terminate()
    assert server.wait(30) == 0 and not path.exists()


def test_a_second_server_at_the_same_socket_is_refused_and_a_dead_one_s_is_taken(api: Api) -> None:
    done = api.minirt("serve", "-H", f"unix://{api.path}")
    assert done.returncode == 125 and "a server is there already" in done.stderr
    api.end(signal.SIGKILL)
    assert os.path.exists(api.path)
    api.begin()
    assert api.good("version")


def test_what_is_asked_for_is_done_before_the_server_ends(api: Api) -> None:
    clients = [api.start("run", "-d", "--name", f"box{i}", *QUICK, "busybox", "sleep", "600") for i in range(4)]
    until(lambda: api.minirt.containers)
    assert api.end() == 0
    api.begin()
    for client in clients:
        client.wait(60)
    for line in api.good("ps", "-a", "--format", "{{.Names}} {{.State}}").splitlines():
        assert line.split()[1] in ("running", "created")


def raw(api: Api, data: bytes) -> bytes:
    """Send bytes, and return all that comes back."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(api.path)
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        said = b""
        while piece := client.recv(65536):
            said += piece
        return said


@given(data=st.one_of(st.binary(max_size=300), st.text(max_size=100).map(lambda text: f"GET /{text} HTTP/1.1\r\n\r\n".encode())))
@settings(max_examples=60)
def test_no_bytes_end_the_server(api: Api, data: bytes) -> None:
    raw(api, data)
    assert api.process and api.process.poll() is None


BODIES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 1 << 40) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["Image", "Cmd", "Env", "HostConfig", "Binds", "Memory", "PortBindings", "80/tcp", "HostPort", "Mounts",
                         "Ulimits", "RestartPolicy", "NetworkMode", "Labels", "NetworkingConfig", "EndpointsConfig"]), inner,
        max_size=4), max_leaves=12,
)  # fmt: skip


FIELDS = st.sampled_from(["Cmd", "Env", "HostConfig", "Labels", "Entrypoint", "Volumes", "User", "Healthcheck"])


@given(body=st.dictionaries(FIELDS, BODIES, max_size=4))
@settings(max_examples=60)
def test_no_body_is_answered_with_a_fault_of_ours(api: Api, body: dict[str, Any]) -> None:
    status, said = api.ask("POST", "/containers/create", {**body, "Image": "busybox"})
    assert status in (201, 400, 404, 409), said
    if status == 201:
        assert api.ask("DELETE", f"/containers/{said['Id']}")[0] == 204


def test_requests_follow_each_other_on_one_connection_also_after_errors(api: Api) -> None:
    data = b"".join(
        b"%s /%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (method, path, len(body), body)
        for method, path, body in ((b"GET", b"_ping", b""), (b"POST", b"containers/create", b"{"), (b"GET", b"nowhere", b""),
                                   (b"POST", b"containers/none/start", b"x" * 200_000), (b"GET", b"_ping", b""))
    )  # fmt: skip
    said = raw(api, data)
    assert re.findall(rb"HTTP/1\.1 (\d+)", said) == [b"200", b"400", b"404", b"404", b"200"]


def test_sigusr1_shows_what_the_server_does(api: Api) -> None:
    assert api.process
    api.process.send_signal(signal.SIGUSR1)
    until(lambda: "most recent call first" in (api.minirt.root / "serve.log").read_text())
    time.sleep(0.1)
    assert api.good("version")


def attached(api: Api, name: str) -> socket.socket:
    """Return a connection that has become a container's streams."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(60)
    client.connect(api.path)
    line = f"POST /v1.50/containers/{name}/attach?stream=1&stdout=1&stderr=1 HTTP/1.1"
    client.sendall(f"{line}\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n".encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += client.recv(1)
    assert head.startswith(b"HTTP/1.1 101 ") and b"application/vnd.docker.multiplexed-stream" in head
    return client


def test_all_who_attach_before_the_start_miss_nothing(api: Api) -> None:
    for _ in range(5):
        api.good("create", "--name", "box", *QUICK, "busybox", "sh", "-c", "echo first; echo second >&2")
        clients = [attached(api, "box") for _ in range(12)]
        api.good("start", "box")
        for client in clients:
            said = b""
            while piece := client.recv(65536):
                said += piece
            client.close()
            assert b"\1\0\0\0\0\0\0\6first\n" in said and b"\2\0\0\0\0\0\0\7second\n" in said
        api.good("rm", "-f", "box")


def test_what_there_is_not_is_refused_in_docker_s_words(api: Api) -> None:
    assert api.ask("POST", "/session")[0] == 501 and "DOCKER_BUILDKIT=0" in api.ask("POST", "/session")[1]["message"]
    assert api.ask("POST", "/build?version=2")[0] == 501
    for words in (["swarm", "init"], ["service", "ls"], ["node", "ls"], ["secret", "ls"]):
        assert "not a swarm manager" in api.docker(*words).stderr
    assert api.good("plugin", "ls", "-q") == ""
    for host, word in (({"Links": ["a:b"]}, "Links"), ({"Runtime": "kata"}, "kata"), ({"CgroupParent": "/x"}, "CgroupParent")):
        status, said = api.ask("POST", "/containers/create", {"Image": "busybox", "HostConfig": host})
        assert status == 400 and word in said["message"]


@pytest.mark.parametrize("version", ["1.40", "1.41", "1.43", "1.47"])
def test_older_clients_are_served_as_they_expect(api: Api, version: str) -> None:
    env = {**api.env, "DOCKER_API_VERSION": version}

    def docker(*words: str) -> str:
        done = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=60, env=env)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert docker("run", "--rm", *QUICK, "busybox", "echo", "hi") == "hi"
    docker("run", "-d", "--name", "box", *QUICK, "busybox", "sleep", "600")
    assert docker("exec", "box", "echo", "inside") == "inside"
    assert docker("ps", "--format", "{{.Names}}") == "box" and "busybox" in docker("images")
    docker("rm", "-f", "box")
