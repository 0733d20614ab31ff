"""The door without cffi says and does what cffi's does (csrc/plan/direct.c)."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from minirt.linux import constants as k
from minirt.linux import direct
from minirt.linux._sys import lib


def test_both_doors_know_the_same_constants() -> None:
    names = [name for name in dir(lib) if not name.startswith("plan_")]
    assert len(names) > 300 and {name: direct.constant(name) for name in names} == {name: getattr(lib, name) for name in names}
    with pytest.raises(KeyError, match="CLONE_NOTHING"):
        direct.constant("CLONE_NOTHING")
    with pytest.raises(AttributeError, match="no kernel constant CLONE_NOTHING"):
        _ = k.CLONE_NOTHING


def test_arguments_are_numbers_or_the_addresses_of_bytes(tmp_path) -> None:
    path = tmp_path / "file"
    fd = direct.syscall(k.SYS_openat, k.AT_FDCWD, os.fsencode(path), k.O_RDWR | os.O_CREAT, 0o600)
    assert direct.syscall(k.SYS_write, fd, b"text", 4) == 4 and path.read_text() == "text"
    room = bytearray(3)
    os.lseek(fd, 0, 0)
    assert direct.syscall(k.SYS_read, fd, room, len(room)) == 3 and room == b"tex"
    assert direct.syscall(k.SYS_read, fd, None, 1) == -errno.EFAULT and direct.syscall(k.SYS_close, -1) == -errno.EBADF
    os.close(fd)
    how = bytearray(24)
    fd = direct.syscall(k.SYS_openat2, k.AT_FDCWD, direct.address(b"/"), how, len(how))
    assert os.path.samestat(os.fstat(fd), os.stat("/"))
    os.close(fd)


@pytest.mark.parametrize("words", [(), (0,) * 8, ("read",), (0, "text"), (0, 1.5)])
def test_what_is_no_call_is_an_error_and_not_a_call(words: tuple[object, ...]) -> None:
    with pytest.raises(TypeError):
        direct.syscall(*words)


def test_a_message_takes_descriptors_along() -> None:
    pair = bytearray(8)
    assert direct.syscall(k.SYS_socketpair, k.AF_UNIX, k.SOCK_SEQPACKET | k.SOCK_CLOEXEC, 0, pair) == 0
    ours, theirs = (int.from_bytes(half, "little") for half in (pair[:4], pair[4:]))
    with open("/dev/null") as null:
        assert direct.send(ours, [null.fileno()]) == 0 and direct.send(ours, []) == 0
        message, fd = direct.receive(theirs)
        assert message == b"\1" and os.path.sameopenfile(fd, null.fileno())
    os.close(fd)
    assert direct.receive(theirs) == (b"\1", -1)
    os.close(ours)
    assert direct.receive(theirs) == (b"", -1)
    os.close(theirs)
    assert direct.receive(theirs) == (-errno.EBADF, -1) and direct.send(ours, []) == -errno.EBADF
    with pytest.raises(ValueError, match="more descriptors"):
        direct.send(ours, [0] * 254)
    with pytest.raises(TypeError):
        direct.send(ours, ["0"])


def test_the_path_of_a_start_does_without_cffi() -> None:
    """Two shared libraries less: that is what this door is for."""
    code = "import minirt.runtime.create, minirt.runtime.joining, minirt.plan.birth, minirt.linux.cgroup_bpf, sys\n" \
           "print('_cffi_backend' in sys.modules)"  # fmt: skip
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
