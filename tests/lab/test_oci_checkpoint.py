"""checkpoint and restore, with Debian's CRIU: processes go on where they were; what is asserted is what they say and the kernel."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import gone
from test_oci_runtime import Runtime, listen, oci, wait_for  # noqa: F401

from minirt.linux.cgroup2 import find_mount

LIMIT = 60  # seconds for what takes one
COUNTER = "i=0; while :; do i=$((i+1)); echo $i > /count; sleep 0.05; done"


class Counter:
    """A container that counts in a file, and its image."""

    def __init__(self, oci: Runtime) -> None:  # noqa: F811
        self.oci = oci
        self.image = oci.path / "image"
        self.file = oci.bundle.rootfs / "count"
        oci.config["process"]["args"] = ["sh", "-c", COUNTER]

    def start(self) -> None:
        with open(self.oci.path / "first", "w") as out:  # a program that goes on would hold a pipe of ours
            self.oci.good("run", "--detach", "--bundle", self.oci.bundle.path, "box", capture_output=False, stdout=out, stderr=out)
        wait_for(lambda: self.now() > 3)

    def now(self) -> int:
        for _ in range(100):
            with contextlib.suppress(FileNotFoundError):
                if text := self.file.read_text():
                    return int(text)
            time.sleep(0.01)  # the shell makes it, or empties it, and then writes
        return 0

    def goes_on(self) -> bool:
        before = self.now()
        end = time.monotonic() + LIMIT
        while self.now() <= before:
            if time.monotonic() > end:
                return False
            time.sleep(0.05)
        return True

    def checkpoint(self, *flags: object) -> None:
        done = self.oci("checkpoint", "--image-path", self.image, *flags, "box")
        assert done.returncode == 0, done.stderr + self.log("dump.log")

    def restore(self, *flags: object) -> None:
        # a restored program has our descriptors: no pipes
        with open(self.oci.path / "out", "w") as out:
            done = self.oci("restore", "--bundle", self.oci.bundle.path, "--image-path", self.image, "--detach", *flags, "box",
                            capture_output=False, stdout=out, stderr=out)  # fmt: skip
        assert done.returncode == 0, (self.oci.path / "out").read_text() + self.log("restore.log")

    def log(self, name: str) -> str:
        path = self.image / name
        return "\n".join(path.read_text().splitlines()[-30:]) if path.exists() else ""


@pytest.fixture
def counter(oci: Runtime) -> Iterator[Counter]:  # noqa: F811
    yield Counter(oci)


def test_a_counter_goes_on_from_its_number(counter: Counter) -> None:
    oci = counter.oci  # noqa: F811
    counter.start()
    pid = oci.pid
    counter.checkpoint()
    saved = counter.now()
    assert gone(pid) and oci.left() == [] and oci("state", "box").returncode == 1
    time.sleep(0.2)
    assert counter.now() == saved
    pid_file = oci.path / "pid"
    counter.restore("--pid-file", pid_file)
    assert counter.goes_on() and saved < counter.now()
    state = oci.state()
    assert state["status"] == "running" and state["pid"] == int(pid_file.read_text()) and state["bundle"] == str(oci.bundle.path)
    assert Path(f"/proc/{state['pid']}/cgroup").read_text() == f"0::/{oci.group}\n"
    assert oci.good("exec", "box", "cat", "/proc/1/cmdline").startswith("sh\0-c\0")
    oci.good("kill", "box", "KILL")
    wait_for(lambda: oci.state()["status"] == "stopped")


@pytest.mark.long
def test_a_container_that_is_left_running_goes_on_and_its_image_can_be_restored_later(counter: Counter) -> None:
    """Saved in three steps: memory, the changes since, and the rest; the last image leads to the others."""
    oci = counter.oci  # noqa: F811
    counter.start()
    pid = oci.pid
    before, between = oci.path / "before", oci.path / "between"
    oci.good("checkpoint", "--pre-dump", "--image-path", before, "box")
    oci.good("checkpoint", "--pre-dump", "--image-path", between, "--parent-path", "../before", "box")
    counter.checkpoint("--leave-running", "--parent-path", "../between", "--work-path", oci.path / "work")
    saved = counter.now()
    assert oci.pid == pid and counter.goes_on() and oci.state()["status"] == "running"
    assert (counter.image / "parent").is_symlink() and (oci.path / "work" / "dump.log").exists()
    oci.good("delete", "--force", "box")
    later = counter.now()
    assert later > saved
    counter.restore()
    wait_for(lambda: 0 < counter.now() < later)
    assert counter.goes_on()


def test_a_terminal_comes_back_through_the_console_socket(counter: Counter) -> None:
    oci = counter.oci  # noqa: F811
    script = "i=0; while read line; do i=$((i+1)); echo $i $line; done"
    oci.config["process"].update(terminal=True, args=["sh", "-c", script])
    thread, got = listen(oci.path / "console")
    oci.good("run", "--detach", "--bundle", oci.bundle.path, "--console-socket", oci.path / "console", "box")
    thread.join(30)
    assert said(got[1], b"one\n", b"1 one\r\n")
    counter.checkpoint()
    os.close(got[1])
    (oci.path / "console").unlink()
    thread, got = listen(oci.path / "console")
    counter.restore("--console-socket", oci.path / "console")
    thread.join(30)
    assert said(got[1], b"two\n", b"2 two\r\n"), "the shell kept its number"
    assert oci.good("exec", "box", "sh", "-c", "readlink /proc/1/fd/0") == "/dev/pts/0\n"
    os.close(got[1])


def said(master: int, typed: bytes, wanted: bytes) -> bool:
    """Type into a terminal, and say whether that comes out."""
    os.write(master, typed)
    text, end = b"", time.monotonic() + LIMIT
    while wanted not in text and time.monotonic() < end:
        text += os.read(master, 4096)
    return wanted in text


def test_a_restore_in_the_foreground_has_our_pipes_and_the_program_s_status(counter: Counter) -> None:
    oci = counter.oci  # noqa: F811
    oci.config["process"]["args"] = ["sh", "-c", "echo up; while ! [ -e /go ]; do sleep 0.05; done; echo went on >&2; exit 7"]
    oci.write()
    command = [*oci.command, "run", "--bundle", oci.bundle.path, "box"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as first:
        assert first.stdout.readline() == b"up\n"
        counter.checkpoint()
        assert first.wait(30) == 137, "CRIU kills what it has saved"
    (oci.bundle.rootfs / "go").touch()
    done = oci("restore", "--bundle", oci.bundle.path, "--image-path", counter.image, "box")
    assert (done.returncode, done.stdout, done.stderr) == (7, "", "went on\n"), counter.log("restore.log")
    assert oci.left() == []


def test_what_is_bound_masked_and_joined_is_there_again(counter: Counter) -> None:
    """A volume with another inside it, masked files of the kernel's, a network namespace of somebody else's."""
    oci = counter.oci  # noqa: F811
    (oci.path / "volume" / "inner").mkdir(parents=True)
    (oci.path / "other").mkdir()
    oci.bundle.mount("/data", oci.path / "volume", "rbind")
    oci.bundle.mount("/data/inner", oci.path / "other", "bind", "ro")
    oci.bundle.mount("/tmp/mem", "tmpfs", type="tmpfs")
    holder = subprocess.Popen(["unshare", "-n", "sleep", "1000"])
    try:
        path = f"/proc/{holder.pid}/ns/net"
        wait_for(lambda: os.readlink(path) != os.readlink("/proc/self/ns/net"))
        oci.bundle.share("network")
        oci.bundle.linux["namespaces"].append({"type": "network", "path": path})
        oci.config["process"]["args"] = ["sh", "-c", f"echo kept > /tmp/mem/file; {COUNTER}"]
        counter.start()
        seen = mounts(oci)
        counter.checkpoint()
        (oci.path / "other" / "new").touch()
        counter.restore()
        assert counter.goes_on()
        assert os.readlink(f"/proc/{oci.pid}/ns/net") == os.readlink(path)
        assert mounts(oci) == seen
        script = "cat /tmp/mem/file; ls /data/inner; touch /data/x && ! touch /data/inner/x 2>/dev/null && head -c 1 /proc/kcore"
        assert oci.good("exec", "box", "sh", "-c", script).split() == ["kept", "new"]
    finally:
        holder.kill()
        holder.wait()


def mounts(oci: Runtime) -> list[tuple[str, str, str]]:  # noqa: F811
    """Target, options and kind of each mount in the container."""
    lines = [line.split() for line in Path(f"/proc/{oci.pid}/mountinfo").read_text().splitlines()]
    return sorted((words[4], words[5], words[words.index("-") + 1]) for words in lines)


def test_a_restore_that_fails_leaves_nothing(counter: Counter) -> None:
    oci = counter.oci  # noqa: F811
    counter.start()
    counter.checkpoint()
    before = Path("/proc/self/mountinfo").read_text()

    def refused(*flags: object) -> str:
        done = oci("restore", "--bundle", oci.bundle.path, *flags, "box")
        assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
        assert oci.left() == [] and Path("/proc/self/mountinfo").read_text() == before
        assert not [pid for pid in Path("/proc").glob("[0-9]*") if cmdline(pid).startswith((b"sh\0-c\0", b"criu\0"))]
        return done.stderr

    assert "descriptors.json" in refused("--image-path", oci.path / "nowhere")
    (oci.bundle.rootfs / "bin" / "busybox").rename(oci.bundle.rootfs / "bin" / "gone")
    assert "Error (criu/" in refused("--image-path", counter.image) and "restore.log" in refused("--image-path", counter.image)
    (oci.bundle.rootfs / "bin" / "gone").rename(oci.bundle.rootfs / "bin" / "busybox")
    oci.config["hooks"] = {"createRuntime": [{"path": "/bin/false"}]}
    assert "createRuntime" in refused("--image-path", counter.image)
    oci.config.pop("hooks")
    (counter.image / "inventory.img").write_bytes(b"x" * 40)
    refused("--image-path", counter.image)


def cmdline(pid: Path) -> bytes:
    try:
        return (pid / "cmdline").read_bytes()
    except OSError:
        return b""


@pytest.mark.long
def test_a_checkpoint_that_fails_leaves_the_container_as_it_was(counter: Counter) -> None:
    """A terminal of the caller's that CRIU is not told to keep; a container that has not been started."""
    oci = counter.oci  # noqa: F811
    master, slave = os.openpty()
    oci.good("run", "--detach", "--bundle", oci.bundle.path, "box", capture_output=False, stdin=slave, stdout=slave, stderr=slave)
    wait_for(lambda: counter.now() > 3)
    done = oci("checkpoint", "--image-path", counter.image, "box")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "Error (criu/" in done.stderr, done.stderr
    assert oci.state()["status"] == "running" and counter.goes_on()
    oci.good("delete", "--force", "box")
    os.close(master)
    os.close(slave)
    oci.create()
    assert "in created state" in oci("checkpoint", "--image-path", counter.image, "box").stderr


