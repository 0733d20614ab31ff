"""`minirt serve` on a host of its own (a network namespace), and the docker command line that speaks to it."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from command import Minirt

__all__ = ["LIMIT", "Api", "api", "emptied", "until"]

LIMIT = 60  # s for one command


def until(fact: Any, seconds: float = 60) -> Any:
    """Wait until a fact is one, and return it."""
    end = time.monotonic() + seconds
    while not (found := fact()):
        assert time.monotonic() < end, f"{fact} has not become true"
        time.sleep(0.02)
    return found


class Socket(http.client.HTTPConnection):
    """HTTP over the server's Unix socket."""

    def __init__(self, path: str, limit: float = LIMIT) -> None:
        super().__init__("localhost", timeout=limit)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Api:
    """A server, and clients of it. `netns` is a process whose network namespace is the server's."""

    def __init__(self, minirt: Minirt, netns: int) -> None:
        self.minirt = minirt
        self.netns = netns
        self.path = str(minirt.root / "docker.sock")
        self.env = {**os.environ, "DOCKER_HOST": f"unix://{self.path}", "DOCKER_CONFIG": str(minirt.root), "DOCKER_BUILDKIT": "0"}
        self.env.pop("DOCKER_CONTEXT", None)
        minirt.program[:0] = self.inside()
        self.process: subprocess.Popen[str] | None = None

    def inside(self) -> list[str]:
        """Return the words that run a command on the server's host."""
        return ["nsenter", f"--net=/proc/{self.netns}/ns/net", "--"]

    def here(self, *words: object) -> str:
        """Run a command on the server's host."""
        done = subprocess.run([*self.inside(), *map(str, words)], capture_output=True, text=True, timeout=LIMIT)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def begin(self, *options: str) -> None:
        """Start the server, and wait until it listens."""
        log = open(self.minirt.root / "serve.log", "a")
        self.process = self.minirt.start("serve", "-H", f"unix://{self.path}", *options, stderr=log)
        assert self.process.stdout and "serving" in self.process.stdout.readline(), (self.minirt.root / "serve.log").read_text()

    def end(self, number: int = signal.SIGTERM) -> int:
        """End the server; return its exit status."""
        assert self.process
        self.process.send_signal(number)
        return self.process.wait(LIMIT)

    def docker(self, *words: object, input: str = "", **more: Any) -> subprocess.CompletedProcess[str]:
        """Run the docker command line to its end."""
        command = ["docker", *map(str, words)]
        return subprocess.run(command, input=input, capture_output=True, text=True, timeout=LIMIT, env=self.env, **more)

    def good(self, *words: object, **more: Any) -> str:
        """Run it, which must succeed; return what it printed."""
        done = self.docker(*words, **more)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout.strip()

    def start(self, *words: object, **more: Any) -> subprocess.Popen[str]:
        """Start the docker command line; the caller ends it."""
        pipe = subprocess.PIPE
        more = {"stdin": subprocess.DEVNULL, "stdout": pipe, "stderr": pipe, "text": True, **more}
        return subprocess.Popen(["docker", *map(str, words)], env=self.env, **more)

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        """Send one request; return the status and what the body says, as JSON if it is."""
        connection = Socket(self.path)
        data = json.dumps(body) if isinstance(body, dict) else body
        connection.request(method, path, data, {"Content-Type": "application/json", **(headers or {})})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        try:
            return answer.status, json.loads(text)
        except ValueError:
            return answer.status, text

    def inspect(self, name: str) -> dict[str, Any]:
        """Return what the server knows of a container."""
        (found,) = json.loads(self.good("inspect", name))
        return found

    def pid(self, name: str) -> int:
        """Return the host's number of a container's first process."""
        return int(self.inspect(name)["State"]["Pid"])


@contextmanager
def own_host() -> Iterator[int]:
    """Give a process that is alone in a network namespace with a loopback interface."""
    sleeper = subprocess.Popen(["unshare", "-n", "sleep", "10000"])
    try:
        until(lambda: os.readlink(f"/proc/{sleeper.pid}/ns/net") != os.readlink("/proc/self/ns/net"))
        subprocess.run(["nsenter", f"--net=/proc/{sleeper.pid}/ns/net", "ip", "link", "set", "lo", "up"], check=True, timeout=LIMIT)
        yield sleeper.pid
    finally:
        sleeper.kill()
        sleeper.wait()


@pytest.fixture(scope="module")
def api(image_store: Path) -> Iterator[Api]:
    """A server with the default image, for the tests of a file."""
    if shutil.which("docker") is None or os.geteuid() != 0:
        pytest.skip("the docker command line is not installed, or this is not root")
    root = Path(tempfile.mkdtemp(prefix="ma-", dir="/var/tmp"))
    root.chmod(0o755)
    (root / "lib").mkdir()
    subprocess.run(["cp", "-a", "--reflink=auto", image_store / "lib" / "image", root / "lib" / "image"], check=True, timeout=LIMIT)
    (root / "cache").symlink_to(image_store / "cache")
    with own_host() as netns:
        made = Api(Minirt(root), netns)
        made.begin()
        try:
            yield made
        finally:
            made.end()
            for id in made.minirt("ps", "-aq").stdout.split():
                made.minirt("rm", "-f", id)
            shutil.rmtree(root)


@pytest.fixture(autouse=True)
def emptied(api: Api) -> Iterator[None]:
    """No container is left for the next test, and none of this one's is lost."""
    yield
    for id in api.minirt("ps", "-aq").stdout.split():
        assert api.minirt("rm", "-f", id).returncode == 0
    assert api.minirt.containers == []
