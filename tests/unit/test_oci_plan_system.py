"""Names of settings, rtnetlink messages, what a seccomp agent is told, copies of directories. No root."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minirt.errors import MinirtError
from minirt.linux import rtnetlink
from minirt.linux.copytree import copy_tree
from minirt.linux.files import make_in_root, open_in_root
from minirt.linux.seccomp.listener import listener_message, refuse_deadlock
from minirt.oci.rootfs import whole_views
from minirt.oci.system import sysctl_path

WORDS = st.lists(st.text("abcxyz0189_-", min_size=1), min_size=1)


@given(WORDS)
def test_a_setting_s_name_is_the_same_with_dots_and_with_slashes(words: list[str]) -> None:
    assert sysctl_path(".".join(words)) == sysctl_path("/".join(words)) == "/".join(words)


@pytest.mark.parametrize("name", ["net.ipv4.conf.eth0/100.forwarding", "net/ipv4/conf/eth0.100/forwarding"])
def test_the_first_separator_decides(name: str) -> None:
    assert sysctl_path(name) == "net/ipv4/conf/eth0.100/forwarding"


@given(st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=40))))
def test_attributes_come_back_as_they_were(attributes: list[tuple[int, bytes]]) -> None:
    packed = b"".join(rtnetlink.attribute(kind, data) for kind, data in attributes)
    assert len(packed) % 4 == 0
    assert rtnetlink.parse(packed) == attributes


@given(st.binary(max_size=200))
def test_damaged_attributes_end_it(data: bytes) -> None:
    for _, part in rtnetlink.parse(data):
        assert len(part) <= len(data)


def test_the_kernel_names_its_interfaces() -> None:
    fd = rtnetlink.open_socket()
    try:
        for name in os.listdir("/sys/class/net"):
            index = int(Path(f"/sys/class/net/{name}/ifindex").read_text())
            assert rtnetlink.find(fd, name) == index and index in rtnetlink.indexes(fd)
        assert rtnetlink.find(fd, "no-such") == 0
        one = rtnetlink.find(fd, "lo")
        assert all(address.scope == 0 for address in rtnetlink.addresses(fd, one))
    finally:
        os.close(fd)


def test_an_error_of_the_kernel_s_has_its_errno() -> None:
    fd = rtnetlink.open_socket()
    try:
        with pytest.raises(OSError) as failure:
            rtnetlink.set_up(fd, 0x7FFFFFF0)
        assert failure.value.errno in (1, 19)  # EPERM without root, else ENODEV
    finally:
        os.close(fd)


def test_the_agent_is_told_whose_the_listener_is() -> None:
    state = {"ociVersion": "1.3.0", "id": "c", "status": "creating", "pid": 7, "bundle": "/b"}
    message = json.loads(listener_message(7, state, "mine"))
    assert message == {"ociVersion": "1.3.0", "fds": ["seccompFd"], "pid": 7, "metadata": "mine", "state": state}
    assert "metadata" not in json.loads(listener_message(7, state))


NOTIFY = "SCMP_ACT_NOTIFY"


@pytest.mark.parametrize(("profile", "place"), [
    ({"defaultAction": NOTIFY, "listenerPath": "/x"}, "defaultAction"),
    ({"syscalls": [{"names": ["open", "write"], "action": NOTIFY}], "listenerPath": "/x"}, r"syscalls\[0\].*write"),
    ({"syscalls": [{"names": ["a"], "action": "SCMP_ACT_LOG"}, {"names": ["read"], "action": NOTIFY}], "listenerPath": "/x"},
     r"syscalls\[1\].*read"),
    ({"syscalls": [{"names": ["open"], "action": NOTIFY}]}, "listenerPath: missing"),
])  # fmt: skip
def test_what_nobody_could_answer_is_refused(profile: dict[str, object], place: str) -> None:
    with pytest.raises(MinirtError, match=f"linux.seccomp.{place}"):
        refuse_deadlock({"defaultAction": "SCMP_ACT_ALLOW", **profile})


def test_others_are_taken() -> None:
    refuse_deadlock({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["write"], "action": "SCMP_ACT_LOG"}]})
    refuse_deadlock({"defaultAction": NOTIFY.replace("NOTIFY", "LOG"), "listenerPath": "/x",
                     "syscalls": [{"names": ["open"], "action": NOTIFY}]})  # fmt: skip


def test_a_copy_has_the_same_content(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    (old / "a" / "b").mkdir(parents=True)
    new.mkdir()
    (old / "a" / "file").write_bytes(os.urandom(300000))
    (old / "a" / "file").chmod(0o751)
    (old / "a" / "b").chmod(0o700)
    (old / "link").symlink_to("a/file")
    os.mkfifo(old / "fifo", 0o640)
    fds = [os.open(path, os.O_RDONLY) for path in (old, new)]
    copy_tree(*fds)
    for fd in fds:
        os.close(fd)
    assert (new / "a" / "file").read_bytes() == (old / "a" / "file").read_bytes()
    assert os.readlink(new / "link") == "a/file"
    for name in ("a", "a/b", "a/file", "fifo"):
        assert os.stat(new / name).st_mode == os.stat(old / name).st_mode
    assert os.stat(new / "a" / "file").st_mtime_ns == os.stat(old / "a" / "file").st_mtime_ns


def test_a_link_that_a_directory_was_exchanged_for_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new, victim = (tmp_path / name for name in ("old", "new", "victim"))
    for path in (old / "d", new, victim):
        path.mkdir(parents=True)
    (victim / "secret").write_text("")
    seen = os.stat

    def exchange(path, **more):  # type: ignore[no-untyped-def]
        found = seen(path, **more)
        if path == "d" and not os.path.islink(old / "d"):
            os.rmdir(old / "d")
            os.symlink(victim, old / "d")
        return found

    monkeypatch.setattr(os, "stat", exchange)
    fds = [os.open(path, os.O_RDONLY) for path in (old, new)]
    with pytest.raises(OSError):
        copy_tree(*fds)
    for fd in fds:
        os.close(fd)
    assert not (new / "d" / "secret").exists()


def test_the_host_s_whole_proc_and_sys_are_found() -> None:
    found = whole_views("/nowhere")
    lines = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    wanted = [w[4] for w in lines if w[w.index("-") + 1] in ("proc", "sysfs") and w[3] == "/"]
    assert sorted(set(found)) == sorted(set(wanted))
    assert whole_views("/proc") == [point for point in found if point != "/proc"]


NAMES = st.sampled_from(["a", "b", "..", ".", "c"])


@settings(deadline=None, max_examples=200)
@given(
    links=st.dictionaries(
        st.sampled_from(["a", "b", "a/b", "c"]), st.tuples(st.booleans(), st.lists(NAMES, min_size=1, max_size=4)), max_size=3
    ),
    path=st.lists(NAMES, min_size=1, max_size=5),
    directory=st.booleans(),
)
def test_what_is_made_in_a_root_is_in_it(links: dict[str, tuple[bool, list[str]]], path: list[str], directory: bool) -> None:
    """And it is what the path leads to, as the kernel follows it with the root as /."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "x" / "root"
        root.mkdir(parents=True)
        for name, (absolute, target) in links.items():
            link = root / name
            if link.parent.is_dir() and not link.parent.is_symlink() and not link.is_symlink():
                link.symlink_to(("/" if absolute else "") + "/".join(target))
        before = sorted(os.listdir(place)), sorted(os.listdir(root.parent))
        fd = os.open(root, os.O_PATH)
        try:
            make_in_root(fd, "/".join(path), directory, (os.geteuid(), os.getegid()))
        except OSError:
            pass  # a circle, or a file in the way
        else:
            made = open_in_root(fd, "/".join(path), os.O_PATH)
            assert stat.S_ISDIR(os.fstat(made).st_mode) or not directory
            os.close(made)
        finally:
            os.close(fd)
        assert (sorted(os.listdir(place)), sorted(os.listdir(root.parent))) == before
