"""A Debian kernel seen from outside: which of its functions exit, and what its page tables say, by the names it carries itself."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LIMIT = 200
KERNELS = sorted(Path("/boot").glob("vmlinuz-*-cloud-amd64"))
START_KERNEL_MAP = 0xFFFFFFFF80000000  # arch/x86/include/asm/page_64_types.h: virtual less physical, where nothing is randomised
MINIVM = [sys.executable, "-m", "minivm"]
pytestmark = [
    pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="/dev/kvm is missing or not ours to open"),
    pytest.mark.skipif(not KERNELS, reason="no Debian cloud kernel in /boot"),
    pytest.mark.timeout(LIMIT + 60),
]


def test_a_boot_is_profiled_dumped_and_walked(tmp_path):
    (tmp_path / "root" / "bin").mkdir(parents=True)
    shutil.copy("/bin/busybox", tmp_path / "root" / "bin" / "busybox")
    (tmp_path / "root" / "bin" / "sh").symlink_to("busybox")
    core = str(tmp_path / "core")
    words = ["--boot", "pvh", "--memory", "256m", "--cmdline", "quiet", "--rootfs", str(tmp_path / "root")]
    words += ["--init", "sh -c 'exit 41'"]
    run = [*MINIVM, "run", str(KERNELS[-1]), *words, "--profile", "--dump", core, "--format", "json", "--timeout", str(LIMIT)]
    done = subprocess.run(run, input="", capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 41, done.stderr
    report = json.loads(done.stderr.splitlines()[-1])
    functions = {(row["device"], row["function"]) for row in report["profile"]}
    assert ("uart", "io_serial_in") in functions and any(device == "rtc" for device, _ in functions), functions
    found = subprocess.run([*MINIVM, "symbols", str(KERNELS[-1]), "--grep", "linux_banner", "--format", "json"],
                           capture_output=True, check=True, timeout=LIMIT)  # fmt: skip
    banner = next(symbol["address"] for symbol in json.loads(found.stdout) if symbol["name"] == "linux_banner")
    walk = [*MINIVM, "walk", core, hex(banner), "--format", "json"]
    walked = subprocess.run(walk, capture_output=True, check=True, timeout=LIMIT)
    assert json.loads(walked.stdout)[0]["physical"] == banner - START_KERNEL_MAP
    if shutil.which("gdb"):
        gdb = ["gdb", "-q", "-nx", "-batch", "--core", core, "-ex", f"x/s {banner:#x}", "-ex", "info registers rip"]
        out = subprocess.run(gdb, capture_output=True, text=True, timeout=LIMIT, check=False).stdout
        assert "Linux version" in out and re.search(r"^rip +0x", out, re.M), out


def test_functions_have_their_names_wherever_the_kernel_puts_itself(tmp_path):
    """A bzImage moves itself (KASLR); where to it says in memory, as VMCOREINFO."""
    (tmp_path / "root" / "bin").mkdir(parents=True)
    shutil.copy("/bin/busybox", tmp_path / "root" / "bin" / "busybox")
    (tmp_path / "root" / "bin" / "sh").symlink_to("busybox")
    words = ["--boot", "bzimage", "--memory", "256m", "--cmdline", "quiet", "--rootfs", str(tmp_path / "root")]
    words += ["--init", "sh -c 'exit 41'", "--profile", "--format", "json", "--timeout", str(LIMIT)]
    run = [*MINIVM, "run", str(KERNELS[-1]), *words]
    done = subprocess.run(run, input="", capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 41, done.stderr
    functions = {(row["device"], row["function"]) for row in json.loads(done.stderr.splitlines()[-1])["profile"]}
    assert ("uart", "io_serial_in") in functions and ("uart", "io_serial_out") in functions, functions
