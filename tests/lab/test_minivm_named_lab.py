"""A machine by name with Debian's kernel, in a jail: its balloon takes memory from the guest, and the host has it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

LIMIT = 150
KERNELS = sorted(Path("/boot").glob("vmlinuz-*-cloud-amd64"))
pytestmark = [
    pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="/dev/kvm is missing or not ours to open"),
    pytest.mark.skipif(not KERNELS, reason="no Debian cloud kernel in /boot"),
    pytest.mark.timeout(LIMIT + 60),
]
MIB = 1 << 20


def minivm(*words: object) -> str:
    done = subprocess.run([sys.executable, "-m", "minivm", *map(str, words)], capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def until(question):
    end = time.monotonic() + LIMIT
    while not (answer := question()):
        assert time.monotonic() < end
        time.sleep(0.5)
    return answer


def test_memory_is_plugged_into_a_machine_and_out_again(tmp_path):
    """Linux's virtio_mem takes it, and says so in /proc/meminfo; the guest prints that again and again."""
    (tmp_path / "root" / "bin").mkdir(parents=True)
    shutil.copy("/bin/busybox", tmp_path / "root" / "bin" / "busybox")
    (tmp_path / "root" / "bin" / "sh").symlink_to("busybox")
    (tmp_path / "root" / "up").write_text("while :; do busybox head -1 /proc/meminfo; busybox sleep 1; done\n")
    words = ["--kernel", KERNELS[-1], "-m", "256m", "--cmdline", "quiet", "--hotplug", "512m"]
    minivm("create", "plugged", *words, "--rootfs", tmp_path / "root", "--init", "sh /up")
    minivm("start", "plugged")
    try:

        def total():
            lines = [line for line in minivm("logs", "--tail", "3", "plugged").splitlines() if line.startswith("MemTotal:")]
            return int(lines[-1].split()[1]) << 10 if lines else 0

        def said():
            return json.loads(minivm("hotplug", "plugged", "--format", "json"))

        before = until(total)
        minivm("hotplug", "plugged", "256m")
        until(lambda: said()["plugged_size_mib"] == 256)
        until(lambda: total() - before == 256 * MIB)
        minivm("hotplug", "plugged", "0")
        until(lambda: said()["plugged_size_mib"] == 0)
        until(lambda: total() == before)
    finally:
        minivm("stop", "--time", "0", "plugged")
    minivm("rm", "plugged")


def test_a_jailed_machines_balloon_gives_the_guests_memory_to_the_host(tmp_path):
    (tmp_path / "root" / "bin").mkdir(parents=True)
    shutil.copy("/bin/busybox", tmp_path / "root" / "bin" / "busybox")
    (tmp_path / "root" / "bin" / "sh").symlink_to("busybox")
    # The guest touches 64 MiB and frees them: without a balloon they would be the guest's for good.
    script = "busybox dd if=/dev/zero of=/tmp/a bs=1M count=64 2>/dev/null; busybox rm /tmp/a; echo ready; busybox sleep 1000"
    (tmp_path / "root" / "up").write_text(f"busybox mount -t tmpfs tmpfs /tmp; {script}\n")
    words = ["--kernel", KERNELS[-1], "-m", "256m", "--cmdline", "quiet", "--balloon", "--jail"]
    minivm("create", "inflated", *words, "--rootfs", tmp_path / "root", "--init", "sh /up")
    minivm("start", "inflated")
    try:
        until(lambda: "ready" in minivm("logs", "inflated"))
        pid = json.loads(minivm("inspect", "inflated"))[0]["pid"]
        assert "Seccomp:\t2" in Path(f"/proc/{pid}/status").read_text()

        def said():
            return json.loads(minivm("balloon", "inflated", "--format", "json"))

        before = said()
        minivm("balloon", "inflated", "120m")
        until(lambda: said()["actual_mib"] == 120)
        after = said()
        assert before["free_memory"] - after["free_memory"] > 60 * MIB
        assert after["dropped_bytes"] - before["dropped_bytes"] > 60 * MIB, "the host has them again"
        minivm("balloon", "inflated", "0")
        until(lambda: said()["actual_mib"] == 0 and said()["free_memory"] > after["free_memory"] + 60 * MIB)
    finally:
        minivm("stop", "--time", "0", "inflated")
    assert json.loads(minivm("inspect", "inflated"))[0]["exit_status"] == 143
    minivm("rm", "inflated")
