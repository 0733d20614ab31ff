"""A directory of the host in a guest: virtiofsd, vhost-user, and the unmodified kernel's virtiofs."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LIMIT = 150
KERNELS = sorted(Path("/boot").glob("vmlinuz-*-cloud-amd64"))
pytestmark = [
    pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="/dev/kvm is missing or not ours to open"),
    pytest.mark.skipif(not KERNELS, reason="no Debian cloud kernel in /boot"),
    pytest.mark.timeout(LIMIT + 60),
]
UP = """\
cat /data/secret; sha256sum /data/large /ro/large
cp /data/large /data/copy; mkdir /data/made
rev /data/secret >/data/made/turned; chmod 640 /data/made/turned; mv /data/made /data/moved
ln -s secret /data/link; rm /data/unwanted; touch /ro/no && echo written
grep virtiofs /proc/mounts; exit 46
"""


def run(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "minivm", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, input="", timeout=LIMIT + 30)
    return subprocess.CompletedProcess(command, done.returncode, done.stdout.replace("\r", ""), done.stderr)


@pytest.fixture
def shared(tmp_path):
    """A directory with a secret, a file of 8 MiB and one too many."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "secret").write_text(secrets.token_hex(8) + "\n")
    (tmp_path / "shared" / "large").write_bytes(os.urandom(8 << 20))
    (tmp_path / "shared" / "unwanted").touch()
    return tmp_path / "shared"


def test_guest_and_host_see_one_directory_from_a_jail_too(tmp_path, shared):
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin" / "busybox")
    for name in ("sh", "cat", "sha256sum", "cp", "mkdir", "rev", "chmod", "mv", "ln", "rm", "touch", "grep"):
        (root / "bin" / name).symlink_to("busybox")
    (root / "up").write_text(UP)
    words = ["--share", f"{shared}:/data", "--share", f"{shared}:/ro,ro", "--rootfs", root, "--init", "sh /up"]
    done = run("run", KERNELS[-1], "--jail", "--timeout", LIMIT, "-m", "256m", "--balloon", "--cmdline", "quiet", *words)
    assert done.returncode == 46, (done.stdout, done.stderr)
    secret, digest = (shared / "secret").read_text(), hashlib.sha256((shared / "large").read_bytes()).hexdigest()
    assert f"{secret}{digest}  /data/large\n{digest}  /ro/large\n" in done.stdout
    assert (shared / "copy").read_bytes() == (shared / "large").read_bytes()
    turned = shared / "moved" / "turned"
    assert turned.read_text().strip() == secret.strip()[::-1] and turned.stat().st_mode & 0o777 == 0o640
    assert (shared / "link").readlink() == Path("secret") and not (shared / "unwanted").exists()
    assert "written" not in done.stdout and not (shared / "no").exists(), "a share that is read-only"
    assert "/data /data virtiofs rw" in done.stdout


def test_an_image_has_a_volume(shared):
    words = ["-v", f"{shared}:/deep/down", "busybox", "sh", "-c", "rev /deep/down/secret; exit 47"]
    done = run("boot", "--timeout", LIMIT, "--kernel", KERNELS[-1], *words)
    assert done.returncode == 47, (done.stdout, done.stderr)
    assert done.stdout.strip() == (shared / "secret").read_text().strip()[::-1]
