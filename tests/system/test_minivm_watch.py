"""--explain, --trace, --stats and --plan against what strace says, and --fail for every call of the plan."""

from __future__ import annotations

import fcntl
import gc
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

import minivm.boot
from minirt.trace import read_trace
from minivm.boot import formats
from minivm.errors import KvmError, MinivmError
from minivm.machine.config import Config, Disk
from minivm.machine.machine import Machine
from minivm.machine.plan import machine_plan
from minivm.machine.recorder import Recorder

LIMIT = 60
KVM = Path("/dev/kvm")
pytestmark = [
    pytest.mark.skipif(not os.access(KVM, os.R_OK | os.W_OK), reason="/dev/kvm is missing or not ours to open"),
    pytest.mark.timeout(LIMIT + 30),
]
COMMAND = [sys.executable, "-m", "minivm", "run"]
HELLO16 = str(Path(minivm.boot.__file__).with_name("hello16.bin"))


def run(*words: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*before, *COMMAND, *words], input="", capture_output=True, text=True, timeout=LIMIT, check=False
    )


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_trace_holds_every_ioctl_that_strace_sees(tmp_path):
    trace, seen = tmp_path / "trace.jsonl", tmp_path / "strace"
    done = run("--trace", str(trace), before=("strace", "-f", "-e", "trace=ioctl", "-o", str(seen)))
    if "PTRACE" in done.stderr:
        pytest.skip("ptrace is not permitted here")
    assert done.returncode == 0, done.stderr
    kernel = Counter(re.findall(r"ioctl\(\d+, (KVM_\w+)", seen.read_text()))
    with trace.open() as file:
        _, events = read_trace(file)
    told = Counter("KVM_RUN" if e.call.startswith("KVM_EXIT_") else e.call for e in events if e.call.startswith("KVM_"))
    assert told == kernel


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    """(header, events, stdout) of one boot."""
    trace = tmp_path_factory.mktemp("trace") / "trace.jsonl"
    done = run("--trace", str(trace))
    with trace.open() as file:
        return *read_trace(file), done.stdout


def test_a_trace_is_of_a_machine_and_each_event_has_side_step_and_reason(traced):
    header, events, _ = traced
    assert header["kind"] == "machine"
    assert list(dict.fromkeys(e.step for e in events)) == ["open", "vm", "memory", "irqchip", "vcpu", "boot", "run", "close"]
    assert all(event.side and event.why for event in events)


def test_the_exits_of_a_trace_spell_what_the_guest_printed(traced):
    _, events, stdout = traced
    sent = [e.data["value"] for e in events if (e.data or {}).get("port") == 0x3F8 and e.data["direction"] == "out"]
    assert bytes.fromhex("".join(sent)).decode().replace("\r", "") == stdout.replace("\r", "")


def test_the_first_exits_hold_registers(traced):
    _, events, _ = traced
    exits = [e for e in events if e.call == "KVM_EXIT_IO"]
    held = [e for e in exits if "registers" in (e.data or {})]
    assert 100 < len(held) < len(exits)
    for event in held:
        if event.data["direction"] == "out" and event.data["port"] != 0x501:
            assert event.data["registers"]["rdx"] & 0xFFFF == event.data["port"]
            assert 0x100000 <= event.data["registers"]["rip"] < 0x200000


def test_explain_tells_the_plan_and_folds_console_lines():
    done = run("--explain")
    assert done.returncode == 0
    calls = re.findall(r"^  (\w+)\(", done.stderr, re.M)
    plan = [o["call"] for o in json.loads(run("--plan", "--format", "json").stdout)][:-1]
    assert calls[: len(plan)] == plan
    # On a busy machine an interrupt line's event may come in the middle of any one line.
    lines = ("Hello from the minivm guest", "kernel: command line", "kernel: memory 0x0", "kernel: timer at")
    assert any(re.search(rf"KVM_EXIT_IO\(\d+ exits, uart, sent b'{line}", done.stderr) for line in lines)
    assert "\x1b[" not in done.stderr, "no colour where it is no terminal"
    assert re.search(r"^ +\d+ +- +total$", done.stderr, re.M), "the exits are counted at the end"


def test_stats_count_the_same_exits_in_c_as_in_python(tmp_path):
    """hello16 sends 30 bytes and ends: the same whoever answers."""
    fast, slow = (
        json.loads(run(HELLO16, "--boot", "flat16", "--stats", "--format", "json", *more).stderr)
        for more in ([], ["--trace", str(tmp_path / "t")])
    )
    counts = [{row["what"]: row["count"] for row in stats["exits"]} for stats in (fast, slow)]
    assert counts[0] == counts[1] == {"out 0x3f8": 30, "out 0x501": 1}
    in_c = [sum(row["in_c"] for row in stats["exits"]) for stats in (fast, slow)]
    assert in_c == [30, 0]


