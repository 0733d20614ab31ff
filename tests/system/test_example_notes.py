"""The worked example, examples/notes: its page is replayed as it stands, and what it says is asked of kernel and services."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from api_server import Api
from command import Minirt
from debian_root import MIRROR
from test_documents import TOP, environment, fences, matches

LIMIT = 120.0  # seconds that something may take on a busy machine
PAGE = "examples/notes/README.md"
pytestmark = [
    pytest.mark.root,
    pytest.mark.long,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(os.geteuid() != 0, reason="bridges need root"),
    pytest.mark.skipif(not shutil.which("nft"), reason="nft is not installed"),
    pytest.mark.skipif(not shutil.which("mmdebstrap"), reason="mmdebstrap is not installed"),
]


def commands() -> list[tuple[str, str]]:
    """The page's commands, each with what it is said to print."""
    return [pair for body in fences(PAGE, "sh run") for pair in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", body, re.M)]


@pytest.fixture(scope="module")
def engine() -> Iterator[Minirt]:
    """A minirt with the example's image. What mmdebstrap makes is kept for the next time, outside the tree."""
    root = Path(tempfile.mkdtemp(prefix="minirt-notes-", dir="/var/tmp"))
    root.chmod(0o755)
    kept = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minirt" / "bootstrap"
    kept.mkdir(parents=True, exist_ok=True)
    (root / "cache").mkdir()
    (root / "cache" / "bootstrap").symlink_to(kept)
    minirt = Minirt(root)
    (bootstrap,) = [words for words, _ in commands() if words.startswith("minirt image bootstrap")]
    words = [*bootstrap.split()[1:], *(["--mirror", MIRROR] if "LAB_MIRROR" in os.environ else [])]
    made = subprocess.run([*minirt.program, *words], env=minirt.env, capture_output=True, text=True, timeout=900)
    probe = ["curl", "-sfI", "-m", "10", f"{MIRROR}/dists/bookworm/InRelease"]
    if made.returncode and subprocess.run(probe, capture_output=True).returncode:
        pytest.skip(f"{MIRROR} cannot be reached")
    assert made.returncode == 0, made.stderr
    yield minirt
    shutil.rmtree(root)


class Notes:
    """A copy of the example, and its port."""

    def __init__(self, minirt: Minirt, path: Path) -> None:
        self.minirt, self.path = minirt, path
        shutil.copytree(TOP / "examples" / "notes", path)
        with closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.env = {**minirt.env, "PORT": str(self.port)}

    def compose(self, *words: str) -> str:
        command = [*self.minirt.program, "compose", *words]
        done = subprocess.run(command, cwd=self.path, env=self.env, capture_output=True, text=True, timeout=300,
                              stdin=subprocess.DEVNULL)  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def ask(self, note: str = "") -> str:
        data = note.encode() or None
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/notes", data=data, timeout=LIMIT) as answer:
            return answer.read().decode().strip()

    def answers(self) -> None:
        """Wait until it does: a service that begins anew is not there at once."""
        end = time.monotonic() + LIMIT
        while True:
            try:
                return print(self.ask())
            except (urllib.error.URLError, OSError) as error:
                assert time.monotonic() < end, error
                time.sleep(0.2)

    def state(self, service: str) -> tuple[int, str]:
        """A service's pid, and when it began."""
        text = self.minirt.good("inspect", "-f", "{{.State.Pid}} {{.State.StartedAt}}", f"notes-{service}-1")
        return int(text.split()[0]), text.split()[1]


@pytest.fixture
def notes(engine: Minirt, tmp_path: Path) -> Iterator[Notes]:
    place = Notes(engine, tmp_path / "notes")
    yield place
    place.compose("down", "--volumes")
    assert engine.good("ps", "-aq") == "" and engine.good("volume", "ls", "-q") == ""


def test_the_page_says_what_happens(notes: Notes) -> None:
    mark = "---- end of a command ----"
    pairs = [(words.replace("localhost:8080", f"localhost:{notes.port}"), want) for words, want in commands()]
    pairs = [pair for pair in pairs if not pair[0].startswith("minirt image bootstrap")]  # the fixture has run it
    if not shutil.which("docker"):
        pairs = [pair for pair in pairs if "docker " not in pair[0]]
    script = notes.path / "page"
    script.write_text("".join(f"{words}\nprintf '\\n{mark}\\n'\n" for words, _ in pairs))
    env = {**environment(), "MINIRT_ROOT": str(notes.minirt.root), "PORT": str(notes.port)}
    run = subprocess.run(["bash", script.name], cwd=notes.path, env=env, text=True,
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600)  # fmt: skip
    outputs = run.stdout.split(mark)
    assert len(outputs) == len(pairs) + 1
    for (words, want), got in zip(pairs, outputs, strict=False):
        assert matches(want, got), f"$ {words}\nexpected:\n{want}\ngot:\n{got}"


def test_services_outlive_the_server_and_data_outlives_its_containers(notes: Notes) -> None:
    notes.compose("up", "-d", "--wait")
    assert notes.ask("first") == "first"
    states = {name: notes.state(name) for name in ("web", "notes", "db")}
    codes: list[int] = []
    done = threading.Event()

    def keep_asking() -> None:
        while not done.is_set():
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{notes.port}/notes", timeout=LIMIT) as answer:
                    codes.append(answer.status)
            except (urllib.error.URLError, OSError) as error:
                codes.append(getattr(error, "code", 0))

    asker = threading.Thread(target=keep_asking)
    asker.start()
    try:
        for _ in range(2):  # killed, and begun anew
            server = Api(Minirt(notes.minirt.root), os.getpid())
            server.begin()
            seen = {one["Id"] for one in server.ask("GET", "/containers/json")[1]}
            assert server.end(signal.SIGKILL) == -signal.SIGKILL
            assert seen == set(notes.compose("ps", "-q").split()) and len(seen) == 3
        asked = len(codes) + 3
        while len(codes) < asked:
            time.sleep(0.05)
    finally:
        done.set()
        asker.join()
    assert set(codes) == {200}, "nobody who asked meanwhile noticed"
    assert {name: notes.state(name) for name in states} == states, "no process is another"
    notes.compose("restart", "db")
    notes.answers()
    assert notes.ask("second") == "first\nsecond" and notes.state("db") != states["db"] and notes.state("web") == states["web"]
    notes.compose("restart", "notes")
    notes.answers()
    data = Path(notes.minirt.good("volume", "inspect", "-f", "{{.Mountpoint}}", "notes_data").strip())
    notes.compose("down")
    assert (data / "PG_VERSION").exists() and not any(Path(f"/proc/{pid}").exists() for pid, _ in states.values())
    notes.compose("up", "-d", "--wait")
    assert notes.ask() == "first\nsecond"


def test_a_process_that_is_killed_is_begun_anew_with_its_data(notes: Notes) -> None:
    notes.compose("up", "-d", "--wait")
    notes.ask("kept")
    for name in ("db", "web", "notes"):
        pid, began = notes.state(name)
        os.kill(pid, signal.SIGKILL)  # PostgreSQL and nginx end with their first process; --restart is their monitor's
        end = time.monotonic() + LIMIT
        while notes.state(name)[1] == began or not notes.state(name)[0]:
            assert time.monotonic() < end
            time.sleep(0.1)
    notes.answers()
    assert notes.ask() == "kept"
