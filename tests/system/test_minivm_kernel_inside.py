"""A kernel in a disk: in whichever partition it is, the newest, by GPT, a PC's table or none; or why there is none, in a line."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minivm.kernels.inside import partitions

LIMIT = 60
MIB = 1 << 20
LINUX = uuid.UUID("0FC63DAF-8483-4772-8E79-3D69D8477DE4").bytes_le
PATH = os.environ["PATH"] + ":/usr/sbin:/sbin"
MKFS = shutil.which("mke2fs", path=PATH)
pytestmark = pytest.mark.skipif(not (MKFS and shutil.which("debugfs", path=PATH)), reason="e2fsprogs is not installed")


def file_system(path: Path, files: dict[str, bytes], size: str = "4m") -> bytes:
    """Return an ext4 with these files."""
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    disk = path.with_suffix(".ext4")
    subprocess.run([MKFS, "-q", "-t", "ext4", "-d", path, disk, size], check=True, timeout=LIMIT)
    return disk.read_bytes()


def gpt(parts: dict[int, tuple[int, bytes]]) -> bytes:
    """Return a disk with partitions: number -> (first MiB, what is in it). Simplified: without the sums that firmware checks."""
    table = bytearray(128 * 128)
    for number, (start, data) in parts.items():
        entry = struct.pack("<16s16sQQ", LINUX, bytes(16), start * 2048, start * 2048 + len(data) // 512 - 1)
        table[128 * (number - 1) : 128 * (number - 1) + len(entry)] = entry
    disk = bytearray(max(start * MIB + len(data) for start, data in parts.values()) + MIB)
    disk[446:462] = struct.pack("<B3sB3sII", 0, b"", 0xEE, b"", 1, len(disk) // 512 - 1)
    disk[510:512] = b"\x55\xaa"
    disk[512:604] = struct.pack("<8sIIIIQQQQ16sQII", b"EFI PART", 0x10000, 92, 0, 0, 1, 0, 34, 0, bytes(16), 2, 128, 128) + bytes(4)
    disk[1024 : 1024 + len(table)] = table
    for start, data in parts.values():
        disk[start * MIB : start * MIB + len(data)] = data
    return bytes(disk)


def extract(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "minivm", "kernel", "extract", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, input="", timeout=LIMIT, cwd=cwd)


def found(*words: object, cwd: Path) -> dict[str, str]:
    done = extract(*words, "--format", "json", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_newest_kernel_of_a_cloud_image_and_its_initrd(tmp_path):
    files = {f"boot/{name}-6.1.0-{n}-cloud-amd64": f"{name} {n}".encode() for name in ("vmlinuz", "initrd.img") for n in (9, 10)}
    root = file_system(tmp_path / "root", files | {"etc/hostname": b"box\n", "boot/vmlinuz": b"", "boot/config-7.0": b"no kernel"})
    (tmp_path / "disk.raw").write_bytes(gpt({1: (8, root), 14: (1, bytes(MIB)), 15: (2, bytes(MIB))}))
    out = tmp_path / "out"
    out.mkdir()
    said = found("disk.raw", "out", cwd=tmp_path)
    assert said == {
        "kernel": "out/vmlinuz-6.1.0-10-cloud-amd64", "initrd": "out/initrd.img-6.1.0-10-cloud-amd64", "root": "/dev/vda1",
    }  # fmt: skip
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        "vmlinuz-6.1.0-10-cloud-amd64": b"vmlinuz 10", "initrd.img-6.1.0-10-cloud-amd64": b"initrd.img 10",
    }  # fmt: skip
    again = extract("disk.raw", "out", cwd=tmp_path)
    assert (again.returncode, again.stderr.count("\n")) == (125, 1) and "not overwritten" in again.stderr
    assert len(list(out.iterdir())) == 2, "nothing is left beside them"


@pytest.mark.skipif(not shutil.which("qemu-img"), reason="qemu-utils is not installed")
def test_boot_may_be_a_partition_of_its_own_and_the_disk_qcow2(tmp_path):
    boot = file_system(tmp_path / "boot", {"vmlinuz-5.14.0": b"kernel", "initramfs-5.14.0.img": b"initrd"})
    root = file_system(tmp_path / "root", {"etc/fstab": b"", "boot/grub.txt": b""})
    (tmp_path / "raw").write_bytes(gpt({2: (1, boot), 4: (8, root)}))
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", "raw", "a,b.qcow2"], cwd=tmp_path, check=True, timeout=LIMIT)
    top = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", tmp_path / "a,b.qcow2", "-F", "qcow2", "top.qcow2"]
    (tmp_path / "other").mkdir()
    subprocess.run(top, cwd=tmp_path / "other", check=True, timeout=LIMIT)
    refused = extract("top.qcow2", cwd=tmp_path / "other")
    assert refused.returncode == 125 and "does not lie beside it" in refused.stderr
    assert found(f"top.qcow2,base={tmp_path}", cwd=tmp_path / "other")["kernel"] == "./vmlinuz-5.14.0"
    said = found("a,b.qcow2", cwd=tmp_path)
    assert said == {"kernel": "./vmlinuz-5.14.0", "initrd": "./initramfs-5.14.0.img", "root": "/dev/vda4"}


def test_a_pcs_table_and_a_disk_without_one(tmp_path):
    root = file_system(tmp_path / "root", {"etc/fstab": b"", "boot/vmlinuz-6.6": b"kernel"})
    head = bytearray(MIB)
    head[462:478] = struct.pack("<B3sB3sII", 0, b"", 0x83, b"", 2048, len(root) // 512)
    head[510:512] = b"\x55\xaa"
    (tmp_path / "mbr").write_bytes(bytes(head) + root)
    (tmp_path / "plain").write_bytes(root)
    for name, device in (("mbr", "/dev/vda2"), ("plain", "/dev/vda")):
        (tmp_path / f"out-{name}").mkdir()
        said = found(name, f"out-{name}", cwd=tmp_path)
        assert said == {"kernel": f"out-{name}/vmlinuz-6.6", "initrd": "", "root": device}


def test_the_files_are_said_before_what_to_do_with_them(tmp_path):
    """In one stream, as in a log: what is printed is not left in a buffer."""
    (tmp_path / "plain").write_bytes(file_system(tmp_path / "root", {"etc/fstab": b"", "boot/vmlinuz-6.6": b"kernel"}))
    command = [sys.executable, "-m", "minivm", "kernel", "extract", "plain"]
    done = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LIMIT)
    first, second = done.stdout.splitlines()
    assert first == "./vmlinuz-6.6" and "minivm run --kernel ./vmlinuz-6.6 --disk plain --cmdline root=/dev/vda " in second


@pytest.mark.parametrize(
    ("words", "text", "status"),
    [
        (["absent"], "cannot read 'absent': No such file", 2),
        (["."], "cannot read '.': Is a directory", 2),
        (["zeroes"], "no ext2, 3 or 4 file system", 125),
        (["empty"], "no kernel as /boot/vmlinuz-RELEASE", 125),
        (["odd"], "no kernel as /boot/vmlinuz-RELEASE", 125),
        (["half"], "no kernel as", 125),
        (["zeroes", "absent"], "'absent' is no directory", 2),
    ],
)
def test_what_has_no_kernel_is_said_in_one_line_and_leaves_nothing(words, text, status, tmp_path):
    (tmp_path / "zeroes").write_bytes(bytes(2 * MIB))
    (tmp_path / "empty").write_bytes(file_system(tmp_path / "no", {"etc/fstab": b""}))
    names = {'boot/vmlinuz-1 "x': b"a", "boot/vmlinuz-2\nls": b"b", "boot/vmlinuz-;3": b"c"}
    (tmp_path / "odd").write_bytes(file_system(tmp_path / "names", names))
    (tmp_path / "half").write_bytes((tmp_path / "empty").read_bytes()[:2048])
    before = set(tmp_path.iterdir())
    done = extract(*words, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (status, 1) and text in done.stderr, done.stderr
    assert set(tmp_path.iterdir()) == before


@given(st.binary(max_size=700), st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_a_table_of_partitions_may_be_anything(start, place, count, size):
    head = bytearray(start.ljust(4096, b"\1"))
    head[510:520] = b"\x55\xaaEFI PART"
    struct.pack_into("<QII", head, 512 + 72, place, count, size)
    with tempfile.TemporaryFile() as file:
        file.write(head)
        file.flush()
        found = partitions(file)
    assert len(found) <= 128 and all(number >= 1 and first >= 0 for number, first in found)