def test_a_port_without_a_device_reads_as_ones_whoever_answers(tmp_path):
    """80 ports by the byte, more than the loop in C counts; four bytes at once; a hundred by `rep insb`. The status tells."""
    program = tmp_path / "absent.bin"
    program.write_bytes(bytes.fromhex(
        "b3 ff  ba 00 30  b9 50 00  ec 20 c3 ee 42 e2 f9"  # bl = ff; for 80 ports from 0x3000: in al, dx; and bl, al; out dx, al
        "ba f8 0c  66 ed  66 40  0f 95 c0  f6 d3  08 c3"  # in eax of port 0xcf8; add 1: al = (eax != 0); bl = ~bl | al
        "bf 00 90  b9 64 00  ba 23 01  f3 6c"  # 100 bytes of port 0x123 to 0x9000
        "be 00 90  b9 64 00  ac f6 d0 08 c3 e2 f9"  # each: bl |= ~byte
        "88 d8  ba 01 05  ee  f4"  # end with bl
    ))  # fmt: skip
    fast, slow = (
        run(str(program), "--boot", "flat16", "-m", "1m", "--stats", "--format", "json", *more)
        for more in ([], ["--trace", str(tmp_path / "t")])
    )
    assert (fast.returncode, slow.returncode) == (0, 0), fast.stderr + slow.stderr
    rows = [json.loads(done.stderr)["exits"] for done in (fast, slow)]
    counts = [{row["what"]: row["count"] for row in stats} for stats in rows]
    assert counts[0] == counts[1]
    assert counts[0].keys() >= {"in 0x3000", "out 0x304f", "in 0xcf8", "in 0x123"} and len(counts[0]) == 163
    assert [sum(row["in_c"] > 0 for row in stats) for stats in rows] == [64, 0], "the loop in C counts the first ones"


def test_plan_runs_nothing():
    done = run("--plan", before=("strace", "-f", "-e", "trace=ioctl,openat")) if shutil.which("strace") else None
    if done is None or "PTRACE" in done.stderr:
        pytest.skip("strace is not installed or not permitted")
    assert "/dev/kvm" not in done.stderr and "KVM_" not in done.stderr
    assert "KVM_CREATE_VM" in done.stdout


def plan_of(config: Config) -> tuple[list[str], object]:
    start = formats.prepare(formats.read_kernel(formats.default_kernel()), "auto", config.memory, "")
    return [operation.call for operation in machine_plan(config, start)], start


def resources() -> tuple[set[str], int, list[str]]:
    """File descriptors, threads, and mappings of guest memory or kvm_run, of this process."""
    gc.collect()  # what earlier tests have left to it is not to go meanwhile
    fds = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            fds.add(f"{fd} {os.readlink(f'/proc/self/fd/{fd}')}")
        except FileNotFoundError:
            pass  # the directory's own
    maps = [line for line in Path("/proc/self/maps").read_text().splitlines() if "kvm" in line and "_kvm" not in line]
    return fds, threading.active_count(), maps


def mapped() -> int:
    """Virtual memory of this process, in KiB."""
    return int(re.search(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())[1])


CALLS, START = plan_of(Config())
EACH = [(call, CALLS[: index + 1].count(call)) for index, call in enumerate(CALLS)] + [("KVM_RUN", 40), ("KVM_IRQ_LINE", 1)]


@pytest.mark.parametrize(("call", "which"), EACH, ids=[f"{call}:{which}" for call, which in EACH])
def test_when_a_call_fails_nothing_is_left(call, which):
    before, size = resources(), mapped()
    config, null = Config(memory=512 << 20), os.open(os.devnull, os.O_RDWR)
    start = formats.prepare(formats.read_kernel(formats.default_kernel()), "auto", config.memory, "")
    outcome = None
    machine = Machine(config, start, Recorder(failures=[(call, which, 5)]), console=null)
    with pytest.raises(KvmError) as caught, machine:
        machine.build()
        outcome = machine.run(None, LIMIT)
        assert outcome.status == 125
        raise outcome.error
    os.close(null)
    assert (caught.value.call, caught.value.name) == (call, "EIO")
    assert (outcome is None) == (call not in ("KVM_RUN", "KVM_IRQ_LINE"))
    assert resources() == before
    assert mapped() - size < 256 << 10, "guest memory is still mapped"


def test_a_hundred_machines_leave_nothing():
    config = Config(memory=16 << 20)
    start = formats.prepare(formats.read_kernel(formats.default_kernel()), "auto", config.memory, "")
    null = os.open(os.devnull, os.O_RDWR)
    before = resources()
    for _ in range(100):
        with Machine(config, start, console=null) as machine:
            machine.build()
    os.close(null)
    fds, *rest = resources()
    assert [fds | {f"{null} /dev/null"}, *rest] == list(before)


