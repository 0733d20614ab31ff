"""podman with --cgroup-manager=systemd, its default, and dockerd with native.cgroupdriver=systemd on minirt-oci: a container's
unit is podman's libpod-ID.scope, docker's docker-ID.scope; podman's can be saved and brought back.

In the lab's machine with engines (the Makefile's test-lab), in a container with systemd as pid 1.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engines import RUNTIME, place, rootfs  # noqa: F401

sys.path.append(str(Path(__file__).resolve().parents[1] / "lab"))
from systemd_box import Box, box  # noqa: F401

MIB = 1 << 20
LIMITS = ("--memory", "64m", "--cpus", "0.5", "--pids-limit", "50")
pytestmark = [
    pytest.mark.root,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(not os.path.isdir("/run/minirt-lab"), reason="systemd is started in the lab alone (make test-lab)"),
]


class Podman:
    """podman's command line, in the box."""

    def __init__(self, box: Box, place: Path) -> None:
        self.box = box
        storage = place / "storage.conf"
        storage.write_text(f'[storage]\ndriver = "overlay"\ngraphroot = "{place}/graph"\nrunroot = "/run/podman"\n')
        self.environment = {"CONTAINERS_STORAGE_CONF": str(storage)}
        self.command = ["podman", "--runtime", str(RUNTIME), "--cgroup-manager", "systemd", "--events-backend", "file",
                        "--tmpdir", "/run/podman-tmp"]  # fmt: skip

    def __call__(self, *words: object) -> Any:
        return self.box(*self.command, *words, **self.environment)

    def good(self, *words: object) -> str:
        return self.box.good(*self.command, *words, **self.environment).strip()


@pytest.fixture(scope="module")
def podman(box: Box, place: Path, rootfs: Path) -> Iterator[Podman]:
    engine = Podman(box, place)
    engine.good("import", rootfs, "bb")
    yield engine
    engine("rm", "-fa", "-t", "0")
    engine("rmi", "-fa")


class Docker:
    """dockerd as a unit of the box, and docker's command line there."""

    def __init__(self, box: Box, place: Path) -> None:
        self.box = box
        self.home = place / "docker"
        self.home.mkdir()
        self.command = ["docker", "-H", f"unix://{self.home}/s"]
        box.good(
            "systemd-run", "--unit", "dockerd", "dockerd", "--data-root", self.home / "data", "--exec-root", "/run/dockerd",
            "-p", self.home / "pid", "-H", f"unix://{self.home}/s", "--iptables=false", "--bridge=none",
            "--exec-opt", "native.cgroupdriver=systemd", "--add-runtime", f"minirt={RUNTIME}", "--default-runtime", "minirt",
        )  # fmt: skip
        end = time.monotonic() + 600
        while self("version").returncode:
            assert time.monotonic() < end, box("journalctl", "-u", "dockerd").stdout[-2000:]
            time.sleep(0.5)

    def __call__(self, *words: object) -> Any:
        return self.box(*self.command, *words)

    def good(self, *words: object) -> str:
        return self.box.good(*self.command, *words).strip()


@pytest.fixture(scope="module")
def docker(box: Box, place: Path, rootfs: Path) -> Iterator[Docker]:
    engine = Docker(box, place)
    engine.good("import", rootfs, "bb")
    yield engine
    for id in engine("ps", "-aq").stdout.split():
        engine("rm", "-f", id)
    box("systemctl", "stop", "dockerd")


LIFE = "echo up; trap 'exit 9' TERM; while :; do sleep 0.3; done"
AS_ASKED = {f"MemoryMax={64 * MIB}", "TasksMax=50", "CPUQuotaPerSecUSec=500ms", "Delegate=yes"}


def life_of_a_scope(engine: Podman | Docker, box: Box, unit: str, slice: str) -> None:
    """Lead a container that runs through the rest of its life, with a look at its unit."""
    said = box.good("systemctl", "show", unit).splitlines()
    assert {*AS_ASKED, f"Slice={slice}"} <= set(said)
    group = box.group / slice / unit
    # podman's own processes in a container's unit are in groups below it
    assert (group / "pids.max").read_text() == "50\n" and (group / "memory.max").read_text() == f"{64 * MIB}\n"
    assert engine.good("exec", "one", "cat", "/sys/fs/cgroup/pids.max") == "50"
    engine.good("update", "--memory", "32m", "--memory-swap", "64m", "one")
    assert f"MemoryMax={32 * MIB}" in box.good("systemctl", "show", unit)
    engine.good("pause", "one")
    assert "frozen 1" in (group / "cgroup.events").read_text()
    engine.good("unpause", "one")
    engine.good("stop", "-t", "60", "one")
    assert engine.good("inspect", "--format", "{{.State.ExitCode}}", "one") == "9"
    engine.good("rm", "one")
    assert unit not in box.good("systemctl", "list-units", "--all") and not group.exists()


def test_podman_s_container_is_a_scope_of_systemd_s(podman: Podman, box: Box) -> None:
    name = podman.good("run", "-d", "--name", "one", "--network", "none", *LIMITS, "bb", "sh", "-c", LIFE)
    life_of_a_scope(podman, box, f"libpod-{name}.scope", "machine.slice")


def test_docker_s_container_is_a_scope_of_systemd_s(docker: Docker, box: Box) -> None:
    assert "systemd" in docker.good("info", "--format", "{{.CgroupDriver}}")
    name = docker.good("run", "-d", "--name", "one", "--network", "none", *LIMITS, "bb", "sh", "-c", LIFE)
    life_of_a_scope(docker, box, f"docker-{name}.scope", "system.slice")


@pytest.mark.long
def test_podman_saves_a_container_and_brings_it_back(podman: Podman) -> None:
    script = "i=0; while :; do i=$((i+1)); echo $i > /count; sleep 0.1; done"
    podman.good("run", "-d", "--name", "two", "--network", "none", "bb", "sh", "-c", script)
    time.sleep(1)
    podman.good("container", "checkpoint", "two")
    assert podman.good("inspect", "--format", "{{.State.Status}} {{.State.Checkpointed}}", "two") == "exited true"
    podman.good("container", "restore", "two")
    assert podman.good("inspect", "--format", "{{.State.Status}}", "two") == "running"
    first = int(podman.good("exec", "two", "cat", "/count"))
    time.sleep(0.5)
    assert int(podman.good("exec", "two", "cat", "/count")) > first > 1
    podman.good("rm", "-f", "-t", "0", "two")
