"""A host of its own for networks of containers: a network namespace that a test makes, with another behind it as the world.

Not a conftest: there is one module of that name to import from (tests/conftest.py).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from command import Minirt

__all__ = ["NEEDS", "Host", "answering", "get", "host", "serve"]

NEEDS = [
    pytest.mark.skipif(os.geteuid() != 0, reason="making network interfaces takes root"),
    pytest.mark.skipif(shutil.which("nft") is None, reason="no nft on this machine (apt-get install nftables)"),
]
ASK = "import sys, urllib.request as r; print(r.urlopen(f'http://{sys.argv[1]}:{sys.argv[2]}/hostname', timeout=5).read().decode())"
# Says to each who comes which address he has.
SERVE = "import socket; s=socket.create_server(('::', 7000), family=10, dualstack_ipv6=True); print(flush=True)\n" \
        "while True: c, a = s.accept(); c.sendall(a[0].removeprefix('::ffff:').encode()); c.close()"  # fmt: skip


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

    def table(self) -> str:
        """Return the rules of ours that the kernel has."""
        tables = [line.split()[-1] for line in self.run(self.host, "nft", "list", "tables").splitlines() if " minirt" in line]
        return "".join(self.run(self.host, "nft", "list", "table", "inet", name) for name in tables)

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
        made.run(here, "ip", "link", "add", "out", "type", "veth", "peer", "name", "in", "netns", str(world))
        for where, link, number in ((here, "out", 1), (world, "in", 2)):
            for words in (
                ["addr", "add", f"192.0.2.{number}/24", "dev", link], ["addr", "add", f"fd00:2::{number}/64", "dev", link, "nodad"],
                ["link", "set", link, "up"], ["link", "set", "lo", "up"],
            ):  # fmt: skip
                made.run(where, "ip", *words)
        yield made
        for id in made.good("ps", "-aq").split():
            minirt("rm", "-f", id)
        for network in map(json.loads, made.good("network", "ls", "--format", "json").splitlines()):
            if network["Name"] not in ("host", "none"):
                made.good("network", "rm", network["Name"])
        assert made.links() == set() and "minirt" not in made.run(here, "nft", "list", "ruleset")
    finally:
        for sleeper in sleepers:
            sleeper.kill()
            sleeper.wait()


@contextmanager
def answering(where: int, code: str = SERVE) -> Iterator[None]:
    """A program of Python in the network namespace of a process, from when it prints a line to the end of the block."""
    with subprocess.Popen([*Host.at(where), sys.executable, "-c", code], stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout and server.stdout.readline()
            yield
        finally:
            server.kill()


def serve(host: Host, *options: str) -> None:
    """A container with a web server that says its host name."""
    host.good("run", "-d", *options, "busybox", "httpd", "-f", "-p", "80", "-h", "/etc")


def get(address: str) -> list[str]:
    """Return the words that ask a web server for its host name."""
    return ["sh", "-c", f"timeout 5 wget -qO- http://{address}/hostname; exit $?"]  # not as pid 1, which TERM does not end
