"""Whose the container's cgroup is (runtime-spec config-linux.md#cgroup-ownership): the kernel says it, and lets them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from test_oci_flags import group_of
from test_oci_runtime import Runtime, oci  # noqa: F401

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="making a container's namespaces needs CAP_SYS_ADMIN"),
]


def owners(group: Path) -> tuple[int, set[int], set[int]]:
    """Return who owns the directory, the files that the kernel names as safe, and the others."""
    safe = Path("/sys/kernel/cgroup/delegate").read_text().split()
    uids = {path.name: path.stat().st_uid for path in group.iterdir() if path.is_file()}
    return (group.stat().st_uid, {uids[name] for name in safe if name in uids}, {uids[name] for name in uids if name not in safe})


def writable(oci: Runtime, *options: str) -> None:  # noqa: F811
    """Mount the cgroups with other options."""
    oci.bundle.drop("/sys/fs/cgroup")
    oci.bundle.mount("/sys/fs/cgroup", "cgroup", *options, type="cgroup")


def test_with_a_writable_tree_the_group_is_the_user_s_and_its_limits_are_not(oci: Runtime) -> None:  # noqa: F811
    oci.bundle.user_namespace()
    writable(oci, "nosuid", "noexec", "nodev")
    script = "cd /sys/fs/cgroup && mkdir own && echo $$ >own/cgroup.procs; exec sleep 99"
    oci.config["process"]["args"] = ["sh", "-c", script]
    oci.config["process"]["user"] = {"uid": 0, "gid": 0}
    oci.create()
    group = group_of(oci.pid)
    assert owners(group) == (100000, {100000}, {0})
    oci.good("start", "box")
    while not (group / "own" / "cgroup.procs").exists() or not (group / "own" / "cgroup.procs").read_text():
        assert oci.state()["status"] == "running", (oci.path / "err").read_text()
    assert (group / "own").stat().st_uid == 100000


@pytest.mark.parametrize("lacks", ["rw", "namespace", "user"])
def test_else_it_stays_root_s(oci: Runtime, lacks: str) -> None:  # noqa: F811
    if lacks != "user":
        oci.bundle.user_namespace()
    if lacks == "namespace":
        oci.bundle.share("cgroup")
    writable(oci, *(["ro"] if lacks == "rw" else []))
    oci.create()
    assert owners(group_of(oci.pid)) == (0, {0}, {0})


def test_without_a_user_namespace_it_is_the_process_s_user_s(oci: Runtime) -> None:  # noqa: F811
    writable(oci)
    oci.config["process"]["user"] = {"uid": 77, "gid": 77}
    oci.create()
    assert owners(group_of(oci.pid)) == (77, {77}, {0})
