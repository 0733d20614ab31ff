"""A real gdb, attached to the in-tree guest."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minivm.boot
from minivm import kvm
from minivm.boot import formats
from minivm.inspect.gdb.breakpoints import Breakpoints
from minivm.inspect.gdb.commands import Commands, Goodbye
from minivm.inspect.gdb.halt import Halt
from minivm.inspect.gdb.memory import GuestView
from minivm.inspect.gdb.packets import frame
from minivm.inspect.paging import Modes, walk
from minivm.inspect.probe import probe
from minivm.machine.config import Config
from minivm.machine.machine import Machine

LIMIT = 90
GUEST = Path(minivm.boot.__file__).with_name("guest.elf")
COMMAND = [sys.executable, "-m", "minivm", "run", "--timeout", str(LIMIT)]
pytestmark = [
    pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="/dev/kvm is missing or not ours to open"),
    pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed"),
    pytest.mark.timeout(LIMIT + 30),
]


class Debugged:
    """A machine that serves gdb at a socket."""

    def __init__(self, path: Path, *words: str, where: str = "", typed: str = "exit 7\n") -> None:
        self.path = where or str(path / "gdb")
        self.typed = typed
        command = [*COMMAND, "--gdb", self.path, *words]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.minivm = subprocess.Popen(command, text=True, **pipes)
        self.log = ""
        while "listening" not in self.log:
            self.log += self.minivm.stderr.readline()
            assert self.minivm.poll() is None, self.log
        self.target = re.search(r"target remote (.*)'", self.log)[1]

    def gdb(self, *commands: str) -> str:
        """Have gdb do this, and return what it printed."""
        words = [word for command in (f"target remote {self.target}", *commands) for word in ("-ex", command)]
        script = ["-ex", "set pagination off", "-ex", "set confirm off", "-ex", "set width 0"]
        done = subprocess.run(["gdb", "-q", "-nx", "-batch", *script, *words, str(GUEST)], capture_output=True, text=True,
                              timeout=LIMIT, check=False)  # fmt: skip
        return done.stdout + done.stderr

    def end(self) -> tuple[int, str]:
        """Return the machine's exit status and what the guest printed."""
        stdout, stderr = self.minivm.communicate(self.typed, timeout=LIMIT)
        self.log += stderr
        return self.minivm.returncode, stdout.replace("\r", "")


@pytest.fixture
def debugged(tmp_path):
    made: list[Debugged] = []

    def start(*words: str, **more: str) -> Debugged:
        made.append(Debugged(tmp_path, *words, **more))
        return made[-1]

    yield start
    for machine in made:
        if machine.minivm.poll() is None:
            machine.minivm.kill()
        machine.minivm.communicate()


def test_gdb_breaks_at_a_function_steps_prints_and_continues_to_the_guests_status(debugged):
    machine = debugged()
    machine.minivm.stdin.write("exit 7\n")
    machine.minivm.stdin.flush()
    out = machine.gdb("break pit_init", "continue", "backtrace", "print ticks", "stepi", "info registers rip", "delete", "continue")
    assert re.search(r"Breakpoint 1, pit_init \(\) at .*pit\.c", out), out
    assert re.search(r"#1 .* in main \(info=0x2000\)", out) and "$1 = 0\n" in out
    assert re.search(r"^rip .*<pit_init\+5>", out, re.M)
    assert "exited with code 07" in out
    assert machine.end()[0] == 7


def test_a_watched_variable_stops_where_it_changes(debugged):
    machine = debugged()
    out = machine.gdb("break task_tick", "continue", "delete", "watch ticks", "continue", "backtrace 1", "kill")
    assert re.search(r"Old value = (\d+)\nNew value = (\d+)\ninterrupt \(irq=0\)", out), out
    old, new = map(int, re.search(r"Old value = (\d+)\nNew value = (\d+)", out).groups())
    assert new == old + 1
    assert machine.end()[0] == 137, "gdb's kill is SIGKILL's status"


def test_a_hardware_breakpoint_a_step_over_a_call_and_finish(debugged):
    machine = debugged()
    out = machine.gdb("hbreak trap_init", "continue", "finish", "next", "info line", "delete", "detach")
    assert "trap_init () at" in out and re.search(r"main \(info=0x2000\) at .*main.c:\d+", out), out
    status, text = machine.end()
    assert status == 7 and "task 2 exited with status 0" in text, "the guest runs on after detach, with nothing left in it"


