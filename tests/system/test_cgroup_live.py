"""Groups as the kernel has them, wherever cgroup v2 is mounted: what needs no controller."""

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from cgroup_child import child, sleep, status_of

from minirt.linux import cgroup2, cgroup_files
from minirt.linux.cgroup2 import Cgroup, CgroupError, create
from minirt.linux.cgroup_events import OomWatch

MOUNT = cgroup2.find_mount()
pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not MOUNT or not os.access(MOUNT, os.W_OK), reason="no cgroup2 mount that is ours to write to"),
]
NAME = f"minirt-test-{os.getpid()}"


@pytest.fixture(autouse=True)
def nothing_left():
    before = {entry.name for entry in Path(MOUNT).iterdir() if entry.is_dir()}
    yield
    assert {entry.name for entry in Path(MOUNT).iterdir() if entry.is_dir()} - before <= {"minirt"}
    assert not os.path.exists(f"{MOUNT}/minirt/{NAME}")


@pytest.fixture
def group():
    with create(NAME, {}) as made:
        yield made


def member(pid):
    return next(line[3:] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if line.startswith("0::"))


@pytest.mark.parametrize(("path", "directory"), [
    (f"/{NAME}/deep/box", f"/{NAME}/deep/box"),
    (f"/../../{NAME}/x/../box", f"/{NAME}/box"),
    (f"{NAME}/pod/box", f"/minirt/{NAME}/pod/box"),
    ("", f"/minirt/{NAME}"),
])  # fmt: skip
def test_a_process_is_where_the_path_says(path, directory):
    with create(NAME, {}, path=path) as group, child(group, sleep) as pid:
        assert member(pid) == directory
        assert group.path == MOUNT + directory and group.made[-1] == group.path
    assert not os.path.exists(group.made[0]) or os.path.basename(group.made[0]) == "minirt"


def test_only_what_was_made_is_removed():
    os.mkdir(f"{MOUNT}/{NAME}")
    try:
        place = cgroup2.locate("id", f"/{NAME}/a/b")
        missing = place.missing()
        with create("id", {}, path=f"/{NAME}/a/b") as group:
            assert group.made == missing == [f"{MOUNT}/{NAME}/a", f"{MOUNT}/{NAME}/a/b"]
            again = Cgroup.open(group.path, group.made)
        assert os.listdir(f"{MOUNT}/{NAME}") and not os.path.exists(f"{MOUNT}/{NAME}/a")
        again.remove()  # a second time there is nothing to do
        with create("id", {}, path=f"/{NAME}"):
            pass
        assert os.path.isdir(f"{MOUNT}/{NAME}")
    finally:
        os.rmdir(f"{MOUNT}/{NAME}")


def test_a_directory_above_that_another_container_uses_stays_for_it():
    with create("a", {}, path=f"/{NAME}/a") as first:
        second = create("b", {}, path=f"/{NAME}/b")
        first.remove()
        assert os.path.isdir(second.path) and second.made == [second.path]
        second.remove()
        first.remove()  # whoever made the directory above removes it
        assert not os.path.exists(f"{MOUNT}/{NAME}")


def test_a_group_in_use_is_refused_and_stays(group):
    with child(group, sleep) as pid:
        with pytest.raises(CgroupError, match=r"container's cgroup is not empty: 1 process\(es\) found in"):
            create(NAME, {})
        assert member(pid) == f"/minirt/{NAME}"


def test_a_frozen_group_is_refused(group):
    group.freeze()
    with pytest.raises(CgroupError, match="unexpectedly frozen"):
        create(NAME, {})


def test_a_name_of_the_kernel_s_is_no_group():
    with pytest.raises(CgroupError, match="one of the kernel's files"):
        create("id", {}, path="/cgroup.procs/box")


def test_a_threaded_parent_is_refused_with_nothing_left():
    os.mkdir(f"{MOUNT}/{NAME}")
    os.mkdir(f"{MOUNT}/{NAME}/threads")
    try:
        Path(f"{MOUNT}/{NAME}/threads/cgroup.type").write_text("threaded")
        with pytest.raises(CgroupError, match="threaded"):
            create("id", {}, path=f"/{NAME}/threads/box")
        assert not os.path.exists(f"{MOUNT}/{NAME}/threads/box")
    finally:
        os.rmdir(f"{MOUNT}/{NAME}/threads")
        os.rmdir(f"{MOUNT}/{NAME}")


def test_a_container_that_is_gone_has_no_group():
    with pytest.raises(CgroupError, match="no such cgroup"):
        Cgroup.open(f"{MOUNT}/{NAME}")


def test_a_frozen_process_does_nothing_until_it_is_thawed(group):
    ticks, out = os.pipe()

    def tick():
        while True:
            os.write(out, b".")
            time.sleep(0.005)

    with child(group, tick):
        os.read(ticks, 100)
        group.freeze()
        assert group.is_frozen()
        os.set_blocking(ticks, False)
        with contextlib.suppress(BlockingIOError):
            os.read(ticks, 65536)
        time.sleep(0.1)
        with pytest.raises(BlockingIOError):
            os.read(ticks, 100)
        group.thaw()
        assert not group.is_frozen()
        os.set_blocking(ticks, True)
        assert os.read(ticks, 1) == b"."
    os.close(ticks)
    os.close(out)


