"""A hostile neighbour: a second container that shares a pid namespace or a file system with one that is being made, and an
image with files that are not what they seem. Each attack is seen to work without its guard.
"""

from __future__ import annotations

import ctypes
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_oci_exec_attacks import PR_GET_DUMPABLE
from test_oci_kills import forked
from test_oci_runtime import Runtime, oci  # noqa: F401

from minirt.linux import constants as k
from minirt.linux import copytree, files

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="making a container's namespaces needs CAP_SYS_ADMIN"),
]
GRANTED = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_KILL"]  # as of docker and podman: no CAP_SYS_PTRACE


@pytest.fixture(params=[True, False], ids=["guarded", "unguarded"])
def guarded(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def neighbour(oci: Runtime) -> Iterator[Runtime]:  # noqa: F811
    """A container that runs, for another to share its pid namespace: a pod's."""
    oci.config["process"]["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), GRANTED)
    oci.create()
    oci.good("start", "box")
    yield oci


def test_who_waits_for_its_start_is_closed_to_the_pod_s_other_containers(
    neighbour: Runtime, guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its descriptors of the cgroup and of the FIFO of the start lead to the host's files, all the time until `start`."""
    if not guarded:
        monkeypatch.setattr(k, "PR_SET_DUMPABLE", PR_GET_DUMPABLE)
    with tempfile.TemporaryDirectory(prefix="minirt-oci-", dir="/var/tmp") as place:
        other = Runtime(Path(place))
        other.config["process"]["capabilities"] = neighbour.config["process"]["capabilities"]
        other.bundle.share("pid")
        other.bundle.linux["namespaces"].append({"type": "pid", "path": f"/proc/{neighbour.pid}/ns/pid"})
        other.write()
        assert forked(other, ["create", "-b", other.bundle.path, "box"]) == 0
        try:
            inside = int(Path(f"/proc/{other.pid}/status").read_text().partition("NSpid:")[2].split()[1])
            script = f"ls -l /proc/{inside}/exe /proc/{inside}/fd; true"
            seen = neighbour.good("exec", "box", "sh", "-c", script)
            assert ("exec.fifo" in seen) is ("memfd:minirt-executor" in seen) is not guarded
        finally:
            assert forked(other, ["delete", "--force", "box"]) == 0


# -- files that are not what they seem ----------------------------------------------------------------------------


class Opened:
    """Tells whether somebody has opened a file, but for its path alone (man 7 inotify, IN_OPEN)."""

    def __init__(self, path: Path) -> None:
        libc = ctypes.CDLL(None)
        self.fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert libc.inotify_add_watch(self.fd, os.fsencode(path), 0x20) > 0

    def __bool__(self) -> bool:
        try:
            return bool(os.read(self.fd, 4096))
        except BlockingIOError:
            return False
        finally:
            os.close(self.fd)


def careless(fd: int) -> int:
    """What open_regular is without its look."""
    return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def test_what_is_no_regular_file_is_not_opened_to_look_for_a_user(
    oci: Runtime, guarded: bool, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:
    """A container with CAP_MKNOD leaves a device as its /etc/passwd, and is started again: opening may be enough, as of a
    watchdog, and the device filter is not the runtime's. (Here a FIFO.)
    """
    if not guarded:
        monkeypatch.setattr(files, "open_regular", careless)
    fifo = oci.bundle.rootfs / "etc" / "passwd"
    fifo.parent.mkdir()
    os.mkfifo(fifo)
    opened = Opened(fifo)
    oci.config["process"]["env"] = ["PATH=/bin"]  # without HOME, which /etc/passwd knows
    oci.write()
    assert forked(oci, ["create", "-b", oci.bundle.path, "box"]) == 0
    assert bool(opened) is not guarded


def test_a_device_in_a_file_s_place_is_not_opened_to_copy_it(
    tmp_path: Path, guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """tmpcopyup, while somebody who shares the image exchanges a file for something else after the look at it."""
    if not guarded:
        monkeypatch.setattr(copytree, "open_regular", careless)
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    (source / "file").write_text("text")
    plain = os.stat(source / "file")
    os.remove(source / "file")
    os.mkfifo(source / "file")
    stat = os.stat
    monkeypatch.setattr(copytree.os, "stat", lambda name, **how: plain if name == "file" else stat(name, **how))
    opened = Opened(source / "file")
    old, new = (os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (source, target))
    try:
        copytree.copy_tree(old, new)
    except OSError:
        pass
    assert bool(opened) is not guarded
    os.close(old)
    os.close(new)


def by_name(folder: int, name: str, directory: bool, owner: tuple[int, int]) -> None:
    """What files._make is without descriptors."""
    os.mkdir(name, 0o755, dir_fd=folder)
    os.chmod(name, 0o755, dir_fd=folder)


def test_a_directory_that_is_exchanged_for_a_link_gives_the_host_s_file_no_mode(
    tmp_path: Path, guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """minirt makes a mount's target in the image, with the host's / as its own; a neighbour has the image, too."""
    if not guarded:
        monkeypatch.setattr(files, "_make", by_name)
    root, secret = tmp_path / "root", tmp_path / "secret"
    root.mkdir()
    secret.write_text("of the host")
    secret.chmod(0o600)
    mkdir = os.mkdir

    def exchanged(name: str, mode: int, dir_fd: int) -> None:
        mkdir(name, mode, dir_fd=dir_fd)
        os.rmdir(name, dir_fd=dir_fd)
        os.symlink(secret, name, dir_fd=dir_fd)

    monkeypatch.setattr(files.os, "mkdir", exchanged)
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        files.make_in_root(fd, "/new", directory=True)
    except OSError:
        pass
    os.close(fd)
    assert secret.stat().st_mode & 0o777 == (0o600 if guarded else 0o755)
