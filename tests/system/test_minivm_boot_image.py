"""Root disks of images: made by the real mke2fs, read back by debugfs; and what `minivm boot` refuses."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

LIMIT = 60
PATH = os.environ["PATH"] + ":/usr/sbin:/sbin"
pytestmark = pytest.mark.skipif(not shutil.which("mke2fs", path=PATH), reason="e2fsprogs is not installed")


def minivm(store, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "minivm", *map(str, words)]
    return subprocess.run(command, env=store.env, capture_output=True, text=True, input="", timeout=LIMIT)


def debugfs(disk: Path, command: str) -> str:
    words = ["debugfs", "-R", command, str(disk)]
    return subprocess.run(words, env={**os.environ, "PATH": PATH}, capture_output=True, text=True, timeout=LIMIT, check=True).stdout


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    """A file that starts like a kernel, with a directory of modules: --plan looks no further."""
    from kernels import make_pvh

    (tmp_path / "modules" / "kernel").mkdir(parents=True)
    for name in ("virtio_mmio", "virtio_blk", "ext4", "button"):
        (tmp_path / "modules" / "kernel" / f"{name}.ko").write_bytes(b"\0depends=\0")
    (tmp_path / "vmlinux").write_bytes(make_pvh())
    return tmp_path / "vmlinux"


def plan(store, kernel: Path, *words: object) -> list[dict[str, object]]:
    done = minivm(store, "boot", "--plan", "--format", "json", "--kernel", kernel, "--modules", kernel.parent / "modules", *words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def disks(store) -> list[Path]:
    return sorted((store.root / "cache" / "disks").glob("*.ext4"))


def add_layered_image(store, tmp_path: Path) -> None:
    """Import a layer, and put a second one over it that changes a file, removes one and adds one: by the store's own code."""
    first = tmp_path / "first.tar"
    with tarfile.open(first, "w") as tar:
        for name, mode, uid, data in (("kept", 0o4755, 0, b"kept"), ("gone", 0o644, 0, b"gone"), ("changed", 0o644, 7, b"old")):
            entry = tarfile.TarInfo(name)
            entry.mode, entry.uid, entry.size = mode, uid, len(data)
            tar.addfile(entry, BytesIO(data))
    assert store("image", "import", first, "base").returncode == 0
    second = BytesIO()
    with tarfile.open(fileobj=second, mode="w") as tar:
        for name, data in ((".wh.gone", b""), ("changed", b"new"), ("dir/added", b"added")):
            entry = tarfile.TarInfo(name)
            entry.uid, entry.size = 9, len(data)
            tar.addfile(entry, BytesIO(data))
    from minirt.image.digest import of
    from minirt.image.store import Store

    inner = Store(str(store.root / "lib" / "image"))
    base = inner.resolve("base")
    with inner.adding():
        with inner.blobs.writer() as blob:
            blob.write(second.getvalue())
            layer = blob.commit("application/vnd.oci.image.layer.v1.tar")
        config = json.loads(json.dumps(base.config))
        config["rootfs"]["diff_ids"].append(of(second.getvalue()))
        inner.set_name("two", inner.add_image(config, [*base.manifest["layers"], layer]))


def test_a_root_disk_has_what_the_layers_show_together(own_store, tmp_path, kernel):
    add_layered_image(own_store, tmp_path)
    before = disks(own_store)  # the cache is shared with other tests
    plan(own_store, kernel, "two", "true")
    (disk,) = set(disks(own_store)) - set(before)
    listed = debugfs(disk, "ls -l /")
    assert re.search(r"104755 \(1\) +0 +0 +4 .* kept", listed) and re.search(r"100644 \(1\) +9 +0 +3 .* changed", listed)
    assert "gone" not in listed and debugfs(disk, "cat /changed") == "new" and debugfs(disk, "cat /dir/added") == "added"
    check = subprocess.run(["e2fsck", "-fn", disk], env={**os.environ, "PATH": PATH}, capture_output=True, timeout=LIMIT)
    assert check.returncode == 0 and not disk.stat().st_mode & 0o222
    assert disk.stat().st_blocks * 512 < 64 << 20 < disk.stat().st_size, "sparse"


