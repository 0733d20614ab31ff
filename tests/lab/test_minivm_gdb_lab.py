"""A real gdb on a booting Debian kernel, unmodified: where ring 0 runs on the processor."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LIMIT = 200
KERNELS = sorted(Path("/boot").glob("vmlinuz-*-cloud-amd64"))
pytestmark = [
    pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="/dev/kvm is missing or not ours to open"),
    pytest.mark.skipif(not KERNELS, reason="no Debian cloud kernel in /boot"),
    pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed"),
    pytest.mark.timeout(LIMIT + 60),
]


def test_gdb_stops_at_start_kernel_steps_prints_jiffies_and_the_kernel_boots_on(tmp_path):
    (tmp_path / "root" / "bin").mkdir(parents=True)
    shutil.copy("/bin/busybox", tmp_path / "root" / "bin" / "busybox")
    (tmp_path / "root" / "bin" / "sh").symlink_to("busybox")
    symbols, socket = tmp_path / "kernel.elf", str(tmp_path / "gdb")
    minivm = [sys.executable, "-m", "minivm"]
    subprocess.run([*minivm, "symbols", str(KERNELS[-1]), "-o", str(symbols)], check=True, timeout=LIMIT)
    words = ["--boot", "pvh", "--memory", "256m", "--cmdline", "quiet", "--rootfs", str(tmp_path / "root")]
    words += ["--init", "sh -c 'exit 41'"]
    run = [*minivm, "run", str(KERNELS[-1]), *words, "--timeout", str(LIMIT), "--gdb", socket]
    with subprocess.Popen(run, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as machine:
        log = ""
        while "listening" not in log:
            log += machine.stderr.readline()
        assert "jmp ." in log or "breakpoints: int3" in log, "the log says what was chosen"
        commands = ["set pagination off", f"target remote {socket}", "print $cr0", "break start_kernel", "continue", "print $cr0",
                    "info registers rip", "stepi", "info registers rip", "print *(unsigned long *)&jiffies",
                    "monitor walk $rip", "delete", "tbreak rest_init", "continue", "print *(unsigned long *)&jiffies",
                    "x/s (char *)&linux_banner", "continue"]  # fmt: skip
        gdb = ["gdb", "-q", "-nx", "-batch", *(word for command in commands for word in ("-ex", command)), str(symbols)]
        done = subprocess.run(gdb, capture_output=True, text=True, timeout=LIMIT, check=False)
        out = done.stdout + done.stderr
        assert machine.wait(LIMIT) == 41, (out, log, machine.stderr.read())
    assert re.search(r"Breakpoint 1, 0x\w+ in start_kernel \(\)", out), out
    modes = re.findall(r"= \[(.*)\]", out)
    assert "PG" not in modes[0] and "PG" in modes[1], "it began without paging"
    places = [int(text, 16) for text in re.findall(r"^rip +(0x\w+)", out, re.M)]
    assert 0 < places[1] - places[0] < 16, "an instruction further"
    early, later = [int(text) for text in re.findall(r"^\$\d+ = (\d+)$", out, re.M)][-2:]
    assert 4294892296 <= early <= later, "jiffies begin five minutes before 32 bits of them overflow, at 250 a second"
    assert "Linux version" in out and "exited with code 051" in out
