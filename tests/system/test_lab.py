"""The lab from outside: what comes back, what is inside, and that the host stays as it was."""

import contextlib
import hashlib
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab import doctor, image
from lab.cpio import CpioWriter
from lab.payload import WITHOUT, Job

ROOT = Path(__file__).parent.parent.parent
LACKS = doctor.missing(image.find() is not None)
boots = [
    pytest.mark.skipif(bool(LACKS), reason="; ".join(LACKS)),
    pytest.mark.skipif(Path("/run/minirt-lab").is_dir(), reason="in the lab already; there is no lab in the lab"),
    pytest.mark.timeout(900),  # the first one builds the machine
]


def lab(*words, **options):
    return subprocess.run([ROOT / "lab/run", *words], capture_output=True, timeout=800, **options)


def boot(test):
    for mark in boots:
        test = mark(test)
    return test


def fingerprint():
    """Return a hash for each file of a folder that the job in the machine deletes."""
    found = {}
    for directory, names, files in os.walk(ROOT / "lab"):
        names[:] = [name for name in names if name not in WITHOUT]
        for name in files:
            path = Path(directory, name)
            found[path] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


@boot
def test_output_error_input_and_status_pass_through_whole():
    data = bytes(range(256)) * 400  # binary, and more than a pipe or a socket holds
    done = lab("sh", "-c", "cat; printf 'a\\0b' >&2; exit 42", input=data)
    assert (done.returncode, done.stdout, done.stderr) == (42, data, b"a\0b")


INSIDE = r"""
set -e
cat /proc/self/cgroup /sys/fs/cgroup/cgroup.subtree_control
grep CapEff /proc/self/status
awk '$3 == "cgroup" || $3 == "cgroup2"' /proc/mounts | wc -l
mkdir /var/tmp/u /var/tmp/w /var/tmp/m
mount -t overlay -o lowerdir=/etc,upperdir=/var/tmp/u,workdir=/var/tmp/w o /var/tmp/m
touch /var/tmp/m/new && ls /var/tmp/u
pwd
.venv/bin/python - <<'PYTHON'
import fcntl, minirt, os
kvm = os.open("/dev/kvm", os.O_RDWR)
vm = fcntl.ioctl(kvm, 0xAE01, 0)  # KVM_CREATE_VM
print(fcntl.ioctl(kvm, 0xAE00), fcntl.ioctl(vm, 0xAE41, 0) > 0, minirt.__file__)  # KVM_CREATE_VCPU
PYTHON
rm -rf lab minirt && echo gone >README.md && sync
"""


@boot
def test_inside_is_all_that_the_host_lacks_and_outside_nothing_changes(tmp_path):
    before, readme = fingerprint(), (ROOT / "README.md").stat()
    done = lab("sh", "-c", INSIDE, cwd=ROOT, env={**os.environ, "TMPDIR": str(tmp_path)})
    assert done.returncode == 0, done.stderr.decode()
    group, controllers, capabilities, trees, upper, cwd, kvm = done.stdout.decode().splitlines()
    assert group == "0::/lab"
    assert {"cpu", "cpuset", "io", "memory", "pids", "hugetlb"} <= set(controllers.split())
    assert int(capabilities.split()[1], 16) == (1 << 41) - 1
    assert trees == "1"  # pure: version 2 alone
    assert upper == "new" and cwd == str(ROOT)
    assert kvm == f"12 True {ROOT}/minirt/__init__.py"
    assert fingerprint() == before and (ROOT / "README.md").stat().st_mtime_ns == readme.st_mtime_ns
    assert list(tmp_path.iterdir()) == []


