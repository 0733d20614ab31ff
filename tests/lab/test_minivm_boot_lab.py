"""`minivm boot IMAGE` in the lab: the same image and the same words as `minirt run`, under Debian's cloud kernel."""

from __future__ import annotations

import json
import os
import secrets
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
    pytest.mark.timeout(2 * LIMIT),
]
PROBE = "id; pwd; echo $A; hostname; readlink /proc/self/fd/3; exit 43"


def run(program: str, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", program, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, input="", timeout=LIMIT)


def boot(*words: object) -> subprocess.CompletedProcess[str]:
    return run("minivm", "boot", "--timeout", LIMIT, "--kernel", KERNELS[-1], *words)


def test_an_image_runs_as_a_machine_as_it_runs_as_a_container():
    word = secrets.token_hex(8)
    words = ["--hostname", "twin", "-e", f"A={word}", "-w", "/var/tmp/a/b", "-u", "nobody", "busybox", "sh", "-c", PROBE]
    machine, container = boot(*words), run("minirt", "run", "--rm", *words)
    assert container.returncode == 43, container.stderr
    assert (machine.stdout, machine.returncode) == (container.stdout, 43), machine.stderr


def test_a_program_that_is_not_there_is_127_and_a_panic_is_ours():
    done = boot("busybox", "nosuch")
    assert done.returncode == 127 and "cannot run nosuch" in done.stdout
    done = boot("busybox", "sh", "-c", "echo c >/proc/sysrq-trigger")
    assert done.returncode == 125 and "reset before its program ended" in done.stderr


def test_the_power_button_reaches_the_program_and_the_disk_is_kept_clean():
    """An ACPI event, the unmodified kernel's button driver, the agent, the image's stop signal; then started again."""
    word = secrets.token_hex(8)
    script = f"trap 'echo {word} >>/told; cat /told; exit 35' TERM; echo ready; while :; do sleep 0.1; done"
    done = run("minivm", "boot", "-d", "--name", "box", "--kernel", KERNELS[-1], "busybox", "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    for times in (1, 2):
        end = time.monotonic() + LIMIT
        while run("minivm", "logs", "box").stdout.count("ready") < times and time.monotonic() < end:
            time.sleep(0.5)
        done = run("minivm", "stop", "--time", LIMIT, "box")
        assert (done.returncode, done.stderr) == (0, ""), "it switched itself off"
        (about,) = json.loads(run("minivm", "inspect", "box").stdout)
        assert (about["status"], about["exit_status"]) == ("stopped", 35)
        said = run("minivm", "logs", "--tail", times, "box").stdout
        assert said.count(word) == times, "what it wrote before is there"
        if times == 1:
            disk = about["config"]["drives"][0]["path_on_host"]
            assert subprocess.run(["/sbin/e2fsck", "-fn", disk], capture_output=True, timeout=LIMIT).returncode == 0
            assert run("minivm", "start", "box").returncode == 0
    assert run("minivm", "rm", "box").returncode == 0
