"""A cgroup2 mount from the initial cgroup namespace leaves the tree's options as they are: they are the whole machine's."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from oci_bundle import Bundle, mounted

TREE = "/sys/fs/cgroup"
OPTIONS = {"nsdelegate", "memory_recursiveprot"}


def options() -> set[str]:
    return mounted(Path("/proc/self/mountinfo").read_text(), TREE).system


@pytest.fixture
def delegated() -> None:
    subprocess.run(["mount", "-o", "remount," + ",".join(sorted(OPTIONS)), TREE], check=True)
    assert options() >= OPTIONS


def test_a_container_without_a_cgroup_namespace_leaves_nsdelegate_set(delegated: None, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    bundle = Bundle(tmp_path)
    bundle.share("cgroup")
    assert not any(namespace["type"] == "cgroup" for namespace in bundle.linux["namespaces"])
    inside = mounted(bundle.run(f"cat /proc/self/mountinfo; ls {TREE}/cgroup.controllers >&2"), TREE)
    assert inside.kind == "cgroup2" and inside.root == "/", "the whole tree, as it has neither a namespace nor a group of its own"
    assert options() >= OPTIONS


def test_without_the_options_the_same_mount_clears_them(delegated: None, tmp_path: Path) -> None:
    """The kernel's rule, so that the test above tests something."""
    subprocess.run(["mount", "-t", "cgroup2", "cgroup2", tmp_path], check=True)
    subprocess.run(["umount", tmp_path], check=True)
    assert not options() & OPTIONS
    subprocess.run(["mount", "-o", "remount," + ",".join(sorted(OPTIONS)), TREE], check=True)