@pytest.mark.skipif(os.geteuid() != 0, reason="who is nobody here is chosen by root")
def test_without_root_the_files_in_the_disk_are_roots_all_the_same(own_store, tmp_path, kernel):
    """As a user who owns the store: each file there is his, and root's in the disk."""
    add_layered_image(own_store, tmp_path)
    place = own_store.root / "kernel"  # pytest's directories are its user's alone
    shutil.copytree(kernel.parent, place)
    subprocess.run(["chown", "-R", "nobody", own_store.root], check=True)
    (own_store.root / "cache").unlink()  # a cache of his own
    (own_store.root / "cache").mkdir()
    os.chown(own_store.root / "cache", 65534, 65534)
    words = ["boot", "--plan", "--kernel", place / "vmlinux", "--modules", place / "modules", "two", "true"]
    drop = "import os, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534)"
    command = [sys.executable, "-c", f"{drop}; from minivm.cli.main import main; sys.exit(main())", *map(str, words)]
    done = subprocess.run(command, env=own_store.env, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    (disk,) = disks(own_store)
    assert re.search(r"\(1\) +0 +0 +3 .* changed", debugfs(disk, "ls -l /")) and debugfs(disk, "cat /changed") == "new"


def test_a_disk_is_made_once_and_no_machine_writes_to_it(minirt, kernel):
    first = plan(minirt, kernel, "busybox", "true")
    before = {disk: disk.stat().st_ino for disk in disks(minirt)}
    plan(minirt, kernel, "busybox", "false")
    assert {disk: disk.stat().st_ino for disk in disks(minirt)} == before
    opened = next(op["args"] for op in first if op["call"] == "openat")
    assert Path(opened["path"]) in before and opened["flags"] == "O_RDONLY", "what a machine writes goes elsewhere"


def test_a_disk_that_nobody_used_for_long_goes_when_another_is_made(own_store, tmp_path, kernel):
    (own_store.root / "cache").unlink()
    old, used = (own_store.root / "cache" / "disks" / f"{name}.ext4" for name in ("old", "used"))
    old.parent.mkdir(parents=True)
    for disk in (old, used):
        disk.touch()
    os.utime(old, (0, 0))
    plan(own_store, kernel, "busybox", "true")
    assert not old.exists() and used.exists() and len(disks(own_store)) == 2


def test_a_disk_that_another_command_removes_just_now_is_no_error(own_store, tmp_path, kernel):
    (own_store.root / "cache").unlink()
    (own_store.root / "cache" / "disks").mkdir(parents=True)
    (own_store.root / "cache" / "disks" / "gone.ext4").symlink_to("nowhere")  # listed, and not there
    plan(own_store, kernel, "busybox", "true")


def test_a_machine_with_a_name_keeps_its_disk_and_its_program(minirt, kernel):
    words = ["--kernel", kernel, "--modules", kernel.parent / "modules", "-d", "--name", "box"]
    done = minivm(minirt, "boot", *words, "-e", "A=1", "-w", "/w", "--hostname", "h", "busybox", "sleep", "9")
    assert done.returncode in (0, 1), done.stderr  # the kernel is none
    (about,) = json.loads(minivm(minirt, "inspect", "box").stdout)
    program = about["config"]["minivm"]["program"]
    assert (program["args"], program["cwd"], program["hostname"]) == (["sleep", "9"], "/w", "h") and "A=1" in program["env"]
    root = Path(about["config"]["drives"][0]["path_on_host"])
    assert root == minirt.root / "lib" / "machines" / "box" / "root.ext4" and "bin" in debugfs(root, "ls /")
    minivm(minirt, "rm", "-f", "box")
    assert not root.exists()


def test_a_machine_is_named_after_whatever_its_image_is_called(own_store, kernel):
    """An image without a name, or with one that is longer than a machine's may be."""
    from minirt.image.store import Store

    inner = Store(str(own_store.root / "lib" / "image"))
    identity = inner.resolve("busybox").id
    inner.set_name("registry.example:5000/a/" + "long" * 30 + ":tag", inner.resolve("busybox").descriptor)
    words = ["--kernel", kernel, "--modules", kernel.parent / "modules", "-d"]
    for image in (identity.partition(":")[2][:12], "registry.example:5000/a/" + "long" * 30 + ":tag"):
        done = minivm(own_store, "boot", *words, image, "true")
        assert "cannot name" not in done.stderr and done.returncode in (0, 1), done.stderr  # the kernel is none
    names = [row["name"] for row in json.loads(minivm(own_store, "ps", "-a", "--format", "json").stdout)]
    assert len(names) == 2 and all(len(name) <= 64 for name in names)
    minivm(own_store, "rm", "-f", *names)


@pytest.mark.parametrize(
    ("words", "text", "status"),
    [
        (["nosuch"], "no image named 'nosuch'", 125),
        (["--name", "x", "busybox"], "say -d too", 2),
        (["--kernel", "debian-cloud", "busybox"], "minivm kernel fetch debian-cloud", 2),
        (["-w", "relative", "busybox"], "absolute path", 125),
        (["--timeout", "0", "busybox"], "more than 0", 2),
    ],
)
def test_what_cannot_be_booted_is_said_in_one_line(minirt, kernel, words, text, status):
    words = words if "--kernel" in words else ["--kernel", str(kernel), "--modules", str(kernel.parent / "modules"), *words]
    done = minivm(minirt, "boot", *words)
    assert (done.returncode, done.stderr.count("\n")) == (status, 1) and text in done.stderr
