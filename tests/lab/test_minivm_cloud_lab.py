"""The worked example examples/cloud: its page is replayed with a cloud image of Debian, as it is, and then the guest is asked.

cloud-init finds the seed by itself, and makes of it user, key, name and network; and at the next boot leaves it at that. The image
comes on a disk that tests/lab/cloud_image.py makes, and the lab needs some packages for it (Makefile, PACKAGES_CLOUD).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

LIMIT = 1500  # seconds for one boot: a whole Debian under two layers of emulation
DISK, HERE = Path("/dev/vdb"), Path("/run/minivm-cloud")
TOP = Path(__file__).resolve().parents[2]
PAGE = TOP / "examples" / "cloud" / "README.md"
ADDRESS, ROUTER = "10.9.0.2", "10.9.0.1"
pytestmark = [
    pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="/dev/kvm is missing or not ours to open"),
    pytest.mark.skipif(not DISK.exists() or not shutil.which("ssh"), reason="no disk with a cloud image, or no ssh client"),
    pytest.mark.timeout(3 * LIMIT),
    pytest.mark.long,
]
# What is asked of the guest: a name, and the command that tells it.
FACTS = {
    "name": "hostname",
    "user": "id -un",
    "root": "sudo -n id -un",
    "source": "grep -o 'Found single datasource: .*' /run/cloud-init/ds-identify.log",
    "result": "cat /run/cloud-init/result.json",
    "instance": "sudo cat /var/lib/cloud/data/instance-id",
    "size": "df --output=size -B1 / | tail -1",
    "address": "ip -o -4 addr show scope global",
    "route": "ip route show default",
    "said": "cat /var/tmp/said",
    "when": "stat -c %Y /var/lib/cloud/instance/sem/config_runcmd",
    "boot": "cat /proc/sys/kernel/random/boot_id",
    "recovered": "sudo dmesg | grep -c 'EXT4-fs.*recovery' || :",
    "failed": "systemctl --failed --plain --no-legend",
}


def minivm(*words: object) -> str:
    command = [sys.executable, "-m", "minivm", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=LIMIT)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """The example's directory, with the image in it."""
    directory = tmp_path / "cloud"
    shutil.copytree(PAGE.parent, directory)
    subprocess.run(["modprobe", "-a", "fuse", "tun"], check=True)
    HERE.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "ro", DISK, HERE], check=True)
    shutil.copy(HERE / "stock.qcow2", directory)
    subprocess.run(["umount", HERE], check=True)
    try:
        yield directory
    finally:
        print(minivm("logs", "cloudy"))
        subprocess.run([sys.executable, "-m", "minivm", "rm", "--force", "cloudy"], check=True)
        subprocess.run(["ip", "link", "del", "cloud0"], check=True)


def replay(place: Path) -> Iterator[str]:
    """Do what the page says, each command with what it says of it, and yield it afterwards."""
    bodies = re.findall(r"^```sh run\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    for command, want in (pair for body in bodies for pair in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", body, re.M)):
        done = subprocess.run(
            ["bash", "-c", command], cwd=place, env={**os.environ, "PATH": f"{TOP}/.venv/bin:{os.environ['PATH']}"}, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT,
        )  # fmt: skip
        pattern = ".*".join(re.escape(part) for part in want.strip().split("..."))
        assert re.fullmatch(pattern, done.stdout.strip(), re.S), (command, want, done.stdout)
        yield command


def facts(place: Path) -> dict[str, str]:
    """Wait until anna may log in and cloud-init is done, and ask. The guest's own key is the one that it made at first."""
    options = ["UserKnownHostsFile=known", "StrictHostKeyChecking=yes", "BatchMode=yes", "ConnectTimeout=120"]
    words = ["ssh", "-i", "key", *(word for option in options for word in ("-o", option)), f"anna@{ADDRESS}"]
    script = "\n".join(f"echo '== {name}'; {command}" for name, command in FACTS.items())
    end = time.monotonic() + LIMIT
    while True:
        command = [*words, f"cloud-init status --wait >&2\n{script}"]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd=place, timeout=LIMIT)
        if done.returncode != 255 or "verification failed" in done.stderr:
            break
        assert time.monotonic() < end and "running" in minivm("ps"), done.stderr
        time.sleep(5)
    assert done.returncode == 0, (done.stdout, done.stderr)
    parts = (part.partition("\n") for part in done.stdout.split("== ")[1:])
    return {name: text.strip() for name, _, text in parts}


def is_off() -> None:
    """It obeyed the power button: it was not killed."""
    assert "reboot: Power down" in minivm("logs", "--tail", "5", "cloudy")
    (said,) = json.loads(minivm("inspect", "cloudy"))
    assert (said["status"], said["exit_status"]) == ("stopped", 0), said


def test_a_stock_image_has_user_key_name_and_network_of_its_seed(place):
    first = {}
    for command in replay(place):
        if command.startswith("ssh -i"):
            first = facts(place)
    is_off()
    print(json.dumps(first, indent=1))
    assert (first["name"], first["user"], first["root"], first["failed"]) == ("cloudy", "anna", "root", "")
    assert first["source"] == "Found single datasource: NoCloud"
    result = json.loads(first["result"])["v1"]
    assert result["errors"] == [] and result["datasource"].startswith("DataSourceNoCloud [seed=/dev/vdb]")
    assert f" {ADDRESS}/24 " in first["address"] and f"via {ROUTER} " in first["route"]
    assert int(first["size"]) > 5 << 29, "growpart and resize2fs gave the root the disk's 3 GiB"

    minivm("start", "cloudy")
    second = facts(place)
    minivm("stop", "--time", LIMIT, "cloudy")
    is_off()
    assert second["boot"] != first["boot"] and (second["recovered"], second["failed"]) == ("0", "")
    same = ("name", "instance", "said", "when")
    assert [second[name] for name in same] == [first[name] for name in same], "what is done once an instance is not done again"
