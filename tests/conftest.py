"""What every test may use: a minirt of its own, below a directory of its own."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import settings

# How long an example takes is the machine's load, not the code's doing. Continuous integration tells what a commit changed,
# and takes the same examples each time; who develops has new ones each time.
settings.register_profile("minirt", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("minirt")

# What a shell starts in the background ignores SIGINT and SIGQUIT, under nohup SIGHUP too; and so would all that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

LIMIT = 60  # seconds for one run of the command


def gone(pid: int) -> bool:
    """Whether a process is gone, or a zombie that its new parent has not reaped yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


class Minirt:
    """The command `minirt`, with everything that it keeps below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.env = {**os.environ, "MINIRT_ROOT": str(root)}
        self.program = [sys.executable, "-m", "minirt"]

    def __call__(self, *args: object, input: str | None = None, **more: object) -> subprocess.CompletedProcess[str]:
        """Run it to its end; standard input is empty unless given."""
        words = [*self.program, *map(str, args)]
        return subprocess.run(
            words, input=input or "", capture_output=True, text=True, timeout=LIMIT, env=self.env, **more
        )  # fmt: skip

    def good(self, *args: object) -> str:
        """Run it, which must succeed; return what it printed."""
        done = self(*args)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def sh(self, script: str, *options: object) -> str:
        """Run a shell script in a container of busybox, which must succeed; return what it printed."""
        done = self("run", "--rm", *options, "busybox", "sh", "-ec", script)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def start(self, *args: object, **more: object) -> subprocess.Popen[str]:
        """Start it; the caller ends it."""
        pipe = subprocess.PIPE
        more = {"stdin": subprocess.DEVNULL, "stdout": pipe, "stderr": pipe, "text": True, **more}
        return subprocess.Popen([*self.program, *map(str, args)], env=self.env, **more)

    @property
    def containers(self) -> list[Path]:
        """The containers' directories, half-made ones too."""
        try:
            return sorted((self.root / "lib" / "containers").iterdir())
        except FileNotFoundError:
            return []

    def state(self) -> dict[str, object]:
        """Return the row of the only container, an empty one while there is none yet."""
        (container,) = self.containers
        if not (self.root / "lib" / "state.sqlite-wal").exists():
            return {}
        with closing(sqlite3.connect(self.root / "lib" / "state.sqlite", timeout=LIMIT)) as base:
            base.row_factory = sqlite3.Row
            if not base.execute("SELECT name FROM sqlite_schema WHERE name = 'container'").fetchall():
                return {}
            rows = [dict(row) for row in base.execute("SELECT * FROM container")]
        return next((row for row in rows if row["id"] == container.name), {})


@pytest.fixture(scope="session")
def image_store() -> Iterator[Path]:
    """A directory with the default image, made once."""
    root = Path(tempfile.mkdtemp(prefix="minirt-images-", dir="/var/tmp"))
    root.chmod(0o755)
    done = Minirt(root)("run", "--plan", "busybox", "true")
    if done.returncode:
        pytest.skip(f"no default image here: {done.stderr.strip()}")
    yield root
    shutil.rmtree(root)


@pytest.fixture
def minirt(image_store: Path) -> Iterator[Minirt]:
    """A minirt with the default image and no containers.

    Not below tmp_path, which only its owner may enter: root of a user namespace is somebody else.
    """
    root = Path(tempfile.mkdtemp(prefix="minirt-test-", dir="/var/tmp"))
    root.chmod(0o755)
    (root / "lib").mkdir()
    (root / "lib" / "image").symlink_to(image_store / "lib" / "image")
    (root / "cache").symlink_to(image_store / "cache")
    command = Minirt(root)
    yield command
    for container in command.containers:  # the store is all tests': what a left container holds would stay in it
        (image_store / "lib" / "image" / "holds" / container.name).unlink(missing_ok=True)
    shutil.rmtree(root)


@pytest.fixture
def mine(minirt: Minirt) -> Iterator[Minirt]:
    """A minirt whose containers are removed at the end, by its own command."""
    yield minirt
    minirt("rm", "-f", *minirt("ps", "-aq").stdout.split())


@pytest.fixture
def own_store(image_store: Path) -> Iterator[Minirt]:
    """A minirt with an image store of its own, where the default image is: for tests that add images, or damage them."""
    root = Path("/var/tmp") / f"minirt-store-{uuid4().hex}"  # mkdtemp's names may end with _, and no image's name does
    root.mkdir(mode=0o755)
    (root / "lib").mkdir()
    copy = ["cp", "-a", "--reflink=auto", image_store / "lib" / "image", root / "lib" / "image"]
    subprocess.run(copy, check=True, timeout=LIMIT)
    (root / "cache").symlink_to(image_store / "cache")
    yield Minirt(root)
    shutil.rmtree(root)
