"""The Engine API and cgroups: limits are set and changed, processes held still, use is told, and the kernel is asked each time."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_server import Socket
from command import Minirt

from minirt.linux.cgroup2 import find_mount, find_parent

pytest.importorskip("h11", reason="python3-h11 is in the lab")

LIMIT = 240.0  # s for one answer: this machine is emulated


class Server:
    """`minirt serve`, and one container of it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.id = ""

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        connection = Socket(self.path, LIMIT)
        connection.request(method, path, json.dumps(body) if body is not None else None, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, json.loads(text) if text.strip() else None

    def group(self, file: str) -> str:
        mount = find_mount()
        assert mount
        return (Path(find_parent(mount)) / self.id / file).read_text().strip()


@pytest.fixture
def server(mine: Minirt) -> Iterator[Server]:
    path = str(mine.root / "docker.sock")
    mine.good("run", "--plan", "busybox", "true")  # the image is there
    process = mine.start("serve", "-H", f"unix://{path}")
    try:
        assert process.stdout and "serving" in process.stdout.readline()
        yield Server(path)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=LIMIT)


def test_limits_stillness_and_use_through_the_api(server: Server) -> None:
    limits = {"Memory": 64 << 20, "NanoCpus": 10**9, "PidsLimit": 50, "CpuShares": 512, "NetworkMode": "none"}
    script = "x=$(head -c 8000000 /dev/zero | tr '\\0' x); while :; do :; done"
    body = {"Image": "busybox", "Cmd": ["sh", "-c", script], "HostConfig": limits}
    status, made = server.ask("POST", "/containers/create", body)
    assert status == 201, made
    server.id = made["Id"]
    assert server.ask("POST", f"/containers/{server.id}/start")[0] == 204
    assert [server.group(file) for file in ("memory.max", "cpu.max", "pids.max")] == [str(64 << 20), "100000 100000", "50"]

    changes = {"Memory": 96 << 20, "MemorySwap": 96 << 20, "NanoCpus": 5 * 10**8, "PidsLimit": 20}
    status, said = server.ask("POST", f"/containers/{server.id}/update", changes)
    assert status == 200, said
    assert [server.group(file) for file in ("memory.max", "memory.swap.max", "cpu.max", "pids.max")] == \
        [str(96 << 20), "0", "50000 100000", "20"]  # fmt: skip
    host = server.ask("GET", f"/containers/{server.id}/json")[1]["HostConfig"]
    assert (host["Memory"], host["NanoCpus"], host["PidsLimit"], host["CpuShares"]) == (96 << 20, 5 * 10**8, 20, 512)
    status, said = server.ask("POST", f"/containers/{server.id}/update", {"Memory": 80 << 20, "CpusetCpus": "77"})
    assert status >= 400 and said["message"] and server.group("memory.max") == str(96 << 20), "all of it or nothing"

    end = time.monotonic() + LIMIT
    while server.group("pids.current") != "1":  # the others were only there to begin with
        assert time.monotonic() < end
        time.sleep(0.2)
    stats = server.ask("GET", f"/containers/{server.id}/stats?stream=0")[1]
    used = {line.split()[0]: int(line.split()[1]) for line in server.group("cpu.stat").splitlines()}["usage_usec"] * 1000
    assert 0 < stats["precpu_stats"]["cpu_usage"]["total_usage"] < stats["cpu_stats"]["cpu_usage"]["total_usage"] <= used
    assert stats["memory_stats"]["limit"] == 96 << 20 and 0 < stats["memory_stats"]["usage"] <= int(server.group("memory.peak"))
    assert stats["pids_stats"] == {"current": 1, "limit": 20}

    assert server.ask("POST", f"/containers/{server.id}/pause")[0] == 204
    assert "frozen 1" in server.group("cgroup.events")
    still = server.group("cpu.stat").splitlines()[0]
    assert server.ask("GET", f"/containers/{server.id}/json")[1]["State"]["Status"] == "paused"
    assert server.group("cpu.stat").splitlines()[0] == still, "it has not run a moment"
    assert server.ask("POST", f"/containers/{server.id}/pause")[0] == 409
    assert server.ask("POST", f"/containers/{server.id}/unpause")[0] == 204
    assert server.ask("POST", f"/containers/{server.id}/unpause")[0] == 409
    assert "frozen 0" in server.group("cgroup.events")
    assert server.ask("DELETE", f"/containers/{server.id}?force=1")[0] == 204
    assert not Path(find_parent(find_mount() or "")).joinpath(server.id).exists()
