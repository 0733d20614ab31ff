"""A hostile container and a process that joins it: what `exec` must not bring along from the host.

Each guard is a record of the plan of minirt/oci/join.py; where it can be taken out, the attack is seen to work without it.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from test_oci_runtime import Runtime

from minirt.linux import constants as k
from minirt.oci import join, joined
from minirt.oci.step import Context
from minirt.plan import Plan
from minirt.plan import executor as executors
from minirt.plan.birth import Birth

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="making a container's namespaces needs CAP_SYS_ADMIN"),
]


@pytest.fixture
def running() -> Iterator[Runtime]:
    with tempfile.TemporaryDirectory(prefix="minirt-oci-", dir="/var/tmp") as place:
        os.chmod(place, 0o755)
        runtime = Runtime(Path(place))
        # Not CAP_SYS_PTRACE, which docker and podman do not give either: nothing is closed to who has that.
        granted = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_SETUID", "CAP_SETGID", "CAP_KILL", "CAP_MKNOD"]
        sets = ("bounding", "effective", "permitted")
        runtime.config["process"]["capabilities"] = {kind: granted for kind in sets}  # noqa: C420
        runtime.create()
        runtime.good("start", "box")
        yield runtime
        runtime("delete", "--force", "box")
        assert runtime.left() == []


@pytest.mark.parametrize("fd", range(3, 12))
def test_no_descriptor_of_the_host_is_a_working_directory(running: Runtime, fd: int) -> None:
    """CVE-2024-21626: a working directory /proc/self/fd/N that leads to the host's file system."""
    done = running("exec", "--cwd", f"/proc/self/fd/{fd}", "box", "sh", "-c", "cat ../../../etc/hostname; ls ../../..")
    assert done.returncode == 255 and done.stdout == ""


