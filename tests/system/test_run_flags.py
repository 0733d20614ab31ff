"""docker's flags of `run`, each by what the kernel says inside."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

pytestmark = [pytest.mark.timeout(300), pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]


def good(minirt, *words: object) -> str:
    done = minirt(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def bad(minirt, *words: object) -> str:
    done = minirt(*words)
    assert done.returncode == 125 and done.stderr.count("\n") == 1, (done.returncode, done.stderr)
    return done.stderr


@pytest.fixture
def other(minirt):
    program = ["sh", "-c", "echo shared > /dev/shm/x; sleep 1000"]
    good(minirt, "run", "-d", "--name", "other", "--ipc", "shareable", "busybox", *program)
    yield minirt
    good(minirt, "rm", "-f", "other")


def test_the_processes_of_another_container(other) -> None:
    assert "sleep 1000" in other.sh("ps", "--pid", "container:other")
    mine, theirs = other.sh("readlink /proc/self/ns/pid", "--pid", "container:other"), other.sh("readlink /proc/self/ns/pid")
    pid = json.loads(good(other, "inspect", "other"))[0]["State"]["Pid"]
    assert mine == os.readlink(f"/proc/{pid}/ns/pid") != theirs


def test_the_shared_memory_of_another_container(other) -> None:
    script = "while ! test -s /dev/shm/x; do sleep 0.1; done; cat /dev/shm/x; readlink /proc/self/ns/ipc; echo back > /dev/shm/y"
    pid = json.loads(good(other, "inspect", "other"))[0]["State"]["Pid"]
    assert other.sh(script, "--ipc", "container:other").split() == ["shared", os.readlink(f"/proc/{pid}/ns/ipc")]
    assert good(other, "exec", "other", "cat", "/dev/shm/y") == "back"


def test_shared_memory_that_is_private_or_not_there(minirt) -> None:
    good(minirt, "run", "-d", "--name", "own", "busybox", "sleep", "1000")
    try:
        assert "shareable" in bad(minirt, "run", "--rm", "--ipc", "container:own", "busybox", "true")
        assert "does not run" in bad_stopped(minirt)
    finally:
        good(minirt, "rm", "-f", "own")
    assert minirt.sh("grep -c ' /dev/shm ' /proc/self/mountinfo || true", "--ipc", "none") == "0"


def bad_stopped(minirt) -> str:
    good(minirt, "create", "--name", "still", "busybox", "true")
    return bad(minirt, "run", "--rm", "--pid", "container:still", "busybox", "true")


def test_names(minirt) -> None:
    assert minirt.sh("cat /proc/sys/kernel/domainname", "--domainname", "example.org") == "example.org"
    hosts = minirt.sh("grep -w db /etc/hosts; grep six /etc/hosts", "--add-host", "db:10.1.2.3", "--add-host", "six=[fd00::1]")
    assert hosts.split() == ["10.1.2.3", "db", "fd00::1", "six"]
    assert "--add-host" in bad(minirt, "run", "--rm", "--add-host", "db:none", "busybox", "true")


def test_paths_of_proc_are_shown_or_hidden(minirt) -> None:
    script = "awk '$5 == \"/proc/sys\"' /proc/self/mountinfo | wc -l"  # its mount that makes it read-only
    assert minirt.sh(script) == "1"
    assert minirt.sh(script, "--security-opt", "systempaths=unconfined") == "0"
    assert minirt.sh(script, "--security-opt", "unmask=/proc/sys") == "0"
    assert minirt.sh("cat /etc/passwd | wc -c", "--security-opt", "mask=/etc/passwd") == "0"
    assert "seccomp" in bad(minirt, "run", "--security-opt", "nothing=1", "busybox", "true")
    assert "apparmor" in bad(minirt, "run", "--security-opt", "apparmor=mine", "busybox", "true")


def test_labels_and_annotations(minirt, tmp_path: Path) -> None:
    (tmp_path / "labels").write_text("# a comment\nfrom=file\nboth=file\n\n")
    words = ["--label-file", tmp_path / "labels", "--label", "both=flag", "--annotation", "org.x=1"]
    good(minirt, "create", "--name", "box", *words, "busybox", "true")
    (tmp_path / "labels").unlink()  # it was read when the container was made
    labels = json.loads(good(minirt, "inspect", "-f", "{{json .Config.Labels}}", "box"))
    assert (labels["from"], labels["both"]) == ("file", "flag")


def test_an_id_file_and_variables_from_a_file(minirt, tmp_path: Path) -> None:
    (tmp_path / "env").write_text("ONE=1\n#TWO=2\nPATH_OF_OURS\n")
    minirt.env["PATH_OF_OURS"] = "taken"
    good(minirt, "create", "--cidfile", tmp_path / "id", "--env-file", tmp_path / "env", "--name", "box", "busybox", "env")
    assert (tmp_path / "id").read_text() == good(minirt, "inspect", "-f", "{{.Id}}", "box")
    good(minirt, "start", "-a", "box")
    assert {"ONE=1", "PATH_OF_OURS=taken"} <= set(good(minirt, "logs", "box").splitlines())


@pytest.mark.parametrize("words", [("run",), ("run", "-d"), ("create",)])
def test_the_id_is_written_however_it_is_run(minirt, words: tuple[str, ...], tmp_path: Path) -> None:
    good(minirt, *words, "--cidfile", tmp_path / "id", "--name", "box", "busybox", "true")
    assert (tmp_path / "id").read_text() == good(minirt, "inspect", "-f", "{{.Id}}", "box")
    assert "is there already" in bad(minirt, *words, "--cidfile", tmp_path / "id", "busybox", "true")
    assert "No such file" in bad(minirt, *words, "--cidfile", tmp_path / "none" / "id", "busybox", "true")
    assert good(minirt, "ps", "-aq", "--no-trunc") == (tmp_path / "id").read_text(), "no other is left"
    good(minirt, "rm", "-f", "box")


def test_the_streams_that_we_are_at(minirt) -> None:
    done = minirt("run", "--rm", "-a", "stderr", "busybox", "sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == ("", "err\n")
    assert "--attach" in bad(minirt, "run", "-a", "nothing", "busybox", "true")


def test_limits_of_devices_in_dockers_words(minirt) -> None:
    good(minirt, "run", "--plan", "--device-read-bps", "/dev/null:1mb", "--device-write-iops", "/dev/null:7", "busybox", "true")
    assert "DEVICE:RATE" in bad(minirt, "run", "--device-read-bps", "1mb", "busybox", "true")
    assert "--device-cgroup-rule" in bad(minirt, "run", "--device-cgroup-rule", "x 1 r", "busybox", "true")


def test_all_devices_of_a_directory(minirt, tmp_path: Path) -> None:
    os.mknod(tmp_path / "zero", 0o666 | 0o020000, os.makedev(1, 5))
    (tmp_path / "sub").mkdir()
    os.mknod(tmp_path / "sub" / "null", 0o666 | 0o020000, os.makedev(1, 3))
    assert minirt.sh("head -c 3 /dev/mine/zero | wc -c; echo x > /dev/mine/sub/null", "--device", f"{tmp_path}:/dev/mine") == "3"
    assert "Container Device Interface" in bad(minirt, "run", "--device", "vendor.com/class=one", "busybox", "true")


def test_pull_says_whether_the_image_is_fetched(minirt) -> None:
    assert "no image named" in bad(minirt, "run", "--pull", "never", "--rm", "localhost:1/none", "true")
    done = minirt("run", "--rm", "localhost:1/none", "true")
    assert done.returncode == 125 and "localhost:1" in done.stderr and done.stderr.count("\n") == 1  # it was asked for there
