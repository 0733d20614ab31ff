"""Debian's kernels, unmodified, on a Debian root: the lab's own disk, of which each machine has an overlay.

The kernels come on a disk that tests/lab/inputs.py makes (`lab/run --disk`).
"""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
from emulation import ask

LIMIT = 240
HERE = Path("/run/minirt-inputs")
ROOT, INPUTS = Path("/dev/vda"), Path("/dev/vdb")
pytestmark = [
    pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="/dev/kvm is missing or not ours to open"),
    pytest.mark.skipif(not INPUTS.exists(), reason="no disk of kernels: lab/run --disk $(python tests/lab/inputs.py)"),
    pytest.mark.timeout(LIMIT + 60),
]


@pytest.fixture(scope="module")
def inputs():
    HERE.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "ro", INPUTS, HERE], check=True)
    yield HERE
    subprocess.run(["umount", HERE], check=True)


def kernel_file(inputs: Path, name: str, boot: str) -> Path:
    (found,) = (inputs / name / "boot").glob("vmlinuz-*" if boot == "bzimage" else "vmlinux-*")
    return found


def minivm(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "minivm", "run", "--timeout", str(LIMIT), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, input="", timeout=LIMIT + 30)
    return subprocess.CompletedProcess(command, done.returncode, done.stdout.replace("\r", ""), done.stderr)


long = pytest.mark.long
# Each value of each of the three meets each of the others.
CASES = [("debian-cloud", "bzimage", 1), ("debian-cloud", "pvh", 2), ("debian", "pvh", 1), ("debian", "bzimage", 2)]
REST = [("debian-cloud", "bzimage", 2), ("debian-cloud", "pvh", 1), ("debian", "pvh", 2), ("debian", "bzimage", 1)]


@pytest.mark.parametrize(("name", "boot", "cpus"), CASES + [pytest.param(*case, marks=long) for case in REST])
def test_a_debian_root_comes_to_a_shell_and_its_status_comes_back(inputs, name, boot, cpus):
    kernel, word = kernel_file(inputs, name, boot), secrets.token_hex(8)
    script = (
        "echo $BASH_VERSION; . /etc/os-release; echo $ID $VERSION_CODENAME; uname -r; nproc; dpkg --version | head -1;"
        f" grep ' / ' /proc/mounts; echo {word} >/root/told; sync; rev /root/told; exit {40 + cpus}"
    )
    words = ["--boot", boot, "-m", "384m", "-c", cpus, "--cmdline", "quiet", "--rootfs", f"{ROOT},overlay"]
    done = ask(lambda: minivm(kernel, *words, "--init", f'bash -c "{script}"'))
    assert done.returncode == 40 + cpus, (done.stdout, done.stderr)
    lines = done.stdout.splitlines()
    assert {"debian trixie", kernel.name.partition("-")[2], str(cpus), word[::-1]} <= set(lines)
    assert re.search(r"^/dev/(root|vda) / ext4 rw", done.stdout, re.M) and "Debian 'dpkg' package management program" in done.stdout


RINGS = {"packed": [], "split": ["--split-queues"]}


@pytest.mark.parametrize(("name", "boot", "rings"), [("debian-cloud", "pvh", "packed"), ("debian", "bzimage", "split")])
def test_it_switches_itself_off_by_acpi(inputs, name, boot, rings):
    words = ["--boot", boot, "-m", "384m", "--cmdline", "quiet", "--rootfs", f"{ROOT},overlay", *RINGS[rings]]
    script = "cut -c35 /sys/bus/virtio/devices/virtio0/features; echo off; sync; busybox poweroff -f"  # 34: VIRTIO_F_RING_PACKED
    done = minivm(kernel_file(inputs, name, boot), *words, "--init", f"bash -c '{script}'")
    assert done.returncode == 0 and done.stderr == "", (done.stdout, done.stderr)
    assert re.search(rf"^{int(rings == 'packed')}\noff$", done.stdout, re.M), done.stdout


APT = """\
ip link set eth0 up; ip addr add 10.9.0.2/24 dev eth0
rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*
echo 'deb [trusted=yes] http://10.9.0.1:8090/ ./' >/etc/apt/sources.list
apt-get update && apt-get install -y hello && hello -t && dpkg -s hello && sync && exit 45
exit 1
"""


def test_apt_in_a_guest_installs_a_package_from_a_mirror_of_the_host(inputs, tap, tmp_path):
    """Over virtio-net on a tap; the mirror is a directory, and Python's own server serves it."""
    (tmp_path / "up").write_text(APT)
    words = [sys.executable, "-m", "http.server", "8090", "--bind", "10.9.0.1", "--directory", str(inputs / "mirror")]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as server:
        kernel = kernel_file(inputs, "debian-cloud", "pvh")
        words = ["--boot", "pvh", "-m", "512m", "--cmdline", "quiet", "--rootfs", f"{ROOT},overlay", "--net", f"tap:{tap}"]
        init = "bash -c 'eval \"$(cat /dev/vdb 2>/dev/null)\"'"
        done = minivm(kernel, *words, "--disk", f"{script_disk(tmp_path)},ro", "--init", init)
        server.terminate()
        log = server.stderr.read()
    assert done.returncode == 45, (done.stdout, done.stderr, log)
    assert "hello, world\n" in done.stdout and "Status: install ok installed\n" in done.stdout
    assert re.search(r'"GET /+(\./)?hello_\S+\.deb HTTP/1.1" 200', log), log


def script_disk(directory: Path) -> Path:
    """Return the script as a disk: the root is not ours to write to, and a command line has no lines."""
    text = (directory / "up").read_bytes()
    (directory / "disk").write_bytes(text.ljust(-(-len(text) // 512) * 512, b"\0"))
    return directory / "disk"


def test_memtest86_starts_its_tests_on_the_serial_console(inputs):
    words = [inputs / "memtest86+x64.bin", "-m", "64m", "--cmdline", "console=ttyS0,115200", "--timeout", LIMIT]
    command = [sys.executable, "-m", "minivm", "run", *map(str, words)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as child:
        said = b""
        while b"Test #" not in said and (data := os.read(child.stdout.fileno(), 4096)):
            said += data
        child.terminate()
        child.stdout.read()
    text = re.sub(rb"\x1b\[[\d;]*[A-Za-z]", b" ", said).decode(errors="replace")
    assert "Memtest86+" in text and "Test #" in text, text
