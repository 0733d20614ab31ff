"""Monitors killed, and a host that begins anew: --restart holds as soon as a server runs, and what has ended is told as that."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_server import Api, own_host, until
from command import Minirt, gone

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="a container without a user namespace takes root"),
]
SLEEP = ("busybox", "sleep", "1000")


class Host(Api):
    """A host with a server, which may begin anew."""

    def state(self, name: str) -> dict[str, Any]:
        return json.loads(self.minirt.good("inspect", "-f", "{{json .State}}", name))

    def restarts(self, name: str) -> int:
        return int(self.minirt.good("inspect", "-f", "{{.RestartCount}}", name))

    def run(self, policy: str, *words: str, name: str = "box") -> int:
        self.minirt.good("run", "-d", "--name", name, "--restart", policy, *(words or SLEEP))
        return int(self.state(name)["Pid"])

    def monitor(self, pid: int) -> int:
        parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        assert Path(f"/proc/{parent}/comm").read_text() == "minirt-monitor\n"
        return parent

    def kill_all_of(self, name: str) -> None:
        """Kill a container's monitor, and then its program, so that nobody sees its end."""
        pid = int(self.state(name)["Pid"])
        killed(self.monitor(pid))
        killed(pid)

    def runs_anew(self, name: str, before: int) -> int:
        """Wait until it runs as another process, and return that."""
        return int(until(lambda: (s := self.state(name))["Running"] and s["Pid"] not in (0, before) and s["Pid"]))


def killed(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    until(lambda: gone(pid))


@pytest.fixture
def host(minirt: Minirt) -> Iterator[Host]:
    with own_host() as netns:
        made = Host(minirt, netns)
        try:
            yield made
        finally:
            if made.process and made.process.poll() is None:
                made.end()
            minirt("rm", "-f", *minirt("ps", "-aq").stdout.split())


def test_without_a_server_the_next_command_knows_that_it_is_dead(host: Host) -> None:
    host.run("always")
    host.kill_all_of("box")
    assert "Exited (255)" in host.minirt.good("ps", "-a", "--format", "{{.Status}}")
    state = host.state("box")
    assert (state["Status"], state["ExitCode"], state["Pid"]) == ("exited", 255, 0) and "nobody saw how it ended" in state["Error"]
    words = ("--since", "1h", "--until", "0s", "--filter", "event=die", "--format", "{{json .Actor.Attributes}}")
    told = host.minirt.good("events", *words)
    assert [json.loads(line)["exitCode"] for line in told.splitlines()] == ["255"]
    host.minirt.good("start", "box")
    assert host.state("box")["Running"] and host.state("box")["Error"] == ""


@pytest.mark.parametrize("policy", ["always", "unless-stopped", "on-failure:3"])
def test_a_server_begins_anew_what_lost_its_monitor(host: Host, policy: str) -> None:
    host.begin()
    first = host.run(policy)
    host.kill_all_of("box")
    second = host.runs_anew("box", first)
    assert host.restarts("box") == 1
    killed(second)  # and its new monitor sees to it from here on
    host.runs_anew("box", second)
    assert host.restarts("box") == 2


def test_a_server_leaves_what_is_not_to_run(host: Host) -> None:
    host.begin()
    host.run("no", name="never")
    host.run("unless-stopped", name="stopped")
    first = host.run("always", name="witness")
    host.minirt.good("stop", "-t", "0", "stopped")
    for name in ("never", "witness"):
        host.kill_all_of(name)
    host.runs_anew("witness", first)
    assert {name: host.state(name)["Status"] for name in ("never", "stopped")} == {"never": "exited", "stopped": "exited"}


def test_a_program_whose_monitor_was_killed_goes_on(host: Host) -> None:
    host.begin()
    first = host.run("always")
    witness = host.run("always", name="witness")
    killed(host.monitor(first))
    host.kill_all_of("witness")
    host.runs_anew("witness", witness)  # by then it has been looked at, too
    assert host.state("box")["Pid"] == first and host.state("box")["Running"]
    killed(first)
    host.runs_anew("box", first)


def test_after_a_boot_a_server_starts_what_is_to_run(host: Host) -> None:
    """Each process and the whole network are gone, and the rows still say `running`."""
    host.run("always", "-p", "8080:80", "busybox", "httpd", "-f", "-p", "80", "-h", "/etc", name="web")
    host.run("unless-stopped", "--network", "container:web", *SLEEP, name="beside")
    for name, policy in (("never", "no"), ("stopped", "unless-stopped"), ("always", "always")):
        host.run(policy, name=name)
    host.minirt.good("create", "--name", "new", "--restart", "always", *SLEEP)
    host.minirt.good("stop", "-t", "0", "stopped", "always")
    for name in ("web", "beside", "never"):
        host.kill_all_of(name)
    del host.minirt.program[: len(host.inside())]
    with own_host() as netns:
        after = Host(host.minirt, netns)
        after.begin()
        try:
            for name in ("web", "beside", "always"):  # one with `always` is started though it was stopped, as by dockerd
                after.runs_anew(name, 0)
            assert "root" in until(lambda: after.here("wget", "-qO-", "http://127.0.0.1:8080/passwd"))
            spaces = {os.readlink(f"/proc/{after.state(name)['Pid']}/ns/net") for name in ("web", "beside")}
            assert len(spaces) == 1
            assert {name: after.state(name)["Status"] for name in ("never", "stopped", "new")} == {
                "never": "exited", "stopped": "exited", "new": "created"}  # fmt: skip
            assert after.state("never")["ExitCode"] == 255
        finally:
            after.end()
            after.minirt("rm", "-f", *after.minirt("ps", "-aq").stdout.split())


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.long), pytest.param(3, marks=pytest.mark.long)])
def test_kills_in_any_order_end_with_a_container_that_runs(host: Host, seed: int) -> None:
    chosen = random.Random(seed)
    host.begin()
    host.run("unless-stopped")
    for _ in range(6):
        pid = host.runs_anew("box", 0)
        what = chosen.choice(("program", "monitor", "both", "server"))
        if what in ("monitor", "both"):
            try:
                killed(host.monitor(pid))
            except (AssertionError, FileNotFoundError):
                pass  # it was killed before
        if what in ("program", "both"):
            killed(pid)
            host.runs_anew("box", pid)
        if what == "server":
            host.end(signal.SIGKILL)
            host.begin()
    host.minirt.good("stop", "-t", "0", "box")
    assert host.state("box")["Status"] == "exited"
