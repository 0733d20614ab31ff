"""A user without privilege has the part of the tree that root gave it, and no other (man 7 cgroups, Delegation)."""

import os
from pathlib import Path

import pytest

from minirt.linux import cgroup2
from minirt.linux.cgroup2 import CgroupError, NoCgroup, create

USER = 4711
MOUNT = Path("/sys/fs/cgroup")


@pytest.fixture
def delegated():
    """What systemd does for user@UID.service with Delegate=: a subtree, with the user's processes below it."""
    (MOUNT / "cgroup.subtree_control").write_text("+memory +pids -cpu")
    top, leaf = MOUNT / "delegated", MOUNT / "delegated" / "session"
    leaf.mkdir(parents=True)
    for directory in (top, leaf):
        os.chown(directory, USER, USER)
        for file in ("cgroup.procs", "cgroup.threads", "cgroup.subtree_control"):
            os.chown(directory / file, USER, USER)
    yield leaf
    leaf.rmdir()
    top.rmdir()


def as_user(group, work):
    """Run a function as the user, in a group; return what it wrote, or the error's line."""
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            (group / "cgroup.procs").write_text("0")
            os.setgroups([])
            os.setresgid(USER, USER, USER)
            os.setresuid(USER, USER, USER)
            text = work()
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(into, text.encode())
        os._exit(0)
    os.close(into)
    with os.fdopen(out) as file:
        text = file.read()
    os.waitpid(pid, 0)
    return text


def test_limits_bind_below_a_subtree_that_was_handed_over(delegated):
    def work():
        with create("box", {"pids": {"limit": 2}, "memory": {"limit": 64 << 20}}) as group:
            pid = os.fork()
            if pid == 0:
                group.write("cgroup.procs", "0")
                made = 0
                try:
                    while os.fork():
                        made += 1
                    os._exit(0)
                except BlockingIOError:
                    os._exit(made)
            made = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            return f"{group.path} {group.read('pids.max').strip()} {made}"

    assert as_user(delegated, work) == "/sys/fs/cgroup/delegated/minirt/box 2 1"
    assert [path.name for path in delegated.parent.iterdir() if path.is_dir()] == ["session"]


def test_a_controller_that_was_not_handed_over_is_named(delegated):
    text = as_user(delegated, lambda: str(create("box", {"cpu": {"shares": 7}})))
    assert text == "CgroupError: cpu limit: /sys/fs/cgroup/delegated was delegated without the cpu controller; ask root for it"


def test_without_a_subtree_a_limit_is_refused_in_one_line_and_the_rest_runs():
    assert as_user(MOUNT, lambda: type(create("box", {})).__name__) == NoCgroup.__name__
    text = as_user(MOUNT, lambda: str(create("box", {"memory": {"limit": 1 << 30}})))
    assert text.startswith(f"{CgroupError.__name__}: memory limit: ") and "\n" not in text
    assert "Permission denied: making a group needs root, or a part of the tree that was delegated" in text
    text = as_user(MOUNT, lambda: str(create("box", {}, path="/elsewhere/box")))
    assert text.startswith("CgroupError: cgroup: /sys/fs/cgroup/elsewhere: Permission denied")
    assert not os.path.exists(cgroup2.find_mount() + "/minirt")
