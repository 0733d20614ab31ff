"""Networks for a user without root: pasta, with the same words as root's."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import Minirt
from network_host import NEEDS, Host, answering, get, host, serve  # noqa: F401

pytestmark = [*NEEDS, pytest.mark.skipif(shutil.which("pasta") is None, reason="no pasta on this machine (apt-get install passt)")]
NOBODY = 65534
# A mount namespace in which anyone may open /dev/net/tun, as on most machines; then no right of root's.
ENTER = f"mount -t tmpfs none /dev/net && mknod -m 666 /dev/net/tun c 10 200 && exec setpriv --reuid={NOBODY} --regid={NOBODY} " \
        "--clear-groups --bounding-set=-all -- \"$@\""  # fmt: skip

# The same, and a range of subordinate ids, which newuidmap (that has the right) gives him.
RANGE = f"echo {NOBODY}:200000:65536 >/run/subids; mount --bind /run/subids /etc/subuid; mount --bind /run/subids /etc/subgid; "


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
    [(("--network", "back"), "no network 'back'"), (("-p", "80", "--ip", "10.0.0.1"), "without root"),
     (("--network", "bridge", "--network", "pasta"), "goes with no other")],
)  # fmt: skip
def test_what_is_root_s_is_refused_in_a_line(user: Host, words: tuple[str, ...], said: str) -> None:
    done = user.minirt("run", "--rm", *words, "busybox", "true")
    assert done.returncode == 125 and said in done.stderr and done.stderr.count("\n") == 1


# -- networks with names


def held(root: Path) -> list[int]:
    """The processes of the user's networks: who holds the namespace, who answers names, who leads ports."""
    found = []
    for path in (root / "network").glob("*") if (root / "network").is_dir() else ():
        if path.is_file() and (text := path.read_text()).isdecimal():
            found.append(int(text))
    return found


@pytest.fixture
def back(user: Host) -> Iterator[Host]:
    """The user's host, with a network of his."""
    user.good("network", "create", "back")
    yield user
    for id in user.good("ps", "-aq").split():
        user.good("rm", "-f", id)
    for network in user.good("network", "ls", "-q", "--filter", "type=custom").split():
        user.good("network", "rm", network)
    assert held(user.minirt.root / "run") == [] and pastas(user.minirt.root) == []


def test_containers_of_a_user_reach_each_other_by_name_and_the_world(back: Host) -> None:
    serve(back, "--name", "web", "--hostname", "web", "--network", "back", "--network-alias", "www")
    for name in ("web", "www"):
        assert back.good("run", "--rm", "--network", "back", "busybox", *get(name)) == "web\n"
    # Its input stays open: of a connection that the guest half closes first, Debian 12's pasta loses the end, and sends on and on
    # what it had sent. And not as pid 1, which TERM does not end.
    script = "mkfifo /f; timeout 5 nc 192.0.2.2 7000 0<>/f; true"
    with answering(back.world):
        assert back.good("run", "--rm", "--network", "back", "busybox", "sh", "-c", script) == "192.0.2.1"
    out = back.good("exec", "web", "sh", "-c", "ip -o -4 addr show eth0; ip route")
    assert " 10.89.0.2/24 " in out and "default via 10.89.0.1" in out
    assert back.links() == set(), "nothing of it is on the host"


def test_networks_of_a_user_are_apart_and_an_internal_one_leads_nowhere(back: Host) -> None:
    back.good("network", "create", "--internal", "shut")
    serve(back, "--name", "web", "--hostname", "web", "--network", "back")
    serve(back, "--name", "safe", "--hostname", "safe", "--network", "shut")
    safe = back.address("safe", "shut")
    script = f"timeout 3 wget -qO- http://{safe}/hostname || echo no; nslookup safe | grep -c {safe}"
    assert back.good("run", "--rm", "--network", "back", "busybox", "sh", "-c", f"{script}; true") == "no\n0\n"
    assert back.good("run", "--rm", "--network", "shut", "busybox", *get("safe")) == "safe\n"
    with answering(back.world):
        script = "timeout 3 nc 192.0.2.2 7000 </dev/null; true"
        assert back.good("run", "--rm", "--network", "shut", "busybox", "sh", "-c", script) == ""


