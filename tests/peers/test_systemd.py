"""podman with --cgroup-manager=systemd, its default, on minirt-oci: a container's unit is podman's libpod-ID.scope, and it can
be saved and brought back.

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
    pytest.mark.timeout(400),
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


def test_podman_s_container_is_a_scope_of_systemd_s(podman: Podman, box: Box) -> None:
    script = "echo up; trap 'exit 9' TERM; while :; do sleep 0.3; done"
    name = podman.good("run", "-d", "--name", "one", "--network", "none", *LIMITS, "bb", "sh", "-c", script)
    unit = f"libpod-{name}.scope"
    said = box.good("systemctl", "show", unit).splitlines()
    assert {f"MemoryMax={64 * MIB}", "TasksMax=50", "CPUQuotaPerSecUSec=500ms", "Slice=machine.slice", "Delegate=yes"} <= set(said)
    group = box.group / "machine.slice" / unit
    # podman's own processes in a container's unit are in groups below it
    assert (group / "pids.max").read_text() == "50\n" and (group / "memory.max").read_text() == f"{64 * MIB}\n"
    assert podman.good("exec", "one", "cat", "/sys/fs/cgroup/pids.max") == "50"
    podman.good("update", "--memory", "32m", "one")
    assert f"MemoryMax={32 * MIB}" in box.good("systemctl", "show", unit)
    podman.good("pause", "one")
    podman.good("unpause", "one")
    podman.good("stop", "-t", "20", "one")
    assert podman.good("inspect", "--format", "{{.State.ExitCode}}", "one") == "9"
    podman.good("rm", "one")
    assert unit not in box.good("systemctl", "list-units", "--all") and not group.exists()


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
