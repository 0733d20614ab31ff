"""What every test may use: a minirt of its own, below a directory of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from command import LIMIT, Minirt
from hypothesis import settings

# How long an example takes is the machine's load, not the code's doing. Continuous integration tells what a commit changed,
# and takes the same examples each time; who develops has new ones each time.
settings.register_profile("minirt", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("minirt")

# What a shell starts in the background ignores SIGINT and SIGQUIT, under nohup SIGHUP too; and so would all that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def image_store() -> Iterator[Path]:
    """A directory with the default image, made once."""
    root = Path(tempfile.mkdtemp(prefix="minirt-images-", dir="/var/tmp"))
    root.chmod(0o755)
    done = Minirt(root)("run", "--plan", "busybox", "true")
    assert "minirt --debug shows where" not in done.stderr, f"a fault of ours is no reason to skip: {done.stderr}"
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