def test_a_user_s_published_ports_are_those_that_were_asked_for(back: Host) -> None:
    serve(back, "--name", "web", "--hostname", "web", "--network", "back", "-p", "8080:80", "-p", "127.0.0.1:9000:80")
    assert back.ask(back.world, "192.0.2.1", 8080) == back.ask(back.host, "127.0.0.1", 8080) == "web"
    assert back.ask(back.host, "[::1]", 8080) == back.ask(back.host, "127.0.0.1", 9000) == "web"
    assert "refused" in back.ask(back.world, "192.0.2.1", 9000)
    done = back.minirt("run", "-d", "--network", "back", "-p", "8080:80", "busybox", "true")
    assert done.returncode == 125 and "port 8080" in done.stderr and done.stderr.count("\n") == 1
    back.good("stop", "-t", "0", "web")
    assert "refused" in back.ask(back.host, "127.0.0.1", 8080) and held(back.minirt.root / "run") == []
    back.good("start", "web")
    assert back.ask(back.world, "192.0.2.1", 8080) == "web"


def test_datagrams_to_a_published_port_are_answered(back: Host) -> None:
    back.good("run", "-d", "--name", "udp", "--network", "back", "-p", "5300:53/udp", "busybox", "sleep", "1000")
    (found,) = json.loads(back.good("inspect", "udp"))
    echo = "import socket; s=socket.socket(2, 2); s.bind(('', 53)); print(flush=True)\nwhile True: s.sendto(*s.recvfrom(99))"
    script = "import socket; s=socket.socket(2, 2); s.settimeout(20); s.sendto(b'hi', ('192.0.2.1', 5300)); print(s.recv(9))"
    with answering(found["State"]["Pid"], echo):
        assert back.run(back.world, sys.executable, "-c", script) == "b'hi'\n"


def test_a_user_s_network_comes_and_goes_while_a_container_runs(back: Host) -> None:
    serve(back, "--name", "web", "--hostname", "web", "--network", "back")
    back.good("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    back.good("network", "connect", "--ip", "10.89.0.77", "back", "box")
    assert "10.89.0.77/24" in back.good("exec", "box", "ip", "-o", "addr", "show", "eth0")
    assert back.good("exec", "box", *get("web")) == "web\n"
    back.good("network", "disconnect", "back", "box")
    assert "eth0" not in back.good("exec", "box", "ip", "link")
    done = back.minirt("network", "rm", "back")
    assert done.returncode == 1 and "in use by web" in done.stderr


def test_whoever_of_a_user_s_network_is_killed_the_next_start_puts_it_right(back: Host) -> None:
    serve(back, "--name", "web", "--hostname", "web", "--network", "back", "-p", "8080:80")
    until = time.monotonic() + 60
    while len(held(back.minirt.root / "run")) < 3 and time.monotonic() < until:  # each writes it itself
        time.sleep(0.05)
    processes = [*held(back.minirt.root / "run"), *pastas(back.minirt.root)]
    assert len(processes) == 4
    for pid in processes:
        os.kill(pid, signal.SIGKILL)
    back.good("restart", "-t", "0", "web")
    assert back.ask(back.world, "192.0.2.1", 8080) == "web"
    assert back.good("run", "--rm", "--network", "back", "busybox", *get("web")) == "web\n"


@pytest.mark.skipif(shutil.which("newuidmap") is None, reason="no newuidmap on this machine (apt-get install uidmap)")
def test_who_has_subordinate_ids_has_networks_too(back: Host) -> None:
    place = back.minirt.program.index(ENTER)
    private = "mount -t tmpfs none /run; " + RANGE
    back.minirt.program[place] = private + ENTER.replace(" --bounding-set=-all", "")
    ids = ("--uidmap", f"0:{NOBODY}:1", "--uidmap", "1:200000:1000", "--gidmap", f"0:{NOBODY}:1", "--gidmap", "1:200000:1000")
    serve(back, *ids, "--name", "web", "--hostname", "web", "--network", "back", "-p", "8080:80")
    assert back.good("exec", "web", "cat", "/proc/self/uid_map").split() == ["0", f"{NOBODY}", "1", "1", "200000", "1000"]
    assert back.good("run", "--rm", *ids, "--network", "back", "busybox", *get("web")) == "web\n"
    assert back.ask(back.world, "192.0.2.1", 8080) == "web"


def test_what_is_root_s_of_networks_is_refused_in_a_line(back: Host) -> None:
    for words in (["create", "-d", "macvlan", "-o", "parent=out", "lan"], ["connect", "back", "box"]):
        if words[0] == "connect":
            back.good("create", "--name", "box", "--network", "bridge", "busybox", "true")
        done = back.minirt("network", *words)
        assert done.returncode == (125 if words[0] == "create" else 1) and "without root" in done.stderr
        assert done.stderr.count("\n") == 1
