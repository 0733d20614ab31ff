"""Networks for a user without root: pasta, with the same words as root's."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Minirt
from network_host import NEEDS, Host, host, serve  # noqa: F401

pytestmark = [*NEEDS, pytest.mark.skipif(shutil.which("pasta") is None, reason="no pasta on this machine (apt-get install passt)")]
NOBODY = 65534
# A mount namespace in which anyone may open /dev/net/tun, as on most machines; then no right of root's.
ENTER = f"mount -t tmpfs none /dev/net && mknod -m 666 /dev/net/tun c 10 200 && exec setpriv --reuid={NOBODY} --regid={NOBODY} " \
        "--clear-groups --bounding-set=-all -- \"$@\""  # fmt: skip


@pytest.fixture
def user(host: Host, image_store: Path) -> Iterator[Host]:
    """The same host, and `minirt` in it as a user without root, with what he keeps in a directory of his own."""
    root = Path(tempfile.mkdtemp(prefix="minirt-user-", dir="/var/tmp"))
    os.chown(root, NOBODY, NOBODY)
    made = Host(Minirt(root), host.host, host.world)
    made.minirt.program[3:3] = ["unshare", "-m", "sh", "-ec", ENTER, "sh"]
    made.minirt.env |= {"HOME": str(root), "XDG_RUNTIME_DIR": str(root)}
    host.run(host.host, "ip", "route", "add", "default", "via", "192.0.2.2")  # pasta takes the interface that leads out
    try:
        yield made
        for id in made.good("ps", "-aq").split():
            made.minirt("rm", "-f", id)
        assert pastas(root) == []
    finally:
        subprocess.run(["chmod", "-R", "u+rwX", root], check=False)
        shutil.rmtree(root)


def pastas(root: Path) -> list[int]:
    """The processes of pasta that were started from there, and live."""
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if b"pasta" in words and os.fsencode(root) in words:
            found.append(int(pid))
    return found


def test_a_user_has_a_network_with_the_host_s_addresses(user: Host) -> None:
    out = user.good("run", "--rm", "--network", "bridge", "busybox", "sh", "-c", "id -u; ip -o -4 addr; ip route")
    assert out.startswith("0\n") and "inet 192.0.2.1/24" in out and "default via 192.0.2.2" in out
    assert user.links() == set() and pastas(user.minirt.root) == []


def test_a_published_port_is_reached_and_given_back(user: Host) -> None:
    serve(user, "--name", "web", "--hostname", "web", "-p", "8080:80")
    assert len(pastas(user.minirt.root)) == 1
    assert user.ask(user.world, "192.0.2.1", 8080) == user.ask(user.host, "127.0.0.1", 8080) == "web"
    assert user.good("port", "web").startswith("80/tcp -> 0.0.0.0:8080\n")
    done = user.minirt("run", "-d", "-p", "8080:80", "busybox", "true")
    assert done.returncode == 125 and "port 8080" in done.stderr and done.stderr.count("\n") == 1
    user.good("stop", "-t", "0", "web")
    assert pastas(user.minirt.root) == [] and "refused" in user.ask(user.host, "127.0.0.1", 8080)
    user.good("start", "web")
    assert user.ask(user.world, "192.0.2.1", 8080) == "web"


def test_a_container_does_not_reach_the_host_s_own_loopback(user: Host) -> None:
    code = "import socket; s=socket.create_server(('127.0.0.1', 7000)); print(flush=True); s.accept()"
    with subprocess.Popen([*user.at(user.host), "python3", "-c", code], stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout and server.stdout.readline()
            script = "for a in 127.0.0.1 192.0.2.2; do timeout 3 nc $a 7000 </dev/null && echo reached; done; true"
            assert "reached" not in user.good("run", "--rm", "--network", "bridge", "busybox", "sh", "-c", script)
        finally:
            server.kill()


def test_what_dies_with_its_monitor_is_put_right_by_the_next_command(user: Host) -> None:
    user.good("run", "-d", "--name", "box", "-p", "8080:80", "busybox", "sleep", "1000")
    (found,) = json.loads(user.good("inspect", "box"))
    pid = found["State"]["Pid"]
    monitor = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    for victim in (monitor, pid):
        os.kill(victim, signal.SIGKILL)
    until = time.monotonic() + 60
    while pastas(user.minirt.root) and time.monotonic() < until:
        user.good("ps")
    assert pastas(user.minirt.root) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [(("--network", "back"), "networks with names are root's"), (("-p", "80", "--ip", "10.0.0.1"), "without root"),
     (("--network", "bridge", "--network", "pasta"), "without root there is one")],
)  # fmt: skip
def test_what_is_root_s_is_refused_in_a_line(user: Host, words: tuple[str, ...], said: str) -> None:
    done = user.minirt("run", "--rm", *words, "busybox", "true")
    assert done.returncode == 125 and said in done.stderr and done.stderr.count("\n") == 1