def running(word):
    """Return the processes that have a word in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if word.encode() in path.read_bytes():
                found.append(path)
    return found


@boot
def test_the_time_limit_ends_the_machine_and_says_so(tmp_path):
    done = lab("--timeout", "3", "sleep", "600", env={**os.environ, "TMPDIR": str(tmp_path)})
    assert done.returncode == 124
    assert done.stderr.startswith(b"lab: ") and done.stderr.count(b"\n") == 1 and b"console: " in done.stderr
    assert not running(str(tmp_path)) and list(tmp_path.iterdir()) == []


@boot
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_killed_command_takes_its_machine_along(tmp_path, number):
    process = subprocess.Popen(
        [ROOT / "lab/run", "sh", "-c", "echo up; sleep 600"], stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    with process:
        assert process.stdout.readline() == b"up\n"
        assert running(str(tmp_path))
        process.send_signal(number)
        assert process.wait(20) == (130 if number == signal.SIGINT else -number)
    end = time.monotonic() + 10
    while running(str(tmp_path)):
        assert time.monotonic() < end
        time.sleep(0.05)


@boot
def test_a_panic_is_one_line_that_names_the_log():
    done = lab("sh", "-c", "echo c >/proc/sysrq-trigger")
    assert done.returncode == 125
    line = done.stderr.decode().strip()
    assert "Kernel panic" in line and "\n" not in line
    log = Path(line.partition("console: ")[2])
    assert "sysrq triggered crash" in log.read_text(errors="replace")


# What the console says after the emulator's fault (lab/keys.py), and the end of the machine.
COUNTERFEIT = """echo begun; sleep 0.5
echo '<0>Oops: int3: 0000 [#1] PREEMPT SMP NOPTI' >/dev/kmsg
echo '<0>Kernel panic - not syncing: Fatal exception in interrupt' >/dev/kmsg
sleep 0.5; busybox poweroff -n -f"""


@boot
def test_a_machine_that_the_emulator_crashed_has_its_command_begin_again_so_many_times():
    done = lab("--again", "1", "sh", "-c", COUNTERFEIT, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout) == (125, b"begun\n" * 2)
    first, last = done.stderr.decode().splitlines()
    assert "Fatal exception" in first and first.endswith("the command begins again, for the last time")
    assert "Fatal exception" in last and "begins again" not in last


@boot
@pytest.mark.parametrize(
    ("script", "given", "status"),
    [
        ("echo begun; exit 3", b"", 3),
        ("echo begun; sleep 0.5; echo c >/proc/sysrq-trigger", b"", 125),
        (COUNTERFEIT, b"input", 125),
    ],
)
def test_no_other_end_has_it_begin_again(script, given, status):
    """Neither a command that fails, nor a machine that it killed, nor one whose input is gone."""
    done = lab("--again", "2", "sh", "-c", script, input=given)
    assert (done.returncode, done.stdout) == (status, b"begun\n")


LOST_TIMER = """echo begun; sleep 0.5
echo "<3>rcu: rcu_preempt kthread timer wakeup didn't happen for 5250 jiffies! g4981 f0x0 RCU_GP_WAIT_FQS(5)" >/dev/kmsg
"""


def impatient(*words):
    """lab/run, where two seconds are enough: of silence after the console's word of a lost timer, and to switch off."""
    code = "import sys; from lab import __main__, faults, session; "
    code += "faults.SILENCE = session.GONE = session.LOOK = 2.0; sys.exit(__main__.main())"
    return [sys.executable, "-c", code, *words]


@boot
@pytest.mark.parametrize(("given", "times"), [(b"", 2), (b"input", 1)])
def test_a_machine_that_lost_a_timer_and_falls_silent_is_ended_and_its_command_begins_again(given, times):
    words = impatient("--again", "1", "sh", "-c", LOST_TIMER + "sleep 700")
    done = subprocess.run(words, input=given, capture_output=True, timeout=800, cwd=ROOT)
    assert (done.returncode, done.stdout) == (125, b"begun\n" * times)
    lines = done.stderr.decode().splitlines()
    assert len(lines) == times and all("lost a processor's timer" in line and "console: " in line for line in lines)
    assert [line.endswith("the command begins again, for the last time") for line in lines] == [True, False][-times:]