def test_the_command_says_in_one_line_which_call_failed():
    done = run("--fail", "KVM_CREATE_VCPU=ENOMEM")
    assert done.returncode == 125 and done.stdout == ""
    assert re.fullmatch(r"minivm: KVM_CREATE_VCPU\(.*ENOMEM.*\n", done.stderr)


def test_a_trace_that_cannot_be_written_ends_the_machine_in_one_line():
    done = run("--trace", "/dev/full")
    assert done.returncode == 125 and done.stderr == "minivm: cannot write trace '/dev/full': No space left on device\n"


def test_a_failure_while_running_is_told_too():
    done = run("--fail", "KVM_RUN:30=EFAULT", "--explain")
    assert done.returncode == 125
    assert done.stderr.count("minivm: KVM_RUN") == 1 and "munmap(kvm_run)" in done.stderr


def test_errors_in_threads_do_not_hang():
    class Broken(Recorder):
        def inject(self, call):
            if call == "KVM_RUN":
                raise RuntimeError("broken")

    config = Config()
    with Machine(config, START, Broken([lambda event: None]), console=1) as machine:
        machine.build()
        outcome = machine.run(None, LIMIT)
    assert outcome.status == MinivmError.status and isinstance(outcome.error, RuntimeError)


VIRTIO_CALLS = [("openat", 1), ("flock", 1), ("eventfd2", 2), ("KVM_IRQFD", 1), ("KVM_IRQFD", 3), ("KVM_IOEVENTFD", 1),
                ("KVM_CREATE_VCPU", 2),
                ("KVM_SET_MSRS", 2), ("KVM_RUN", 2)]  # fmt: skip


@pytest.mark.parametrize(("call", "which"), VIRTIO_CALLS, ids=[f"{call}:{which}" for call, which in VIRTIO_CALLS])
def test_a_machine_with_devices_and_processors_leaves_nothing_either(tmp_path, call, which):
    disk, null = tmp_path / "disk", os.open(os.devnull, os.O_RDWR)
    disk.write_bytes(bytes(1 << 20))
    before = resources()
    config = Config(memory=64 << 20, cpus=2, disks=[Disk(str(disk))], rng=True, hvc=True)
    kernel = formats.read_kernel(formats.default_kernel())
    start = formats.prepare(kernel, "auto", config.memory, "", processors=2, virtio=3)
    with pytest.raises(KvmError) as caught, Machine(config, start, Recorder(failures=[(call, which, 5)]), null) as machine:
        machine.build()
        raise machine.run(None, LIMIT).error
    assert (caught.value.call, caught.value.name) == (call, "EIO")
    assert resources() == before
    os.close(null)


def test_a_disk_belongs_to_one_machine_at_a_time(tmp_path):
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(1 << 20))
    with disk.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = run("--disk", str(disk))
        assert done.returncode == 125 and "flock" in done.stderr and "another machine" in done.stderr
        assert "flock" in run("--disk", f"{disk},ro").stderr
        fcntl.flock(file, fcntl.LOCK_SH)
        assert run("--disk", f"{disk},ro").returncode == 0, "several may read it"
    assert "no such disk" in run("--disk", str(tmp_path / "none")).stderr
    assert "a directory is no disk" in run("--disk", str(tmp_path)).stderr


def test_an_earlier_dump_stays_where_the_machine_could_not_be_built(tmp_path):
    core = tmp_path / "core"
    core.write_bytes(b"of the run before")
    assert run("--dump", str(core), "--fail", "KVM_CREATE_VM=EIO").returncode == 125
    assert core.read_bytes() == b"of the run before"
    assert run(HELLO16, "--boot", "flat16", "--dump", str(core)).returncode == 0
    assert core.read_bytes().startswith(b"\x7fELF")


@pytest.mark.parametrize("seconds", ["1e300", "inf", "3000000"])
def test_a_time_may_be_longer_than_poll_can_wait(seconds):
    assert run(HELLO16, "--boot", "flat16", "--timeout", seconds).returncode == 0


@pytest.mark.parametrize(("words", "said"), [
    (["--dump", "{}/none/core"], "cannot write dump"), (["--disk", "{}/none.qcow2"], "no such disk"),
    (["--vsock", "{}/none/v"], "there is no directory"), (["--port", "a={}/none/p"], "there is no directory"),
])  # fmt: skip
def test_what_cannot_be_had_is_said_in_one_line_before_the_guest_runs(tmp_path, words, said):
    done = run(*(word.format(tmp_path) for word in words))
    assert (done.returncode, done.stdout) == (125, "") and said in done.stderr and done.stderr.count("\n") == 1, done.stderr
