"""crash, as Debian packages it, on dumps of Debian's kernels: its words against the guest's own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from crash_tools import crash, vmlinux

from lab import doctor, image
from minivm.kernels.debian import fetch

ROOT = Path(__file__).parents[2]
LIMIT = 900  # seconds
LACKS = doctor.missing(image.find() is not None)
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(bool(LACKS), reason="; ".join(LACKS)),
    pytest.mark.skipif(Path("/run/minirt-lab").is_dir(), reason="in the lab already; there is no lab in the lab"),
    pytest.mark.timeout(3 * LIMIT),  # downloads and one start of the lab, where they are all new
]

# What the guest does beside sleeping. Debian's kernels for the cloud lack CONFIG_X86_MCE. Of these crash (8.0.6) takes the size
# of an exception stack for 0, and gives up where it searches that: for the backtrace of a task that runs, and already when it
# opens the dump where the first processor is idle. QEMU's own dumps of them it refuses alike. So there that processor is busy.
KERNELS = {"debian-cloud": "busybox taskset 1 busybox sh -c 'while :; do :; done' &", "debian": ""}

GUEST = """\
export PATH=/bin
busybox mkdir -p /proc
busybox mount -t proc proc /proc
busybox sleep 12345 &
sleeper=$!
echo "<5>the marker of $sleeper" >/dev/kmsg
WORK
busybox sleep 2
echo FACT release $(busybox uname -r)
echo FACT version $(busybox uname -v)
echo FACT sleeper $sleeper
echo FACT text $(busybox grep ' _text$' /proc/kallsyms)
echo FACT uptime $(busybox cat /proc/uptime)
busybox sleep 99999
"""

BEGIN = """\
set -e
mkdir -p /tmp/i /tmp/root/bin /tmp/out
mount -o ro /dev/vdb /tmp/i
cp /bin/busybox /tmp/root/bin/busybox
ln -s busybox /tmp/root/bin/sh
minivm() { .venv/bin/minivm "$@" >&2; }
"""

MACHINE = """\
cat >/tmp/root/up <<'END'
GUEST
END
kernel=$(ls /tmp/i/NAME/boot/vmlinuz-*)
minivm create NAME --kernel $kernel -m 256m -c 2 --boot bzimage --cmdline quiet --rootfs /tmp/root \
  --modules /tmp/i/NAME/lib/modules/${kernel#*vmlinuz-} --init 'sh /up'
minivm start NAME
until .venv/bin/minivm logs NAME | grep -q '^FACT uptime'; do sleep 1; done
.venv/bin/minivm logs NAME >/tmp/out/NAME.log
minivm dump NAME /tmp/out/NAME.core
minivm stop --time 0 NAME
"""
END = "tar -cSf - -C /tmp/out . | zstd -1\n"

COMMANDS = """\
set scroll off
sys
ps
sym _text
log
p jiffies
bt {sleeper}
task -R comm,pid {sleeper}
bt -a
exit
"""


@pytest.fixture(scope="module")
def dumps(tmp_path_factory):
    """A directory with NAME.core and NAME.log (what the guest printed) of each kernel, two processors, where KASLR put it."""
    place = tmp_path_factory.mktemp("dumps")
    inputs = subprocess.run([sys.executable, ROOT / "tests/lab/inputs.py"], capture_output=True, text=True, timeout=LIMIT)
    assert inputs.returncode == 0, inputs.stderr
    script = BEGIN
    for name, work in KERNELS.items():
        script += MACHINE.replace("GUEST", GUEST.replace("WORK", work).rstrip()).replace("NAME", name)
    words = [ROOT / "lab/run", "--again", "2", "--disk", inputs.stdout.strip(), "sh", "-c", script + END]
    with (place / "all").open("wb") as file:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.PIPE, timeout=LIMIT)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    subprocess.run(["tar", "-xS", "-I", "zstd", "-C", place, "-f", place / "all"], check=True, timeout=LIMIT)
    return place


@pytest.mark.parametrize("name", KERNELS)
def test_crash_opens_a_dump_and_says_what_the_guest_said(dumps, name):
    kernel = fetch(name)
    told = (dumps / f"{name}.log").read_text().splitlines()
    facts = dict(line.split(None, 2)[1:] for line in told if line.startswith("FACT "))
    assert facts["release"] == kernel.release, "vmlinux is of the kernel that ran"
    words = [*crash(), "-s", vmlinux(kernel), dumps / f"{name}.core"]
    more = {"capture_output": True, "text": True, "timeout": LIMIT, "env": {"HOME": str(dumps), "TERM": "dumb"}}
    done = subprocess.run(words, input=COMMANDS.format(**facts), **more)
    said = done.stdout
    assert done.returncode == 0, said + done.stderr

    def of(name: str) -> str:
        return re.search(rf"^ *{name}: (.*)$", said, re.M)[1]

    assert (of("CPUS"), of("RELEASE"), of("VERSION")) == ("2", facts["release"], facts["version"])
    assert re.search(rf"^ +{facts['sleeper']} +\d+ +[01] +[0-9a-f]{{16}} +IN .* busybox$", said, re.M), said
    assert re.search(r"^ +2 +0 +[01] +[0-9a-f]{16} +IN .* \[kthreadd\]$", said, re.M), said
    assert f"{facts['text'].split()[0]} (T) _text" in said, "where KASLR put it"
    assert f"the marker of {facts['sleeper']}" in said
    assert int(re.search(r"^jiffies = \$\d+ = (\d+)$", said, re.M)[1]) > 4294892296, "five minutes before its 32 bits overflow"
    assert "do_nanosleep at" in said, "the backtrace of one that sleeps"
    assert re.search(rf'comm = "busybox.*\n.*pid = {facts["sleeper"]}', said), said
    if name == "debian":
        running = re.split(r"^PID: ", said[said.rindex("pid = ") :], flags=re.M)[1:]
        assert [int(re.search(r"CPU: (\d)", task)[1]) for task in running] == [0, 1], "a task that runs on each processor"
        assert all("\n #0 [" in task for task in running), said
        assert all("cpu_startup_entry at" in task for task in running if "swapper/" in task), said