@boot
def test_a_machine_that_the_host_had_stand_still_goes_on():
    """Its console says the same, and the command is not silent for long."""
    done = lab("--again", "1", "sh", "-c", LOST_TIMER + "sleep 1; echo ended; exit 3", stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout, done.stderr) == (3, b"begun\nended\n", b"")


# Without /proc busybox's shell does not find itself, and so neither its own poweroff.
STAYS = r"""printf '#!/bin/sh\nexec sleep 700\n' >/usr/sbin/poweroff; chmod +x /usr/sbin/poweroff; umount -l /proc
head -c 1000000 /dev/zero; exit 7"""


@boot
def test_a_machine_that_does_not_switch_itself_off_costs_neither_status_nor_output():
    with subprocess.Popen(impatient("--timeout", "400", "sh", "-c", STAYS), stdout=subprocess.PIPE, cwd=ROOT) as process:
        size = len(process.stdout.read(1))
        time.sleep(3)  # a slow reader, who has most of it to come when the command ends
        size += len(process.stdout.read())
        assert (process.wait(), size) == (7, 1000000)


@boot
def test_what_changes_the_kernels_static_keys_does_not_crash_it():
    """Without lab/keys.py an emulated machine lives for some seconds of this: it panics. A lost timer is another fault."""
    done = lab("--again", "1", "--timeout", "600", "python3", "tests/lab/keys_stress.py", "20", stdin=subprocess.DEVNULL, cwd=ROOT)
    told = done.stderr.decode()
    assert done.returncode == 0 and int(done.stdout.split()[0]) > 0 and "Kernel panic" not in told, told


@boot
def test_two_at_once_and_what_is_left_running_does_not_hold_them_up():
    command = [ROOT / "lab/run", "sh", "-c", "sleep 600 & echo started"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    for process in both:
        with process:
            assert process.communicate(timeout=120)[0] == b"started\n"
            assert process.returncode == 0


def test_what_the_host_lacks_is_one_line_each_with_the_package(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor.shutil, "which", lambda name, path=None: None)
    lines = doctor.missing(built=False)
    assert any("apt-get install --no-install-recommends qemu-system-x86" in line for line in lines)
    assert any(line.startswith("mmdebstrap is missing") for line in lines)
    assert not any("mmdebstrap" in line for line in doctor.missing(built=True))


def test_the_image_is_keyed_by_what_it_is_built_from(monkeypatch):
    before = image.key()
    assert image.key() == before
    monkeypatch.setattr(image, "PACKAGES", [*image.PACKAGES, "hello"])
    assert image.key() != before


def test_words_reach_the_job_as_they_were_given(tmp_path):
    words = ["printf", "%s|", "a b", "it's", "$HOME", "*", ""]
    script = Job(words, str(tmp_path), {"TERM": "x y"}, tty=False).script()
    assert subprocess.run(["sh", "-c", script], capture_output=True).stdout == b"a b|it's|$HOME|*||"


def test_an_archive_has_what_the_tree_has(tmp_path):
    source = tmp_path / "tree"
    (source / "a/__pycache__").mkdir(parents=True)
    (source / "a/run").write_bytes(b"odd length!")
    (source / "a/run").chmod(0o755)
    (source / "link").symlink_to("a/run")
    stream = io.BytesIO()
    archive = CpioWriter(stream)
    archive.tree(str(source), "tree", {"__pycache__"})
    archive.finish()
    (tmp_path / "out").mkdir()
    busybox = ["busybox", "cpio", "-idu"]
    subprocess.run(busybox, input=stream.getvalue(), cwd=tmp_path / "out", check=True, capture_output=True)
    out = tmp_path / "out/tree"
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*")) == ["a", "a/run", "link"]
    assert (out / "a/run").read_bytes() == b"odd length!" and os.access(out / "a/run", os.X_OK)
    assert (out / "link").readlink() == Path("a/run")