def test_gdb_sees_system_registers_memory_and_page_tables(debugged):
    machine = debugged()
    out = machine.gdb("print $cr0", "print/x $cr3", "print $efer", "info threads", "print/x *(unsigned char *)start@4", "info mem",
                      "print/x *(char*)0x7fffff000000", "monitor walk 0x200000", "monitor registers", "info float", "print $xmm3",
                      "kill")  # fmt: skip
    assert "[ PE ET NE WP PG ]" in out or re.search(r"\[ PE.* PG \]", out), out
    assert re.search(r"= \[ LME LMA NXE ?\]", out)
    assert "vCPU 0: running" in out
    code = (GUEST.read_bytes()[0x1000:0x1004]).hex()
    assert "{" + ", ".join(f"0x{int(code[i:i + 2], 16):x}" for i in range(0, 8, 2)) + "}" in out
    assert "Cannot access memory at address 0x7fffff000000" in out
    assert "PML4 [0]" in out and "= guest-physical 0x200000, in a page of 2 MiB" in out
    assert "v4_float" in out and "R0: Empty" in out, out


def test_gdb_changes_a_variable_and_a_register_and_the_guest_believes_it(debugged):
    machine = debugged()
    machine.minivm.stdin.close()
    machine.minivm.stdin = None
    out = machine.gdb("break pit_init", "continue", "set var ticks = 1000000", "print $rax = 5", "print $rax",
                      "continue")  # fmt: skip
    assert "$1 = 5" in out and "$2 = 5" in out
    assert machine.minivm.wait(LIMIT) is not None
    assert re.search(r"after 10000\d\d ticks", machine.minivm.stdout.read())


def test_two_processors_are_two_threads_and_each_is_interrupted(debugged):
    machine = debugged("--cpus", "2")
    out = machine.gdb("info threads", "thread 2", "print $rip", "kill")
    assert re.search(r"1 +Thread 1 \(vCPU 0: running\)", out) and re.search(r"2 +Thread 2 \(vCPU 1: not started\)", out), out
    assert machine.end()[0] == 137


