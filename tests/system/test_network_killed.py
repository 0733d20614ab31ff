"""What is left of networks when somebody is killed, and who puts it right: whoever comes next."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from network_host import NEEDS, Host, host, serve  # noqa: F401

pytestmark = NEEDS


def rows(host: Host, table: str) -> list[tuple[object, ...]]:
    """What the database says."""
    base = sqlite3.connect(host.minirt.root / "lib" / "network.sqlite")
    try:
        return base.execute(f"SELECT container FROM {table}").fetchall()
    finally:
        base.close()


def pairs(host: Host) -> set[str]:
    """The ends of pairs that the kernel has."""
    return {name for name in host.links() if name.startswith("mv")}


def keepers(host: Host) -> list[str]:
    """The processes that answer names, or lead ports of [::1] on, on this host."""
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            words = open(f"/proc/{pid}/cmdline", "rb").read().split(b"\0")
            here = os.readlink(f"/proc/{pid}/ns/net") == os.readlink(f"/proc/{host.host}/ns/net")
            if here and b"minirt.network.keeping" in words:
                found.append(pid)
        except OSError:
            continue
    return found


def nothing_is_left(host: Host) -> None:
    assert rows(host, "endpoint") == [] and rows(host, "port") == []
    assert "dnat ip to" not in host.table() and "dnat ip6 to" not in host.table()
    assert pairs(host) == set() and keepers(host) == []


def kill_after(process: subprocess.Popen[str], seconds: float) -> None:
    """Kill a command and what it has started, if it has not ended before."""
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def how_long(host: Host, *words: str) -> float:
    begin = time.monotonic()
    host.good(*words)
    return time.monotonic() - begin


def test_a_run_that_is_killed_at_any_moment_leaves_nothing_for_long(host: Host) -> None:
    host.good("network", "create", "--ipv6", "back")
    words = ("run", "--rm", "--network", "back", "--network", "bridge", "-p", "8080:80", "busybox", "true")
    whole = max(how_long(host, *words) for _ in range(2))
    random.seed(7)
    for _ in range(14):
        process = host.minirt.start(*words, start_new_session=True)
        kill_after(process, random.random() * whole * 1.2)
    host.good("gc")
    host.good("run", "--rm", "--network", "bridge", "busybox", "true")
    host.good("gc")
    nothing_is_left(host)


def test_connects_and_disconnects_that_are_killed_are_put_right_by_the_next(host: Host) -> None:
    host.good("network", "create", "back")
    host.good("run", "-d", "--name", "box", "--network", "bridge", "busybox", "sleep", "1000")
    whole = how_long(host, "network", "connect", "back", "box") + how_long(host, "network", "disconnect", "back", "box")
    random.seed(8)
    for number in range(16):
        verb = ("connect", "disconnect")[number % 2]
        process = host.minirt.start("network", verb, "back", "box", start_new_session=True)
        kill_after(process, random.random() * whole * 0.7)
    host.good("run", "--rm", "--network", "bridge", "busybox", "true")
    inside = host.good("exec", "box", "ls", "/sys/class/net").split()
    assert len(rows(host, "endpoint")) == len(pairs(host)) == len(inside) - 1  # but for lo
    host.minirt("network", "disconnect", "back", "box")
    host.good("network", "connect", "back", "box")
    assert host.good("exec", "box", "ls", "/sys/class/net").split() == ["eth0", "eth1", "lo"]
    host.good("rm", "-f", "box")
    nothing_is_left(host)


@pytest.mark.parametrize("command", [("ps",), ("run", "--rm", "--network", "bridge", "busybox", "true")], ids=["ps", "run"])
def test_a_container_that_dies_with_its_monitor_gives_back_what_it_had(host: Host, command: tuple[str, ...]) -> None:
    host.good("network", "create", "back")
    serve(host, "--name", "web", "--network", "back", "-p", "8080:80")
    (found,) = json.loads(host.good("inspect", "web"))
    pid = found["State"]["Pid"]
    with open(f"/proc/{pid}/stat") as file:
        monitor = int(file.read().rpartition(")")[2].split()[1])
    assert "monitor" in open(f"/proc/{monitor}/comm").read()
    os.kill(monitor, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    while pairs(host):  # the kernel takes them away with the namespace
        time.sleep(0.01)
    host.good(*command)
    nothing_is_left(host)


@pytest.mark.parametrize(
    ("lives", "clients"), [(24, 4), pytest.param(300, 8, marks=[pytest.mark.long, pytest.mark.timeout(1800)])]
)
def test_many_at_once_come_go_and_are_killed(host: Host, lives: int, clients: int) -> None:
    """Half of them are killed at any moment: in the end nothing is left, and all that was let live worked."""
    host.good("network", "create", "--ipv6", "back")
    words = ("run", "--rm", "--network", "back", "-p", "80", "busybox", "ping", "-c", "1", "10.89.0.1")
    whole = how_long(host, *words)
    random.seed(9)
    moments = [random.random() * whole * 3 if number % 2 else None for number in range(lives)]

    def one(moment: float | None) -> None:
        if moment is None:
            host.good(*words)
        else:
            kill_after(host.minirt.start(*words, start_new_session=True), moment)

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(one, moments))
    host.good("gc")
    host.good("network", "rm", "back")
    nothing_is_left(host)
