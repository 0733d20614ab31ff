"""A path with `..` in it is opened though files are being renamed, anywhere on the machine.

The kernel cannot then be sure that `..` has not led out, and says EAGAIN (man 2 openat2): asked again, it mostly is.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from minirt.linux import constants as k
from minirt.linux import files
from minirt.plan import Plan, Slot

RENAMER = "import os, sys; os.chdir(sys.argv[1]); print(flush=True)\nwhile True: os.rename('a', 'b'); os.rename('b', 'a')"
HOW = b"".join(n.to_bytes(8, "little") for n in (os.O_PATH | os.O_CLOEXEC, 0, k.RESOLVE_IN_ROOT))


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[Path]:
    """A directory with a name to open, while another process renames directories beside it."""
    (tmp_path / "inside" / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere" / "a").mkdir(parents=True)
    with subprocess.Popen([sys.executable, "-c", RENAMER, tmp_path / "elsewhere"], stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline()
        yield tmp_path / "inside"
        process.kill()


def test_a_path_is_opened_while_others_rename(busy: Path) -> None:
    root = os.open(busy, os.O_PATH | os.O_DIRECTORY)
    for _ in range(20_000):
        os.close(files.open_in_root(root, "deep/../../deep", os.O_PATH))
    os.close(root)


def test_a_plan_opens_it_too(busy: Path) -> None:
    plan, root = Plan(), Slot("root")
    plan.openat(k.AT_FDCWD, str(busy), os.O_PATH | os.O_DIRECTORY, store=root)
    for _ in range(2_000):
        fd = Slot("deep")
        plan.openat2(root, "deep/../../deep", HOW, len(HOW), store=fd).close(fd)
    assert plan.execve("/bin/true").run() == 0
