"""Networks of containers, on a host of their own: a network namespace that a test makes, with another behind it as the world."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import Minirt

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="making network interfaces takes root"),
    pytest.mark.skipif(shutil.which("nft") is None, reason="no nft on this machine (apt-get install nftables)"),
]
ASK = "import sys, urllib.request as r; print(r.urlopen(f'http://{sys.argv[1]}:{sys.argv[2]}/hostname', timeout=5).read().decode())"
# Says to each who comes which address he has.
SERVE = "import socket; s=socket.create_server(('0.0.0.0', 7000)); print(flush=True)\n" \
        "while True: c, a = s.accept(); c.sendall(a[0].encode()); c.close()"  # fmt: skip


class Host:
    """A host (a network namespace), the world that it has one interface to (another), and a minirt in it."""

    def __init__(self, minirt: Minirt, host: int, world: int) -> None:
        self.minirt = minirt
        self.host = host
        self.world = world
        minirt.program[:0] = self.at(host)

    @staticmethod
    def at(pid: int) -> list[str]:
        return ["nsenter", f"--net=/proc/{pid}/ns/net", "--"]

    def run(self, where: int, *words: str) -> str:
        return subprocess.run([*self.at(where), *words], capture_output=True, text=True, check=True, timeout=30).stdout

    def ask(self, where: int, address: str, port: int) -> str:
        """Return the host name that a web server says, or an error."""
        words = [*self.at(where), sys.executable, "-c", ASK, address, str(port)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=30)
        return done.stdout.strip() or done.stderr.strip().rpartition("\n")[2]

    def good(self, *words: object) -> str:
        done = self.minirt(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def address(self, name: str, network: str = "bridge") -> str:
        (found,) = json.loads(self.good("network", "inspect", network))
        return next(c["IPv4Address"].partition("/")[0] for c in found["Containers"].values() if c["Name"] == name)

    def links(self) -> set[str]:
        return {link["ifname"] for link in json.loads(self.run(self.host, "ip", "-j", "link"))} - {"lo", "out"}


@pytest.fixture
def host(minirt: Minirt) -> Iterator[Host]:
    sleepers = [subprocess.Popen(["unshare", "-n", "sleep", "1000"]) for _ in range(2)]
    try:
        for sleeper in sleepers:
            while os.readlink(f"/proc/{sleeper.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
                pass
        here, world = (sleeper.pid for sleeper in sleepers)
        made = Host(minirt, here, world)
        for words in (
            ["link", "add", "out", "type", "veth", "peer", "name", "in", "netns", str(world)],
            ["addr", "add", "192.0.2.1/24", "dev", "out"], ["link", "set", "out", "up"], ["link", "set", "lo", "up"],
        ):  # fmt: skip
            made.run(here, "ip", *words)
        for words in (["addr", "add", "192.0.2.2/24", "dev", "in"], ["link", "set", "in", "up"], ["link", "set", "lo", "up"]):
            made.run(world, "ip", *words)
        yield made
        for id in made.good("ps", "-aq").split():
            minirt("rm", "-f", id)
        made.good("network", "prune")
        assert made.links() == set() and "minirt" not in made.run(here, "nft", "list", "ruleset")
    finally:
        for sleeper in sleepers:
            sleeper.kill()
            sleeper.wait()



def serve(host: Host, *options: str) -> None:
    """A container with a web server that says its host name."""
    host.good("run", "-d", *options, "busybox", "httpd", "-f", "-p", "80", "-h", "/etc")


def get(address: str) -> list[str]:
    """Return the words that ask a web server for its host name."""
    return ["sh", "-c", f"timeout 5 wget -qO- http://{address}/hostname; exit $?"]  # not as pid 1, which TERM does not end


def test_a_container_has_an_address_and_a_way_out(host: Host) -> None:
    script = "ip -o -4 addr show eth0; ip route; cat /sys/class/net/eth0/address"
    out = host.good("run", "--rm", "--network", "bridge", "busybox", "sh", "-c", script)
    assert "inet 10.89.0.2/24" in out and "default via 10.89.0.1 dev eth0" in out and "02:42:0a:59:00:02" in out
    assert host.links() == {"minirt0"}


def test_what_goes_out_has_the_host_s_address(host: Host) -> None:
    with subprocess.Popen([*host.at(host.world), sys.executable, "-c", SERVE], stdout=subprocess.PIPE) as server:
        assert server.stdout and server.stdout.readline()
        said = host.good("run", "--rm", "--network", "bridge", "busybox", "nc", "192.0.2.2", "7000")
        server.kill()
    assert said == "192.0.2.1"


def test_a_published_port_is_reached_from_the_world_from_here_and_from_another_network(host: Host) -> None:
    serve(host, "--name", "web", "--hostname", "web", "-p", "8080:80")
    assert host.ask(host.world, "192.0.2.1", 8080) == "web"
    assert host.ask(host.host, "127.0.0.1", 8080) == "web"
    assert host.ask(host.host, "192.0.2.1", 8080) == "web"
    host.good("network", "create", "other")
    assert host.good("run", "--rm", "--network", "other", "busybox", *get("192.0.2.1:8080")) == "web\n"
    assert host.good("port", "web") == "80/tcp -> 0.0.0.0:8080\n"


def test_a_port_that_is_not_published_is_not_reached_from_the_world(host: Host) -> None:
    serve(host, "--name", "web", "--network", "bridge")
    address = host.address("web")
    host.run(host.world, "ip", "route", "add", "10.89.0.0/16", "via", "192.0.2.1")
    assert "timed out" in host.ask(host.world, address, 80)
    assert len(host.ask(host.host, address, 80)) == 12  # its host name: from the host itself it is


def test_containers_of_a_network_know_each_other_by_name_and_alias(host: Host) -> None:
    host.good("network", "create", "back")
    host.good("run", "-d", "--name", "first", "--network", "back", "busybox", "sleep", "1000")
    serve(host, "--name", "db", "--hostname", "db", "--network", "back", "--network-alias", "store")
    assert host.good("exec", "first", "sh", "-c", "wget -qO- db/hostname; wget -qO- store/hostname") == "db\ndb\n"
    host.good("rm", "-f", "db")
    assert "store" not in host.good("exec", "first", "cat", "/etc/hosts")


def test_networks_do_not_see_each_other(host: Host) -> None:
    for name in ("one", "two"):
        host.good("network", "create", name)
    serve(host, "--name", "db", "--network", "one")
    done = host.minirt("run", "--rm", "--network", "two", "busybox", *get(host.address("db", "one")))
    assert done.returncode != 0 and done.stdout == ""


def test_nothing_leaves_or_enters_an_internal_network(host: Host) -> None:
    host.good("network", "create", "--internal", "shut")
    assert "default" not in host.good("run", "--rm", "--network", "shut", "busybox", "ip", "route")
    serve(host, "--name", "db", "--hostname", "db", "--network", "shut")
    assert host.good("run", "--rm", "--network", "shut", "busybox", *get("db")) == "db\n"


def test_many_at_once_have_addresses_of_their_own(host: Host) -> None:
    host.good("run", "--rm", "busybox", "true")  # the image is there

    def one(_: int) -> str:
        return host.good("run", "--rm", "--network", "bridge", "busybox", "ip", "-o", "-4", "addr", "show", "eth0")

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(one, range(8)))) == 8


def test_a_network_comes_and_goes_while_it_runs(host: Host) -> None:
    host.good("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    host.good("network", "create", "late")
    host.good("network", "connect", "--ip", "10.89.0.77", "late", "box")
    assert "10.89.0.77/24" in host.good("exec", "box", "ip", "-o", "addr", "show", "eth0")
    host.good("network", "disconnect", "late", "box")
    assert "eth0" not in host.good("exec", "box", "ip", "link")


def test_two_may_share_one_network_namespace(host: Host) -> None:
    serve(host, "--name", "db", "--network", "bridge")
    assert len(host.good("run", "--rm", "--network", "container:db", "busybox", *get("127.0.0.1"))) == 13


def test_a_killed_minirt_leaves_nothing_that_gc_does_not_find(host: Host) -> None:
    process = host.minirt.start("run", "--network", "bridge", "busybox", "sleep", "1000")
    while not any(name.startswith("mv") for name in host.links()):
        assert process.poll() is None
    subprocess.run(["pkill", "-KILL", "-P", str(process.pid)], check=False)
    process.kill()
    process.wait()
    for id in host.good("ps", "-aq").split():
        host.minirt("rm", "-f", id)
    host.good("gc")
    assert not any(name.startswith("mv") for name in host.links())
    assert "dnat" not in host.run(host.host, "nft", "list", "ruleset").replace("ct status dnat", "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "--network", "nowhere", "busybox"), "no network 'nowhere'"),
        (("run", "-p", "http", "busybox"), "'http' is no port"),
        (("run", "-p", "80-82:80", "busybox"), "3 ports of the host for 1"),
        (("run", "--network", "host", "-p", "80", "busybox"), "nothing to publish"),
        (("run", "--network", "bridge", "--ip", "10.1.2.3", "busybox"), "the network has the subnet"),
        (("network", "create", "host"), "is none of host"),
        (("network", "create", "--subnet", "10.0.0.0/33", "x"), "--subnet 10.0.0.0/33"),
        (("network", "rm", "nowhere"), "no network 'nowhere'"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(host: Host, words: tuple[str, ...], said: str) -> None:
    done = host.minirt(*words)
    assert done.returncode == (125 if words[0] == "run" else 1 if words[1] == "rm" else done.returncode) != 0
    assert said in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert host.links() == set() and host.good("ps", "-aq") == ""


def test_a_port_that_is_taken_is_refused(host: Host) -> None:
    serve(host, "--name", "web", "-p", "8080:80")
    done = host.minirt("run", "-d", "-p", "8080:80", "busybox", "true")
    assert done.returncode == 125 and "is published by" in done.stderr
    with subprocess.Popen([*host.at(host.host), sys.executable, "-c", SERVE], stdout=subprocess.PIPE) as server:
        assert server.stdout and server.stdout.readline()
        done = host.minirt("run", "-d", "-p", "7000:80", "busybox", "true")
        server.kill()
    assert done.returncode == 125 and "Address already in use" in done.stderr