def test_without_the_guard_such_a_working_directory_is_the_host_s(running: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same plan with chdir in place of openat2 and its RESOLVE_NO_MAGICLINKS, and a directory left open as runc had."""

    def careless(p: Plan, c: Context) -> None:
        p.step("workdir")
        p.chdir(c.process["cwd"])

    order = [careless if step is joined.working_directory else step for step in joined.ORDER]
    monkeypatch.setattr(joined, "ORDER", tuple(order))
    host = os.open("/", os.O_PATH | os.O_DIRECTORY)
    mine = os.stat("/").st_ino, os.stat("/").st_dev
    config = {**running.config, "process": {**running.config["process"], "cwd": "/proc/self/fd/3", "args": ["/bin/sleep", "5"],
                                            "env": ["HOME=/", "PATH=/bin"]}}  # fmt: skip
    context = Context(config, str(running.bundle.path), join=running.pid, new_keyring=False)
    plan = join.begin_join(context, 1)
    with Birth(plan, (0, 1, 2, host), rest=lambda plan: join.finish_join(plan, context)) as birth:
        for _ in birth.barriers():
            pass
        there = os.stat(f"/proc/{birth.pid}/cwd")
        assert (there.st_ino, there.st_dev) == mine
    os.close(host)


def test_the_program_has_no_descriptors_but_its_own(running: Runtime) -> None:
    """ls's own descriptor of the directory besides; what the runtime opened on the way is close-on-exec."""
    assert running.good("exec", "box", "sh", "-c", "exec ls /proc/self/fd").split() == ["0", "1", "2", "3"]


def test_the_executor_cannot_be_overwritten_from_the_container(running: Runtime) -> None:
    """CVE-2019-5736: an image whose program is /proc/self/exe again; the container then writes to the runtime's own file."""
    trap = running.bundle.rootfs / "bin" / "trap"
    trap.write_text("#!/proc/self/exe\n")
    trap.chmod(0o755)
    done = running("exec", "box", "/bin/trap")
    assert done.returncode != 0
    # While one waits, its /proc/PID/exe is the sealed file: nobody can write to it, not even root of the host.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
        other = Runtime(Path(place))
        other.create()
        exe = f"/proc/{other.pid}/exe"
        assert os.readlink(exe).startswith("/memfd:minirt-executor")
        with pytest.raises(OSError) as caught:
            os.close(os.open(exe, os.O_RDWR))
        assert caught.value.errno in (errno.ETXTBSY, errno.EACCES)
        copy = os.open(exe, os.O_RDONLY)
        other("delete", "--force", "box")
        writable = -1
        try:
            writable = os.open(f"/proc/self/fd/{copy}", os.O_RDWR)
            with pytest.raises(PermissionError):  # F_SEAL_WRITE
                os.write(writable, b"evil")
        except OSError as error:
            assert error.errno in (errno.ETXTBSY, errno.EACCES)
        finally:
            for fd in (copy, writable):
                if fd >= 0:
                    os.close(fd)


LOOK = """
for p in /proc/[0-9]*; do
    case $p in /proc/1|/proc/$$) continue;; esac
    ls -l $p/exe $p/fd; true
done
"""


@pytest.mark.parametrize("guarded", [True, False], ids=["guarded", "unguarded"])
def test_the_container_cannot_look_into_who_joins(running: Runtime, guarded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until its execve it is not dumpable: its /proc/PID belongs to the host's root, its memory is closed (man 2 ptrace).

    Here it stands just before that, with the container's own rights. Of what it has open until then a name is enough.
    """
    if not guarded:
        monkeypatch.setattr(k, "PR_SET_DUMPABLE", PR_GET_DUMPABLE)
    process = {**running.config["process"], "args": ["/bin/true"], "env": ["HOME=/"], "cwd": "/"}
    context = Context({**running.config, "process": process}, str(running.bundle.path), join=running.pid, new_keyring=False,
                      created=True)  # fmt: skip
    secret = os.open(running.path, os.O_PATH | os.O_CLOEXEC)
    plan = join.begin_join(context, 1)
    with Birth(plan, (0, 1, 2, secret), rest=lambda plan: join.finish_join(plan, context)) as birth:
        for name in birth.barriers():
            if name == "created":
                seen = running.good("exec", "box", "sh", "-c", LOOK)
                assert ("memfd:minirt-executor" in seen) is (running.path.name in seen) is not guarded
    os.close(secret)


PR_GET_DUMPABLE = 3  # asks, and changes nothing


@pytest.mark.parametrize("guarded", [True, False], ids=["guarded", "unguarded"])
def test_who_has_the_executor_open_cannot_change_it(guarded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """CVE-2019-5736: /proc/PID/exe outlives its process in a descriptor, and then no ETXTBSY is in the way."""
    monkeypatch.setattr(executors, "_executor", -1)
    if not guarded:
        monkeypatch.setattr(executors.k, "F_SEAL_WRITE", 0)
    with Birth(Plan().barrier("waits").exit_group(0)) as birth:
        next(iter(birth.barriers()))
        exe = os.open(f"/proc/{birth.pid}/exe", os.O_RDONLY)
    try:
        with pytest.raises(PermissionError) if guarded else nullcontext():
            os.write(os.open(f"/proc/self/fd/{exe}", os.O_RDWR | os.O_CLOEXEC), b"evil")
        assert (os.pread(executors.executor(), 4, 0) == b"evil") is not guarded, "what the next container would begin with"
    finally:
        os.close(exe)


def test_a_joining_process_is_not_dumpable_before_it_is_in_the_container() -> None:
    context = Context({"process": {"args": ["/x"], "cwd": "/", "env": ["HOME=/"]}}, "/", join=os.getpid())
    records = join.begin_join(context).records
    names = [record.call for record in records]
    closed = next(i for i, r in enumerate(records) if r.call == "prctl" and r.args[:2] == (k.PR_SET_DUMPABLE, 0))
    assert closed < names.index("clone3")
