"""dockerd and containerd run their containers with minirt-oci, each with directories and sockets of its own."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from engines import RUNTIME, Engine, need, place, rootfs  # noqa: F401

pytestmark = pytest.mark.root
PATIENCE = 600  # s: a daemon's first start, in the lab and on a machine that has much else to do, takes minutes


def daemon(command: list[str], log: Path, ready: Callable[[], bool]) -> Iterator[None]:
    """Run a daemon while the tests run."""
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
        end = time.monotonic() + PATIENCE
        while not ready():
            assert process.poll() is None and time.monotonic() < end, log.read_text()[-2000:]
            time.sleep(0.1)
        yield
        process.terminate()
        process.wait(PATIENCE)


@pytest.fixture(scope="module")
def docker(place: Path, rootfs: Path) -> Iterator[Engine]:
    need("docker", "dockerd", "containerd")
    home = place / "docker"
    home.mkdir()
    engine = Engine("docker", "-H", f"unix://{home}/s")
    command = ["dockerd", "--data-root", f"{home}/data", "--exec-root", f"{home}/exec", "-p", f"{home}/pid",
               "-H", f"unix://{home}/s", "--iptables=false", "--bridge=none",
               "--add-runtime", f"minirt={RUNTIME}", "--default-runtime", "minirt"]  # fmt: skip
    running = daemon(command, home / "log", lambda: engine("version").returncode == 0)
    next(running)
    engine.good("import", rootfs, "bb")
    yield engine
    for id in engine("ps", "-aq").stdout.split():
        engine("rm", "-f", id)
    next(running, None)


OPTIONS = ("--network", "none")


def test_docker_output_and_exit_status(docker: Engine) -> None:
    assert docker.good("run", "--rm", *OPTIONS, "bb", "echo", "hello") == "hello"
    assert docker("run", "--rm", *OPTIONS, "bb", "sh", "-c", "exit 42").returncode == 42
    assert docker("run", "--rm", *OPTIONS, "bb", "nothing").returncode == 127
    assert docker("run", "--rm", *OPTIONS, "bb", "/etc").returncode == 126


def test_docker_s_runtime_is_ours(docker: Engine, place: Path) -> None:
    id = docker.good("run", "-d", *OPTIONS, "bb", "sleep", "100")
    pid = int(docker.good("inspect", "--format", "{{.State.Pid}}", id))
    (state,) = list(place.rglob(f"{id}/state.json")) or list(Path("/run").rglob(f"{id}/state.json"))
    assert json.loads(state.read_text())["pid"] == pid
    docker.good("rm", "-f", id)
    assert not state.exists()


def test_a_docker_container_s_life(docker: Engine) -> None:
    script = "echo up; trap 'exit 9' TERM; while :; do sleep 0.1; done"
    health = ("--health-cmd", "true", "--health-interval", "1s")
    docker.good("run", "-d", "--name", "life", *health, *OPTIONS, "bb", "sh", "-c", script)
    assert docker.good("exec", "life", "cat", "/proc/1/cmdline").startswith("sh\0")
    assert docker("exec", "life", "sh", "-c", "exit 5").returncode == 5
    assert "12" in docker.good("exec", "-u", "12", "life", "id", "-u")
    docker.good("pause", "life")
    assert status(docker) == "paused"
    docker.good("unpause", "life")
    assert docker.good("logs", "life") == "up"
    assert "echo up" in docker.good("top", "life")
    docker.good("update", "--restart", "no", "life")
    end = time.monotonic() + PATIENCE
    while docker.good("inspect", "--format", "{{.State.Health.Status}}", "life") != "healthy":
        assert time.monotonic() < end
        time.sleep(0.2)
    docker.good("stop", "-t", "10", "life")
    assert docker.good("inspect", "--format", "{{.State.ExitCode}}", "life") == "9"
    docker.good("start", "life")
    assert status(docker) == "running"
    docker.good("rm", "-f", "life")


def status(docker: Engine) -> str:
    return docker.good("inspect", "--format", "{{.State.Status}}", "life")


def test_a_limit_that_the_host_cannot_hold_is_told_through_docker(docker: Engine) -> None:
    controllers = Path("/sys/fs/cgroup/cgroup.controllers")
    done = docker("run", "--rm", *OPTIONS, "-m", "64m", "bb", "true")
    if controllers.exists() and "memory" in controllers.read_text():
        assert done.returncode == 0
    else:
        assert done.returncode == 125 and "memory controller" in done.stderr


CONFIG = """\
version = 2
root = "{home}/root"
state = "{home}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "{home}/s"
"""


@pytest.fixture(scope="module")
def ctr(place: Path, rootfs: Path) -> Iterator[Engine]:
    need("ctr", "containerd")
    home = place / "containerd"
    home.mkdir()
    (home / "config.toml").write_text(CONFIG.format(home=home))
    engine = Engine("ctr", "-a", f"{home}/s")
    running = daemon(["containerd", "-c", f"{home}/config.toml"], home / "log", lambda: engine("version").returncode == 0)
    next(running)
    yield engine
    engine("task", "rm", "-f", "life")
    next(running, None)


# containerd's default of 1024 shares would need the cpu controller.
FLAGS = ("--cpu-shares", "0", "--runc-binary", str(RUNTIME), "--rootfs")


def test_containerd_runs_a_task(ctr: Engine, place: Path, rootfs: Path) -> None:
    root = rootfs.with_suffix("")
    assert ctr.good("run", "--rm", *FLAGS, root, "once", "/bin/echo", "hello") == "hello"
    assert ctr("run", "--rm", *FLAGS, root, "code", "/bin/sh", "-c", "exit 42").returncode == 42
    ctr.good("run", "-d", *FLAGS, root, "life", "/bin/sleep", "100")
    assert "uid=0" in ctr.good("task", "exec", "--exec-id", "one", "life", "/bin/id")
    ctr.good("task", "pause", "life")
    assert "PAUSED" in ctr.good("task", "ls")
    ctr.good("task", "resume", "life")
    ctr.good("task", "kill", "-s", "9", "life")
    end = time.monotonic() + 10
    while "STOPPED" not in ctr.good("task", "ls"):
        assert time.monotonic() < end
        time.sleep(0.1)
    ctr("task", "rm", "life")
    ctr.good("container", "rm", "life")
