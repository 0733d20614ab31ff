"""qcow2 by way of qemu-storage-daemon: what is written through it is in the qcow2 file."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from minivm.boot import formats
from minivm.errors import MinivmError
from minivm.machine import helpers
from minivm.machine.config import Config
from minivm.machine.devices import parse_disk
from minivm.machine.machine import Machine

pytestmark = [
    pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="/dev/kvm is missing or not ours to open"),
    pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="/dev/fuse is missing or not ours to open"),
    pytest.mark.skipif(shutil.which("qemu-storage-daemon") is None, reason="qemu-system-common is not installed"),
]


def machine(words):
    config = Config(disks=[parse_disk(words)])
    start = formats.prepare(formats.read_kernel(formats.default_kernel()), "auto", config.memory, "", virtio=1)
    return Machine(config, start)


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "disk, with a comma.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "8M"], check=True)
    return path


def map_of(image):
    """Return qemu's reading of sectors 8 and on."""
    words = ["qemu-io", "-r", "-c", "read -P 0x5a 4096 4096", str(image)]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout


def test_a_qcow2_disk_is_written_to_by_its_format(image):
    with machine(str(image)) as made:
        made.build()
        blk = made.transports[0].device
        assert blk._size == 8 << 20
        os.pwrite(blk._fd, b"\x5a" * 4096, 4096)
        os.fdatasync(blk._fd)
        shown = made.made.shown_as[str(image)]
    assert "read 4096/4096" in map_of(image) and "verification failed" not in map_of(image)
    assert not os.path.exists(os.path.dirname(shown)), "nothing is left of it"


def test_under_an_overlay_it_is_only_read(image):
    before = image.read_bytes()
    with machine(f"{image},overlay") as made:
        made.build()
        with pytest.raises(OSError, match="descriptor"):
            os.pwrite(made.transports[0].device._fd, b"x", 0)
    assert image.read_bytes() == before


def test_a_daemon_that_is_quick_is_not_waited_for(image, monkeypatch):
    """One that shows the disk before anything else happens here."""
    spawn = helpers.spawn

    def quick(words, fds):
        process, disk = spawn(words, fds), next(re.findall("mountpoint=(.*),", word) for word in words if "mountpoint" in word)[0]
        while f" {disk} " not in Path("/proc/self/mountinfo").read_text():
            assert process.poll() is None
        return process

    monkeypatch.setattr(helpers, "spawn", quick)
    with machine(str(image)) as made:
        made.build()
        assert made.transports[0].device._size == 8 << 20


def test_what_is_no_qcow2_is_said_so(tmp_path):
    path = tmp_path / "x.qcow2"
    path.write_bytes(bytes(1 << 20))
    with machine(str(path)) as made, pytest.raises(MinivmError, match="qcow2 format"):
        made.build()