def test_ctrl_c_stops_a_running_guest(debugged):
    machine = debugged(where="127.0.0.1:0")
    words = ["-ex", "set pagination off", "-ex", "set confirm off", "-ex", f"target remote {machine.target}", str(GUEST)]
    gdb = subprocess.Popen(["gdb", "-q", "-nx", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                           start_new_session=True)  # fmt: skip
    gdb.stdin.write("continue\n")
    gdb.stdin.flush()
    text = ""
    while "Type a line" not in text:
        text += machine.minivm.stdout.readline()
    time.sleep(0.3)
    gdb.send_signal(signal.SIGINT)
    stdout, _ = gdb.communicate("print ticks > 0\nkill\n", timeout=LIMIT)
    assert "SIGINT" in stdout and "$1 = 1" in stdout, stdout
    assert machine.end()[0] == 137


def test_nowait_lets_the_guest_run_and_gdb_join_and_leave(debugged):
    machine = debugged(where="")
    machine.gdb("kill")
    machine.end()
    machine = debugged(where=machine.path + "2,nowait")
    text = ""
    while "Type a line" not in text:
        text += machine.minivm.stdout.readline()
    assert "vCPU 0" in machine.gdb("info threads", "detach")
    assert "vCPU 0" in machine.gdb("info threads"), "another gdb may come, and leave without a word"
    assert machine.end()[0] == 7


def test_noise_at_the_socket_hurts_nobody(debugged):
    machine = debugged()
    packets = [frame(packet) for packet in (b"m0,ffffffffffff", b"vCont;", b"Z9,0,0", b"p999", b"Hg99")]
    for noise in (b"GET / HTTP/1.1\r\n\r\n", b"$" + b"x" * 100000, *packets):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(machine.path)
            client.sendall(noise)
            client.shutdown(socket.SHUT_WR)
            while client.recv(4096):
                pass
    assert machine.end()[0] == 7


def test_a_peer_that_asks_and_never_reads_does_not_keep_the_machine(tmp_path):
    path = str(tmp_path / "gdb")
    with subprocess.Popen([*COMMAND[:-1], "3", "--gdb", path], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as machine:
        while "listening" not in machine.stderr.readline():
            assert machine.poll() is None
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            client.setblocking(False)
            question = frame(b"m100000,2000")
            try:
                while True:
                    client.send(question)  # until neither side takes any more
            except BlockingIOError:
                pass
            try:
                assert machine.wait(LIMIT) == 124
            finally:
                machine.kill()


@pytest.mark.parametrize(("words", "text"), [
    (["--gdb", "nothing"], "write PORT"), (["--gdb", "1,later"], "nowait"), (["--gdb", "/nonexistent/x"], "cannot listen"),
    (["--gdb", "0", "--explain"], "does not go together"),
])  # fmt: skip
def test_words_that_make_no_sense_get_one_line(words, text):
    done = subprocess.run([*COMMAND, *words], capture_output=True, text=True, input="", timeout=LIMIT, check=False)
    assert done.returncode in (2, 125) and text in done.stderr and done.stderr.count("\n") == 1, done.stderr


HEX = st.integers(0, (1 << 64) - 1).map(lambda number: b"%x" % number)
NUMBERS = [b"0", b"1", b"2", b"-1", b"ff", b"100000", b"200000", b"3fffffe", b"", b"zz"]
WORDS = [b":", b";", b",", b"=", b"read", b"target.xml", b"c", b"s"]
PARTS = st.lists(st.one_of(st.sampled_from(NUMBERS), HEX, st.sampled_from(WORDS)), max_size=8)
NAMES = b"""g G p P m M X Hg Hc T Z0, Z1, Z2, Z3, z0, z1, qSupported: qXfer:features:read: qXfer:memory-map:read: qRcmd,
           qThreadExtraInfo, qfThreadInfo vCont; vCont? ? c s C ! qC D k vKill;""".split()
MONITOR = st.text(max_size=30).map(lambda text: b"qRcmd," + text.encode().hex().encode())
BUILT = st.builds(lambda name, parts: name + b"".join(parts), st.sampled_from(NAMES), PARTS)
PHYSICAL = st.sampled_from([b"qRcmd," + text.hex().encode() for text in (b"physical on", b"physical off", b"registers", b"walk 0")])
PACKETS = st.one_of(BUILT, st.binary(max_size=40), MONITOR, PHYSICAL)


def test_no_packet_is_too_strange_for_an_answer_and_memory_is_left_as_it_was():
    config, null = Config(cpus=2), os.open(os.devnull, os.O_RDWR)
    start = formats.prepare(formats.read_kernel(formats.default_kernel()), "auto", config.memory, "", processors=2)
    with Machine(config, start, console=null) as machine:
        machine.build()
        memory = GuestView(machine.bytes_at, [], lambda text: None)
        breakpoints = Breakpoints(memory, probe())
        halt = Halt(machine.vcpus, 2, breakpoints, lambda: False, lambda: None, True, True)

        @settings(max_examples=400, deadline=None)
        @given(st.lists(PACKETS, max_size=12))
        def talk(packets):
            commands = Commands(machine.vcpus, halt, breakpoints, memory, machine.bytes_at, lambda: [(0, 1 << 20)])
            before = bytes(machine.bytes_at(0x100000, 0x300000))
            for packet in packets:
                try:
                    answer = commands.answer(packet)
                except Goodbye:
                    break
                assert answer is None or len(answer) < 0x8000
            breakpoints.clear()
            changes = any(packet[:1] in (b"M", b"X", b"G", b"P") for packet in packets)
            assert changes or machine.bytes_at(0x100000, 0x300000) == before

        talk()
    os.close(null)


def test_our_walk_and_kvms_agree():
    config = Config()
    start = formats.prepare(formats.read_kernel(formats.default_kernel()), "auto", config.memory, "")
    with Machine(config, start) as machine:
        machine.build()
        fd = machine.vcpus[0].fd
        modes = Modes.of(kvm.get_sregs(fd))
        for linear in (0, 0x1000, 0x100123, 0x3FFFFFF, 0x4000000, 1 << 39, 0xFFFF_8000_0000_0000):
            assert walk(linear, modes, machine.bytes_at).physical == kvm.translate(fd, linear)
