"""What a qcow2 file stands on is followed where it lies beside it, or was named; made by qemu-img, read back through its daemon."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minivm.boot import formats
from minivm.errors import MinivmError
from minivm.machine.config import Config, parse_disk
from minivm.machine.machine import Machine
from minivm.machine.qcow2 import block, chain

LIMIT = 60
SIZE = 1 << 20
tools = pytest.mark.skipif(not shutil.which("qemu-img"), reason="qemu-utils is not installed")
daemon = pytest.mark.skipif(
    not (shutil.which("qemu-storage-daemon") and os.access("/dev/fuse", os.R_OK | os.W_OK) and os.access("/dev/kvm", os.R_OK)),
    reason="qemu-storage-daemon, /dev/fuse or /dev/kvm is missing",
)
pytestmark = tools


def create(path: Path, base: str = "", form: str = "raw", *words: str) -> Path:
    """Make an image by qemu-img, whose base need not be there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    below = ["-u", "-b", base, "-F", form] if base else []
    command = ["qemu-img", "create", "-q", "-f", "qcow2", *below, *words, str(path), str(SIZE)]
    subprocess.run(command, check=True, timeout=LIMIT, cwd=path.parent)
    return path


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of the host's that no image is to show."""
    path = tmp_path / "host" / "secret"
    path.parent.mkdir()
    path.write_bytes(b"secret".ljust(SIZE, b"."))
    return path


def seen(words: str) -> bytes:
    """Return how the disk begins that a machine with these words has."""
    config = Config(disks=[parse_disk(words)])
    start = formats.prepare(formats.read_kernel(formats.default_kernel()), "auto", config.memory, "", virtio=1)
    with Machine(config, start) as made:
        made.build()
        return os.pread(made.transports[0].device._fd, 6, 0)


@daemon
def test_a_base_elsewhere_is_followed_when_it_is_named(secret, tmp_path):
    image = create(tmp_path / "images" / "x.qcow2", str(secret))
    with pytest.raises(MinivmError, match=f"--disk {image},base={secret}$"):
        seen(str(image))
    for base in (secret, secret.parent):
        assert seen(f"{image},base={base}") == b"secret"
    with pytest.raises(MinivmError, match="does not lie beside it"):
        seen(f"{image},base={tmp_path / 'hos'}")


@daemon
def test_bases_that_lie_beside_it_are_followed_down_to_the_last(secret, tmp_path):
    shutil.copy(secret, tmp_path / "images.raw")
    create(tmp_path / "a, b" / "middle", "../a, b/sub/bottom.img")
    (tmp_path / "a, b" / "sub").mkdir()
    shutil.copy(secret, tmp_path / "a, b" / "sub" / "bottom.img")
    top = create(tmp_path / "a, b" / "top.qcow2", "middle", "qcow2")
    assert seen(str(top)) == b"secret" == seen(f"{top},ro")
    assert [form for _, form in chain(str(top))] == ["qcow2", "qcow2", "raw"]


NAMES = ["link", ".ssh/id", "sub/../../host/secret", "nbd://localhost/x", 'json:{"driver":"file"}', "fifo"]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_beside_it_in_truth_is_refused(name, secret, tmp_path):
    image = create(tmp_path / "images" / "x.qcow2", name)
    (image.parent / "link").symlink_to(secret)
    (image.parent / ".ssh").mkdir()
    (image.parent / "sub").mkdir()
    os.mkfifo(image.parent / "fifo")
    shutil.copy(secret, image.parent / ".ssh" / "id")
    if name == "fifo":  # without a form in the image, one looks how it begins: and would wait
        data = bytearray(image.read_bytes())
        data[data.index(b"\xe2\x79\x2a\xca")] = 0x11
        image.write_bytes(data)
    command = [sys.executable, "-m", "minivm", "run", "--disk", str(image), "--timeout", "20"]
    done = subprocess.run(command, capture_output=True, text=True, input="", timeout=LIMIT)
    assert (done.returncode, done.stderr.count("\n")) == (125, 1), done.stderr
    assert "x.qcow2' stands on" in done.stderr or "is no file" in done.stderr


def test_other_forms_and_data_that_is_elsewhere_are_refused(tmp_path):
    """A VMDK names files, too; and so does a qcow2 whose data is in another file."""
    (tmp_path / "disk.vmdk").touch()
    with pytest.raises(MinivmError, match="form 'vmdk'"):
        chain(str(create(tmp_path / "a.qcow2", "disk.vmdk", "vmdk")))
    with pytest.raises(MinivmError, match="data in another file"):
        chain(str(create(tmp_path / "b.qcow2", "", "", "-o", "data_file=data.raw")))
    loop = create(tmp_path / "loop.qcow2", "loop.qcow2", "qcow2")
    with pytest.raises(MinivmError, match="on itself"):
        chain(str(loop))
    with pytest.raises(MinivmError, match="cannot read disk"):
        chain(str(create(tmp_path / "c.qcow2", "none", "qcow2")))


def test_qemu_is_told_each_file_and_where_they_end(tmp_path):
    (tmp_path / "raw").write_bytes(bytes(SIZE))
    create(tmp_path / "base", "raw")
    top = create(tmp_path / "top.qcow2", "base", "qcow2")
    made = block(str(top))
    assert made["backing"]["backing"]["file"]["filename"] == str(tmp_path / "raw") and "backing" not in made["backing"]["backing"]
    assert "read-only" not in made and made["backing"]["read-only"] and made["backing"]["backing"]["read-only"]
    assert block(str(create(tmp_path / "alone.qcow2")))["backing"] is None, "null: QEMU is to look for none"


@given(st.binary(max_size=300), st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.integers(2, 3))
@settings(deadline=None)
def test_a_header_may_be_anything(more, place, length, version):
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/x"
        Path(path).write_bytes(b"QFI\xfb" + struct.pack(">IQI", version, place, length) + bytes(52) + more)
        try:
            found = chain(path)
        except MinivmError as error:
            assert "\n" not in str(error)
            return
    assert found[0] == (path, "qcow2")
