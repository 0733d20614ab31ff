"""A place and a root file system for the engines of others (engines.py)."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

APPLETS = "sh ls cat sleep echo true id mount hostname ps touch kill stty tty"


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
