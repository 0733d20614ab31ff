"""Test kernels by Multiboot, as kvm-unit-tests are: what they ask of a machine, and those themselves where they are at hand."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from minivm.boot.formats import prepare
from minivm.boot.layout import MULTIBOOT_LOW, check_room
from minivm.devices.fw_cfg import FwCfg
from minivm.errors import BootError

LIMIT = 60
NATIVE = Path(__file__).resolve().parents[1] / "native"
BUILD = ["gcc", "-m32", "-nostdlib", "-static", "-no-pie"]
WORDS = "-Wl,--build-id=none,-z,noexecstack,-z,noseparate-code,-N,-Ttext="
LINKED = [0x400000, 0x10000]  # kvm-unit-tests are linked at 4 MiB, but for realmode, which lies below 640 KiB
IMAGES = os.environ.get("MINIVM_KVM_UNIT_TESTS", "")
# name -> image and processors, as x86/unittests.cfg has them in https://gitlab.com/kvm-unit-tests/kvm-unit-tests
SUITE = {name: (name, 1) for name in ("realmode", "tsc", "hypercall", "syscall", "msr")} | {
    "smptest": ("smptest", 2),
    "smptest3": ("smptest", 3),
}
PASSED, SKIPPED = 0 << 1 | 1, 77  # what lib/report.c writes to debug-exit, and QEMU makes of it; 77: nothing was there to be tested
PEER = "qemu-system-x86_64 -accel kvm -m 128 -nodefaults -no-reboot -vnc none -serial stdio -device pc-testdev"
PEER += " -device isa-debug-exit,iobase=0xf4,iosize=0x4"
pytestmark = [
    pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="/dev/kvm is missing or not ours to open"),
    pytest.mark.timeout(LIMIT + 30),
]


def run(image: Path, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "minivm", "run", "--timeout", LIMIT, "-m", "128m", image, *words]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, input="", timeout=LIMIT + 20)


@pytest.fixture(scope="module", params=LINKED, ids=hex)
def image(request, tmp_path_factory):
    made = tmp_path_factory.mktemp("image") / "multiboot.elf"
    subprocess.run([*BUILD, f"{WORDS}{request.param:#x}", "-o", made, NATIVE / "multiboot.S"], check=True, capture_output=True)
    return made


@pytest.mark.parametrize("cpus", [1, 2])
def test_a_test_kernel_finds_all_that_it_asks_for_and_ends_with_1(image, cpus):
    done = run(image, "--cpus", cpus)
    parts = ("loader", "fw_cfg", "realmode", "tsc", "mptable", "smp", "long mode")
    assert done.stdout.split("\n")[:-1] == [f"PASS: {part}" for part in parts]
    assert done.returncode == 0 << 1 | 1, done.stderr


def test_a_module_lies_above_the_first_mebibyte_though_the_kernel_lies_below(image):
    elf = image.read_bytes()
    start = prepare(elf, "multiboot", 128 << 20, "", modules=[("one", b"module")])
    (module,) = (piece for piece in start.pieces if piece.what.startswith("module"))
    assert module.address >= 1 << 20


@pytest.mark.parametrize("address", [0, 0x3000, 0x9F000, 0xA0000, 0xFF000], ids=hex)
def test_a_kernel_that_would_lie_on_what_it_is_told_or_on_no_memory_is_refused(address):
    with pytest.raises(BootError, match=f"linked at {address:#x}"):
        check_room(address, 0x2000, 128 << 20, "the kernel", MULTIBOOT_LOW)


def item(device, number, size):
    device.write(0, 2, number)
    return bytes(device.read(1, 1) for _ in range(size))


def test_fw_cfg_says_what_the_machine_has():
    device = FwCfg(3 << 30, 254)
    assert item(device, 0, 5) == b"QEMU\0" and item(device, 1, 4) == b"\1\0\0\0", "no DMA"
    assert item(device, 3, 8) == (3 << 30).to_bytes(8, "little") and item(device, 5, 2) == b"\xfe\0" == item(device, 15, 2)
    assert item(device, 0x19, 8) == bytes(8) and item(device, 0x7777, 2) == b"\0\0" and item(device, 0, 1) == b"Q"


def verdicts(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stdout.splitlines() if line.startswith(("PASS", "FAIL"))]


def passed(done: subprocess.CompletedProcess[str], status: int = PASSED) -> bool:
    return done.returncode == status and not any(line.startswith("FAIL") for line in verdicts(done))


def under_qemu(image: Path, cpus: int) -> subprocess.CompletedProcess[str]:
    command = ["timeout", LIMIT, *PEER.split(), "-smp", cpus, "-kernel", image]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, input="", timeout=LIMIT + 20)


@pytest.mark.skipif(not IMAGES, reason="MINIVM_KVM_UNIT_TESTS names no directory of built images: Debian has no package of them")
@pytest.mark.parametrize("name", SUITE)
@pytest.mark.timeout(2 * LIMIT + 60)
def test_kvm_unit_tests_pass(name):
    """An image that fails the same under QEMU on this KVM tells of KVM: one that emulates ring 0, or is emulated itself."""
    file, cpus = SUITE[name]
    image = Path(IMAGES) / f"{file}.flat"
    done = run(image, "--cpus", cpus)
    if passed(done):
        return
    if passed(done, SKIPPED):
        pytest.skip(f"the image: {done.stdout.splitlines()[-2:]}")
    said = (done.returncode, done.stdout[-2000:], done.stderr)
    assert shutil.which("qemu-system-x86_64"), said
    peer = under_qemu(image, cpus)
    assert not passed(peer) and verdicts(peer) == verdicts(done), (said, peer.returncode, peer.stdout[-2000:])
    pytest.skip(f"QEMU on this KVM ends like this too: {done.returncode}, {peer.returncode}, {verdicts(done)[-2:]}")
