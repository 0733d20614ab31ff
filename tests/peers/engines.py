"""Engines of others, on our runtime; a place and a root file system for them.

Not a conftest: there is one module of that name to import from (tests/conftest.py).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

__all__ = ["RUNTIME", "Engine", "need", "place", "rootfs"]

APPLETS = "sh ls cat dd sleep echo true id mount hostname ps touch kill stty tty"

RUNTIME = Path(sys.executable).parent / "minirt-oci"


def need(*programs: str) -> None:
    """Skip where a peer is not installed (the Makefile's PACKAGES_PEERS)."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: make test installs it with apt where it may")
    if os.geteuid() != 0:
        pytest.skip("these engines are run as root here")


class Engine:
    """An engine's command line."""

    def __init__(self, *command: str, env: dict[str, str] | None = None) -> None:
        self.command = command
        self.env = {**os.environ, **(env or {})}

    def __call__(self, *words: object, input: str = "") -> subprocess.CompletedProcess[str]:
        command = [*self.command, *map(str, words)]
        return subprocess.run(command, input=input, capture_output=True, text=True, timeout=300, env=self.env, check=False)

    def good(self, *words: object) -> str:
        done = self(*words)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout.strip()


@pytest.fixture(scope="session")
def place() -> Iterator[Path]:
    """A directory for engines; short, as their sockets' paths are limited to 108 bytes."""
    path = Path(tempfile.mkdtemp(prefix="mp-", dir="/var/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def rootfs(place: Path) -> Path:
    """A root file system of busybox as a tar archive."""
    root = place / "rootfs"
    (root / "bin").mkdir(parents=True)
    (root / "etc").mkdir()
    busybox = shutil.which("busybox")
    assert busybox
    shutil.copy(busybox, root / "bin" / "busybox")
    for name in APPLETS.split():
        (root / "bin" / name).symlink_to("busybox")
    (root / "etc" / "passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
    with tarfile.open(place / "rootfs.tar", "w") as archive:
        archive.add(root, ".")
    return place / "rootfs.tar"
