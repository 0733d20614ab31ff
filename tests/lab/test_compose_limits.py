"""deploy.resources of a compose file, as cgroup v2 keeps them; and what `stats` and `system df` tell of such a service."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif("memory" not in (Path("/sys/fs/cgroup/cgroup.controllers").read_text().split()
                                        if Path("/sys/fs/cgroup/cgroup.controllers").exists() else ()),
                       reason="cgroup v2 with its controllers is in the lab"),
]  # fmt: skip

FILE = """\
name: limited
services:
  a:
    image: busybox
    command: sleep 1000
    network_mode: none
    stop_grace_period: 1s
    deploy:
      resources:
        limits: {cpus: "0.5", memory: 64m, pids: 33}
        reservations: {memory: 32m}
"""


def test_limits_of_a_service_are_its_groups(tmp_path: Path) -> None:
    root = tmp_path / "root"
    env = {**os.environ, "MINIRT_ROOT": str(root)}

    def run(*words: str) -> str:
        words = (sys.executable, "-m", "minirt", *words)
        done = subprocess.run(words, capture_output=True, text=True, timeout=300, env=env, cwd=tmp_path, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    tmp_path.chmod(0o755)
    (tmp_path / "compose.yaml").write_text(FILE)
    run("compose", "up", "-d")
    try:
        script = "cd /sys/fs/cgroup; cat memory.max memory.low pids.max cpu.max"
        limits = [str(64 << 20), str(32 << 20), "33", "50000", "100000"]
        assert run("compose", "exec", "-T", "a", "sh", "-c", script).split() == limits
        assert run("stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}").endswith("/ 64MiB")
        assert run("compose", "pause") == "" and run("compose", "ps", "--format", "{{.State}}") == "paused"
        run("compose", "unpause")
    finally:
        run("compose", "down", "-v")
