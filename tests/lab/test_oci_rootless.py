"""`minirt oci` as an ordinary user with subordinate ids: the whole life, and limits where a subtree was delegated."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

USER, UID, FIRST, COUNT = "student", 1234, 200000, 65536
TREE = Path("/sys/fs/cgroup")
HOME = Path("/run/student")


class Student:
    """An unprivileged user with a bundle."""

    def __init__(self) -> None:
        rootfs = HOME / "bundle" / "rootfs"
        (rootfs / "bin").mkdir(parents=True)
        busybox = shutil.which("busybox")
        assert busybox
        shutil.copy(busybox, rootfs / "bin" / "busybox")
        for name in ("sh", "cat", "id", "sleep"):
            (rootfs / "bin" / name).symlink_to("busybox")
        self.cgroup = ""

    def configure(self, *args: str, **linux: Any) -> None:
        from minirt.oci.spec import default_spec

        config = default_spec()
        config["process"].update(args=list(args), env=["PATH=/bin"])
        config["linux"]["namespaces"].append({"type": "user"})
        for kind in ("uidMappings", "gidMappings"):
            config["linux"][kind] = [
                {"containerID": 0, "hostID": UID, "size": 1}, {"containerID": 1, "hostID": FIRST, "size": COUNT - 1}]  # fmt: skip
        config["linux"].update(linux)
        (HOME / "bundle" / "config.json").write_text(json.dumps(config))
        subprocess.run(["chown", "-R", USER, HOME], check=True)

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the command as the user, in its delegated cgroup if there is one."""

        def become() -> None:
            if self.cgroup:
                Path(self.cgroup, "cgroup.procs").write_text(str(os.getpid()))
            os.setgroups([])
            os.setresgid(UID, UID, UID)
            os.setresuid(UID, UID, UID)

        environment = {**os.environ, "HOME": str(HOME), "XDG_RUNTIME_DIR": str(HOME), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", "minirt", "oci", *words]
        out, err = HOME.parent / "student.out", HOME.parent / "student.err"
        with out.open("w") as stdout, err.open("w") as stderr:  # files: a container that goes on holds no pipe of ours
            code = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, preexec_fn=become,
                                  env=environment, timeout=100, check=False).returncode  # fmt: skip
        return subprocess.CompletedProcess(command, code, out.read_text(), err.read_text())


@pytest.fixture
def student() -> Iterator[Student]:
    subprocess.run(["useradd", "-u", str(UID), "-U", "-d", HOME, USER], check=True)
    for file in ("/etc/subuid", "/etc/subgid"):
        Path(file).write_text(f"{USER}:{FIRST}:{COUNT}\n")
    yield Student()
    shutil.rmtree(HOME, ignore_errors=True)
    subprocess.run(["userdel", USER], check=False)


def test_a_user_s_container_has_its_subordinate_ids(student: Student) -> None:
    student.configure("sleep", "1000")
    done = student("create", "-b", f"{HOME}/bundle", "box")
    assert done.returncode == 0, done.stderr
    pid = json.loads(student("state", "box").stdout)["pid"]
    assert Path(f"/proc/{pid}/uid_map").read_text().split() == ["0", str(UID), "1", "1", str(FIRST), str(COUNT - 1)]
    assert student("start", "box").returncode == 0
    inside = student("exec", "-u", "5:6", "box", "sh", "-c", "id -u; cat /proc/1/cmdline").stdout
    assert inside.startswith("5\n") and "sleep" in inside
    assert student("delete", "--force", "box").returncode == 0
    assert not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    assert not list(HOME.rglob("state.json"))


def test_a_limit_needs_a_delegated_subtree(student: Student) -> None:
    student.configure("cat", "/proc/self/cgroup", resources={"pids": {"limit": 23}})
    done = student("run", "-b", f"{HOME}/bundle", "box")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and "pids" in done.stderr

    (TREE / "cgroup.subtree_control").write_text("+pids +memory")
    delegated = TREE / "student"
    delegated.mkdir()
    student.cgroup = str(delegated / "session")
    (delegated / "session").mkdir()
    subprocess.run(["chown", "-R", USER, delegated], check=True)
    try:
        student.configure("sh", "-c", "cat /sys/fs/cgroup/pids.max", resources={"pids": {"limit": 23}})
        done = student("run", "-b", f"{HOME}/bundle", "box")
        assert (done.returncode, done.stdout) == (0, "23\n"), done.stderr
    finally:
        for directory, _, _ in os.walk(delegated, topdown=False):
            os.rmdir(directory)
