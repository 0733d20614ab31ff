"""--userns auto as root: who is root inside is somebody else outside, whom directories of the host may keep out."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import Minirt
from hypothesis import given
from hypothesis import strategies as st

from minirt.plan.causes import barring_directory

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="ids of others can only be mapped by root")


@pytest.fixture
def private(image_store: Path) -> Iterator[Minirt]:
    """A minirt below a directory that only root may enter, as /root often is."""
    top = Path(tempfile.mkdtemp(prefix="minirt-private-", dir="/var/tmp"))
    root = top / "a" / "root"
    (root / "lib").mkdir(parents=True)
    (root / "lib" / "image").symlink_to(image_store / "lib" / "image")
    (root / "cache").symlink_to(image_store / "cache")
    assert top.stat().st_mode & 0o777 == 0o700
    yield Minirt(root)
    shutil.rmtree(top)


def test_the_directory_that_bars_the_way_is_named(private: Minirt) -> None:
    done = private("run", "--rm", "--userns", "auto", "busybox", "true")
    top = private.root.parent.parent
    assert done.returncode == 125 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith(f"minirt: {top}: ") and f"chmod o+x {top}," in done.stderr and "MINIRT_ROOT" in done.stderr
    assert private.containers == []


def test_what_the_message_advises_works(private: Minirt) -> None:
    advice = re.search(r"(chmod o\+x \S+),", private("run", "--rm", "--userns", "auto", "busybox", "true").stderr)
    assert advice and os.system(advice[1]) == 0
    done = private("run", "--rm", "--userns", "auto", "busybox", "cat", "/proc/self/uid_map")
    assert done.returncode == 0 and int(done.stdout.split()[1]) > 0, done.stderr


@given(modes=st.lists(st.sampled_from([0o700, 0o710, 0o711, 0o755, 0o750, 0o701]), min_size=1, max_size=4))
def test_what_is_said_to_bar_is_what_the_kernel_lets_nobody_pass(modes: list[int]) -> None:
    top = Path(tempfile.mkdtemp(prefix="minirt-way-", dir="/var/tmp"))
    try:
        path = top
        path.chmod(0o755)
        for depth, mode in enumerate(modes):
            path = path / str(depth)
            path.mkdir()
            path.chmod(mode)
        (path / "file").touch()
        pid = os.fork()
        if pid == 0:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            try:
                os.stat(path / "file")
            except PermissionError:
                os._exit(1)
            os._exit(0)
        kept_out = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
        assert bool(barring_directory(str(path / "file"), 65534, 65534)) == kept_out
    finally:
        shutil.rmtree(top)
