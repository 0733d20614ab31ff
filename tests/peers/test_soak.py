"""Many containers by many clients, and who has to do with them killed in the middle: in the end nothing is left, no line lost."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from api_server import Api, api, until  # noqa: F401

from minirt.linux.cgroup2 import find_mount, find_parent

pytestmark = pytest.mark.root
CLIENTS = 8
CLIENT = Path(__file__).parents[1] / "soak_client.py"


def monitors(root: Path) -> list[int]:
    """Return the monitors of the containers below a directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (path / "comm").read_text() == "minirt-monitor\n" and f"MINIRT_ROOT={root}\0" in (path / "environ").read_text():
                found.append(int(path.name))
    return found


def processes(root: Path) -> list[str]:
    """Return the processes in whose mounts the directory's name is: those of containers."""
    ours, found = os.readlink("/proc/self/ns/mnt"), []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if os.readlink(path / "ns" / "mnt") != ours and root.name in (path / "mountinfo").read_text():
                found.append(path.name)
    return found


class Soak:
    """Clients, and who kills."""

    def __init__(self, api: Api, seed: int) -> None:
        self.api = api
        self.random = random.Random(seed)
        self.journal = api.minirt.root / "journal"
        self.clients: list[subprocess.Popen[bytes]] = []
        self.killed = {"client": 0, "monitor": 0, "server": 0}

    def client(self) -> subprocess.Popen[bytes]:
        words = [sys.executable, CLIENT, self.api.path, self.journal, str(self.random.randrange(1 << 30))]
        return subprocess.Popen(words, stderr=open(self.api.minirt.root / "clients.log", "ab"))

    def lines(self, word: str) -> list[str]:
        text = self.journal.read_text() if self.journal.exists() else ""
        return [line for line in text.splitlines() if line.split(" ")[0] == word]

    def run(self, count: int, limit: float) -> None:
        """Let clients work until so many containers came to their end, and kill somebody now and then."""
        end = time.monotonic() + limit
        self.clients = [self.client() for _ in range(CLIENTS)]
        while len(self.lines("done")) < count or not all(self.killed.values()):
            assert time.monotonic() < end, (self.killed, len(self.lines("done")))
            time.sleep(self.random.uniform(0.2, 1.0))
            self.kill(self.random.choice(("client", "client", "monitor", "monitor", "server")))
        for client in self.clients:
            client.kill()
            client.wait()

    def kill(self, whom: str) -> None:
        if whom == "client":
            i = self.random.randrange(CLIENTS)
            self.clients[i].kill()
            self.clients[i].wait()
            self.clients[i] = self.client()
        elif whom == "server":
            self.api.end(signal.SIGKILL)
            self.api.begin()
        elif found := monitors(self.api.minirt.root):
            with suppress(ProcessLookupError):
                os.kill(self.random.choice(found), signal.SIGKILL)
        self.killed[whom] += 1


def left(api: Api, ids: set[str]) -> dict[str, object]:
    """Return what is left of containers, wherever that may be."""
    root = api.minirt.root
    store = root / "lib" / "image" / "holds"
    groups = find_parent(find_mount()) if find_mount() else "/nowhere"
    with sqlite3.connect(root / "lib" / "state.sqlite") as base:
        rows = base.execute("SELECT id, status FROM container").fetchall()
    with sqlite3.connect(root / "lib" / "network.sqlite") as base:
        leases = base.execute("SELECT * FROM endpoint").fetchall() + base.execute("SELECT * FROM port").fetchall()
    return {
        "rows": rows,
        "leases": leases,
        "directories": os.listdir(root / "lib" / "containers"),
        "holds": os.listdir(store),
        "mounts": [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if root.name in line],
        "cgroups": sorted(set(os.listdir(groups)) & ids) if os.path.isdir(groups) else [],
        "interfaces": [link["ifname"] for link in json.loads(api.here("ip", "-j", "link", "show", "type", "veth") or "[]")],
        "rules": [line.strip() for line in api.here("nft", "list", "ruleset").splitlines() if "dnat ip to" in line],
        "processes": processes(root),
        "monitors": monitors(root),
    }


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("count", [pytest.param(60, id="short"), pytest.param(2000, id="long", marks=pytest.mark.long)])
def test_nothing_is_left_and_no_line_lost_whoever_is_killed(api: Api, count: int) -> None:
    soak = Soak(api, seed=count)
    try:
        soak.run(count, 300 + 3.0 * count)
    finally:
        for client in soak.clients:
            client.kill()
    assert not soak.lines("lost") and len(soak.lines("whole")) > count / 10
    api.end()  # what clients had asked for when they were killed is done, or for gc
    api.begin()
    for id in api.good("ps", "-aq").split():  # those whose client was killed
        api.good("rm", "-f", id)
    ids = {line.split(" ")[1] for line in soak.lines("made")}
    until(lambda: not processes(api.minirt.root))  # what was killed takes a moment to end
    assert api.minirt("gc").returncode == 0
    assert [what for what in left(api, ids).items() if what[1]] == []