@pytest.fixture
def stuck_directory(tmp_path):
    """A file system that is frozen: who writes to it waits in the kernel and is not to be moved (man 8 fsfreeze)."""
    image, mount = tmp_path / "image", tmp_path / "mount"
    image.write_bytes(b"")
    os.truncate(image, 8 << 20)
    mount.mkdir()
    commands = [["mkfs.ext4", "-q", str(image)], ["mount", "-o", "loop", str(image), str(mount)]]
    for command in commands:
        if not shutil.which(command[0]) or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip(f"no ext4 on a loop device here: {' '.join(command)} failed")
    subprocess.run(["fsfreeze", "-f", str(mount)], check=True)
    try:
        yield mount
    finally:
        subprocess.run(["fsfreeze", "-u", str(mount)], check=False)
        subprocess.run(["umount", "-l", str(mount)], check=True)


def test_what_cannot_freeze_in_time_goes_on_and_is_named(group, stuck_directory):
    with child(group, lambda: os.mkdir(stuck_directory / "new")) as stuck, child(group, sleep) as other:
        time.sleep(0.1)
        with pytest.raises(CgroupError, match=rf"not frozen within 0.2 s: in the kernel's hands \(state D\): {stuck}$"):
            group.freeze(200)
        assert group.read("cgroup.freeze").strip() == "0"
        os.kill(other, signal.SIGTERM)
        assert status_of(other) == -signal.SIGTERM
        subprocess.run(["fsfreeze", "-u", str(stuck_directory)], check=True)
        assert status_of(stuck) == 0


def test_kill_reaches_groups_below_and_what_is_frozen(group):
    below = Cgroup(f"{group.path}/below")
    os.mkdir(below.path)
    with child(group, sleep) as first, child(below, sleep) as second:
        assert sorted(group.all_pids()) == sorted([first, second]) and group.pids() == [first]
        group.freeze()
        group.kill()
        assert [status_of(first), status_of(second)] == [-signal.SIGKILL] * 2
        assert group.wait_empty(5000)


def test_all_are_killed_where_the_kernel_cannot_do_it_in_one(group, monkeypatch):
    """Before Linux 5.14 there is no cgroup.kill: the write then says ENOENT."""
    write = cgroup_files.write

    def without_kill(path, *args):
        return errno.ENOENT if path.endswith("cgroup.kill") else write(path, *args)

    monkeypatch.setattr(cgroup_files, "write", without_kill)
    with child(group, sleep) as first, child(group, sleep) as second:
        group.kill()
        assert [status_of(first), status_of(second)] == [-signal.SIGKILL] * 2


def test_a_signal_reaches_all_and_leaves_them_running(group):
    def count():
        return signal.sigwait([signal.SIGUSR1]) - signal.SIGUSR1

    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        with child(group, count) as first, child(group, count) as second:
            assert group.signal_all(signal.SIGUSR1) == 2
            assert status_of(first) == status_of(second) == 0
            assert not group.is_frozen()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])


def test_a_paused_group_that_is_signalled_stays_paused(group):
    with child(group, sleep) as pid:
        group.freeze()
        assert group.signal_all(signal.SIGTERM) == 1
        assert group.is_frozen() and group.wait_event("frozen", 1, 10_000)
        group.thaw()
        assert status_of(pid) == -signal.SIGTERM


def ticks_of(pid):
    """Return the processor time that a process has used, as proc_pid_stat(5) has it."""
    return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))


def test_statistics_say_what_a_process_used(group):
    def work():
        while time.process_time() < 0.2:
            pass
        sleep()

    with child(group, work) as pid:
        end = time.monotonic() + 60
        while ticks_of(pid) < 19:  # of 10 ms each
            assert time.monotonic() < end
            time.sleep(0.01)
        said = group.stats()
        assert said["pids"]["current"] == 1
        assert said["cpu"]["usage"]["total"] > 150_000_000


def test_a_watch_says_when_the_last_process_is_gone(group):
    with child(group, sleep) as pid, OomWatch(group.path) as watch:
        assert watch.wait(10) == ""
        threading.Timer(0.1, os.kill, (pid, signal.SIGKILL)).start()
        begin, event = time.monotonic(), ""
        while not event and time.monotonic() - begin < 10:
            event = watch.wait(10_000)
        assert event == "gone" and time.monotonic() - begin < 5


def test_a_limit_without_its_controller_names_it_and_no_limit_does_not_need_it(group):
    have = cgroup2.controllers(MOUNT)
    if "memory" in have:
        pytest.skip("this host's tree has the memory controller")
    group.update({"memory": {"limit": -1}, "pids": {"limit": 0}})
    with pytest.raises(CgroupError, match=r"memory limit: this host's cgroup v2 tree has no memory controller.*lab/run"):
        group.update({"memory": {"limit": 1 << 30}})
    with pytest.raises(CgroupError, match=r"misc limit: this host's cgroup v2 tree has no misc controller"):
        group.update({"unified": {"misc.max": "res_a 1"}})