@pytest.mark.long
def test_one_that_is_paused_is_saved_and_runs_when_it_is_restored(counter: Counter) -> None:
    oci = counter.oci  # noqa: F811
    counter.start()
    oci.good("pause", "box")
    counter.checkpoint()
    assert not Path(find_mount(), oci.group).exists()
    counter.restore()
    assert counter.goes_on() and oci.state()["status"] == "running"


@pytest.mark.long
def test_a_container_in_a_user_namespace_comes_back_with_its_map_and_devices(counter: Counter) -> None:
    oci = counter.oci  # noqa: F811
    oci.bundle.user_namespace()
    counter.file.touch()
    os.chown(counter.file, 100000, 100000)
    null = subprocess.DEVNULL  # a file of ours could not be opened again by who is nobody to its owner
    oci.good("run", "--detach", "--bundle", oci.bundle.path, "box", capture_output=False, stdout=null, stderr=null)
    wait_for(lambda: counter.now() > 3)
    counter.checkpoint()
    counter.restore()
    assert counter.goes_on()
    assert Path(f"/proc/{oci.pid}/uid_map").read_text().split() == ["0", "100000", "65536"]
    script = "id -u; head -c 3 /dev/zero | cat > /dev/null; echo x > /dev/full || echo full"
    assert oci.good("exec", "box", "sh", "-c", script).split() == ["0", "full"]


@pytest.mark.long
def test_a_lock_on_a_file_is_saved_where_that_is_asked_for(counter: Counter) -> None:
    oci = counter.oci  # noqa: F811
    oci.bundle.mount("/usr", "/usr", "rbind", "ro")  # busybox has no flock
    for name in ("lib", "lib64"):
        (oci.bundle.rootfs / name).symlink_to(f"usr/{name}")
    oci.config["process"]["args"] = ["sh", "-c", f"exec 9> /lock; /usr/bin/flock 9; {COUNTER}"]
    counter.start()
    done = oci("checkpoint", "--image-path", counter.image, "box")
    assert done.returncode == 1 and "lock" in done.stderr and oci.state()["status"] == "running"
    counter.checkpoint("--file-locks", "--manage-cgroups-mode", "ignore")
    counter.restore("--file-locks", "--manage-cgroups-mode", "ignore")
    assert counter.goes_on()
    assert oci("exec", "box", "sh", "-c", "exec 9> /lock; /usr/bin/flock -n 9").returncode == 1, "it has the lock"
    assert Path(f"/proc/{oci.pid}/cgroup").read_text() == f"0::/{oci.group}\n"
