"""Which devices a container may use: the node alone gives nothing, the group's filter decides (bpf, BPF_CGROUP_DEVICE)."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from command import Minirt

from minirt.linux.cgroup2 import find_mount

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="a device filter needs CAP_SYS_ADMIN"),
    pytest.mark.skipif(not find_mount(), reason="cgroup v2 is not mounted: a filter belongs to one of its groups"),
]
CANDIDATES = ("/dev/fuse", "/dev/kvm", "/dev/net/tun", "/dev/kmsg", "/dev/loop-control", "/dev/hpet")


@pytest.fixture(scope="module")
def device() -> tuple[str, int, int]:
    """A character device of the host that a container has not by default, and that we may open."""
    for path in CANDIDATES:
        try:
            os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))
        except OSError:
            continue
        number = Path(path).stat().st_rdev
        assert stat.S_ISCHR(Path(path).stat().st_mode)
        return path, os.major(number), os.minor(number)
    pytest.skip(f"none of {', '.join(CANDIDATES)} can be opened on this host")


def test_a_node_that_root_makes_for_itself_opens_nothing(minirt: Minirt, device: tuple[str, int, int]) -> None:
    _, major, minor = device
    script = f"mknod /node c {major} {minor}; (exec 3</node) 2>&1 || true; test -c /node; echo x >/dev/null; echo fine"
    out = minirt.sh(script)
    assert out.splitlines() == ["sh: can't open /node: Operation not permitted", "fine"]


def test_a_device_that_was_asked_for_can_be_opened(minirt: Minirt, device: tuple[str, int, int]) -> None:
    assert minirt.sh(f"exec 3<>{device[0]} && echo open", "--device", device[0]) == "open"


def test_the_access_that_was_asked_for_is_all_there_is(minirt: Minirt, device: tuple[str, int, int]) -> None:
    out = minirt.sh(f"exec 3<{device[0]} && echo read; (exec 3>{device[0]}) 2>&1 || true", "--device", f"{device[0]}:r")
    assert out.splitlines() == ["read", f"sh: can't create {device[0]}: Operation not permitted"]


def test_a_privileged_container_may_use_all(minirt: Minirt, device: tuple[str, int, int]) -> None:
    _, major, minor = device
    assert minirt.sh(f"mknod /node c {major} {minor}; exec 3<>/node && echo open", "--privileged") == "open"


def test_an_access_that_does_not_exist_is_an_error(minirt: Minirt) -> None:
    done = minirt("run", "--device", "/dev/null:x", "busybox", "true")
    assert done.returncode == 125
    assert done.stderr == "minirt: --device /dev/null:x: 'x' is no access: letters of rwm, for read, write and mknod\n"
