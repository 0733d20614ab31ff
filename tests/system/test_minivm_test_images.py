"""Test kernels by Multiboot, as kvm-unit-tests are: what they ask of a machine, and those themselves where they are at hand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from minivm.devices.fw_cfg import FwCfg

LIMIT = 60
NATIVE = Path(__file__).resolve().parents[1] / "native"
WORDS = "-Wl,--build-id=none,-z,noexecstack,-z,noseparate-code,-N,-Ttext=0x100000"
BUILD = ["gcc", "-m32", "-nostdlib", "-static", "-no-pie", WORDS]
IMAGES = os.environ.get("MINIVM_KVM_UNIT_TESTS", "")
# name -> words; the images are x86/NAME.flat of a build of https://gitlab.com/kvm-unit-tests/kvm-unit-tests
SUITE = {"realmode": [], "tsc": [], "smptest": ["--cpus", "2"], "hypercall": [], "syscall": [], "msr": []}
pytestmark = [
    pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="/dev/kvm is missing or not ours to open"),
    pytest.mark.timeout(LIMIT + 30),
]


def run(image: Path, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "minivm", "run", "--timeout", LIMIT, "-m", "128m", image, *words]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, input="", timeout=LIMIT + 20)


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    made = tmp_path_factory.mktemp("image") / "multiboot.elf"
    subprocess.run([*BUILD, "-o", made, NATIVE / "multiboot.S"], check=True, capture_output=True)
    return made


@pytest.mark.parametrize("cpus", [1, 2])
def test_a_test_kernel_finds_loader_counts_real_mode_and_its_processors_and_ends_with_1(image, cpus):
    done = run(image, "--cpus", cpus)
    assert done.stdout.split("\n")[:-1] == [f"PASS: {what}" for what in ("loader", "fw_cfg", "realmode", "tsc", "smp")]
    assert done.returncode == 0 << 1 | 1, done.stderr


def item(device, number, size):
    device.write(0, 2, number)
    return bytes(device.read(1, 1) for _ in range(size))


def test_fw_cfg_says_what_the_machine_has():
    device = FwCfg(3 << 30, 254)
    assert item(device, 0, 5) == b"QEMU\0" and item(device, 1, 4) == b"\1\0\0\0", "no DMA"
    assert item(device, 3, 8) == (3 << 30).to_bytes(8, "little") and item(device, 5, 2) == b"\xfe\0" == item(device, 15, 2)
    assert item(device, 0x19, 8) == bytes(8) and item(device, 0x7777, 2) == b"\0\0" and item(device, 0, 1) == b"Q"


@pytest.mark.skipif(not IMAGES, reason="MINIVM_KVM_UNIT_TESTS names no directory of built images: Debian has no package of them")
@pytest.mark.parametrize("name", SUITE)
def test_kvm_unit_tests_pass(name):
    """Where KVM emulates ring 0 some cannot: there only the lab's results count."""
    done = run(Path(IMAGES) / f"{name}.flat", *SUITE[name])
    failures = [line for line in done.stdout.splitlines() if line.startswith("FAIL")]
    assert done.returncode == 1 and not failures, (done.stdout[-2000:], done.stderr)
