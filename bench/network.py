"""Networks of minirt beside podman's (with crun): the same machine, one run, a network namespace of its own as the host.

    .venv/bin/python -m bench.network [--runs 20] [--seconds 3] [--format json]

    run, none       `run --rm --network none busybox true`
    run, bridge     the same with the default bridge, which is there already
    world           bytes through a published port, from another host (a network namespace with a veth pair to here)
    localhost       ... from this host, by 127.0.0.1

Programs and images are the same for both: busybox; iperf3 on either side, its server in the container's network namespace.
The two take turns, so that what else the machine does meets both. minirt is installed from a wheel into a virtual environment
of its own; podman runs with --privileged, as it needs CAP_SYS_RESOURCE to load its filter of devices, which a virtual machine's
root may not have; minirt loads its own.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.beside import able, install, once_more, parser, podman

PEERS = ("minirt", "podman")
PORTS = {"minirt": 9001, "podman": 9002}
OURS, WORLD = "198.51.100.1", "198.51.100.2"


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    words = parser("bench.network", __doc__, inside=True)
    words.add_argument("--runs", type=int, default=20, help="of each command (20)")
    words.add_argument("--seconds", type=int, default=3, help="of each of five pumps (3)")
    args = words.parse_args(argv)
    if args.inside:
        print(json.dumps(Bench(args.inside).measure(args.runs, args.seconds)))
        return 0
    if not able("podman", "crun", "iperf3", "busybox", "nft", "ip"):
        return 1
    with tempfile.TemporaryDirectory(prefix="mb-", dir="/var/tmp") as name:
        place = Path(name)
        install(place, "pyroute2", "dnslib")
        results = once_more("bench.network", place, "--runs", args.runs, "--seconds", args.seconds, network=True)
    show(results) if args.format == "table" else print(json.dumps(results, indent=2))
    return 0


class Bench:
    """Both engines, each with its image, on a host that is this network namespace.

    Args:
        place: a directory with the virtual environment.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        theirs, env = podman(place)
        self.env = {**os.environ, "MINIRT_ROOT": str(place / "minirt"), **env}
        self.command = {"minirt": [str(place / "venv/bin/minirt")], "podman": theirs}
        limits = ["--pids-limit=0", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "--privileged"]
        self.options: dict[str, list[str]] = {"minirt": [], "podman": limits}

    def run(self, peer: str, *words: str) -> str:
        """Run a command of an engine and return what it prints."""
        return subprocess.run([*self.command[peer], *words], env=self.env, check=True, text=True, stdout=subprocess.PIPE).stdout

    def measure(self, runs: int, seconds: int) -> dict[str, Any]:
        """Return all figures."""
        self.give_image()
        results: dict[str, Any] = {"load": os.getloadavg()[0]}
        for network in ("none", "bridge"):
            results[f"run, {network}"] = self.lives(network, runs)
        with self.world() as world, self.servers():
            results["world"] = pump(["nsenter", f"--net=/proc/{world}/ns/net", "--"], OURS, seconds)
            results["localhost"] = pump([], "127.0.0.1", seconds)
        self.run("minirt", "network", "rm", "bridge")
        return results

    def give_image(self) -> None:
        """Give podman the image that minirt makes of the distribution's busybox."""
        self.run("minirt", "run", "--rm", "busybox", "true")
        busybox = shutil.which("busybox")
        assert busybox
        with tarfile.open(self.place / "busybox.tar", "w") as archive:
            archive.add(busybox, "bin/busybox")
            for name in ("true", "sleep"):
                link = tarfile.TarInfo(f"bin/{name}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                archive.addfile(link)
        self.run("podman", "import", "-q", str(self.place / "busybox.tar"), "busybox")

    def lives(self, network: str, runs: int) -> dict[str, dict[str, float]]:
        """Return milliseconds of a whole life, by engine."""
        times: dict[str, list[float]] = {peer: [] for peer in PEERS}
        for number in range(runs + 1):
            for peer in PEERS:
                begin = time.perf_counter()
                self.run(peer, "run", "--rm", "--network", network, *self.options[peer], "busybox", "true")
                if number:  # the first one makes the bridge
                    times[peer].append((time.perf_counter() - begin) * 1000)
        return {peer: {"median": statistics.median(values), "minimum": min(values)} for peer, values in times.items()}

    @contextmanager
    def world(self) -> Iterator[int]:
        """Another host on our wire; gives the process that it is the network namespace of."""
        with subprocess.Popen(["unshare", "-n", "sleep", "10000"]) as sleeper:
            try:
                while os.readlink(f"/proc/{sleeper.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
                    time.sleep(0.01)
                enter = ["nsenter", f"--net=/proc/{sleeper.pid}/ns/net", "--"]
                for words in (
                    ["ip", "link", "set", "lo", "up"],
                    ["ip", "link", "add", "out", "type", "veth", "peer", "name", "in", "netns", str(sleeper.pid)],
                    ["ip", "addr", "add", f"{OURS}/24", "dev", "out"], ["ip", "link", "set", "out", "up"],
                    [*enter, "ip", "addr", "add", f"{WORLD}/24", "dev", "in"], [*enter, "ip", "link", "set", "in", "up"],
                ):  # fmt: skip
                    subprocess.run(words, check=True)
                yield sleeper.pid
            finally:
                sleeper.kill()

    @contextmanager
    def servers(self) -> Iterator[None]:
        """A container of each engine with a published port, and iperf3 in its network namespace."""
        servers: list[subprocess.Popen[bytes]] = []
        try:
            for peer in PEERS:
                publish = f"{PORTS[peer]}:5201"
                self.run(peer, "run", "-d", "--name", "pump", "--network", "bridge", "-p", publish, *self.options[peer],
                         "busybox", "sleep", "10000")  # fmt: skip
                (found,) = json.loads(self.run(peer, "inspect", "pump"))
                enter = ["nsenter", f"--net=/proc/{found['State']['Pid']}/ns/net", "--"]
                servers.append(subprocess.Popen([*enter, "iperf3", "-s"], stdout=subprocess.DEVNULL))
                while not subprocess.run([*enter, "ss", "-Hltn", "sport = 5201"], capture_output=True, check=True).stdout:
                    time.sleep(0.01)
            yield
        finally:
            for server in servers:
                server.kill()
                server.wait()
            for peer in PEERS:
                self.run(peer, "kill", "-s", "KILL", "pump")
                self.run(peer, "rm", "-f", "pump")


def pump(enter: list[str], address: str, seconds: int) -> dict[str, dict[str, float]]:
    """Return gigabits a second through each engine's port."""
    rates: dict[str, list[float]] = {peer: [] for peer in PEERS}
    for _ in range(5):
        for peer in PEERS:
            words = [*enter, "iperf3", "-c", address, "-p", str(PORTS[peer]), "-t", str(seconds), "-J"]
            done = subprocess.run(words, capture_output=True, text=True, check=True)
            rates[peer].append(json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"] / 1e9)
    return {peer: {"median": statistics.median(values), "maximum": max(values)} for peer, values in rates.items()}


def show(results: dict[str, Any]) -> None:
    """Print a table."""
    print(f"{'':14}{'minirt':>10}{'podman':>10}{'ratio':>8}    median (load {results.pop('load'):.1f})")
    for name, row in results.items():
        ours, theirs = (row[peer]["median"] for peer in PEERS)
        unit = "ms" if name.startswith("run") else "Gbit/s"
        print(f"{name:14}{ours:10.1f}{theirs:10.1f}{ours / theirs:8.2f}    {unit}")


if __name__ == "__main__":
    sys.exit(main())
