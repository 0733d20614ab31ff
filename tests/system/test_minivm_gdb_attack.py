"""Somebody at gdb's socket who means harm: the VMM neither crashes nor spins, and serves a real gdb afterwards."""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path
from struct import pack, unpack

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

import minivm.boot
from minivm import kvm
from minivm.boot import formats, longmode
from minivm.inspect.gdb.breakpoints import Breakpoints
from minivm.inspect.gdb.memory import GuestView
from minivm.inspect.gdb.packets import Reader, frame
from minivm.inspect.gdb.registers import TABLE
from minivm.inspect.gdb.trapflag import clear
from minivm.inspect.probe import Abilities
from minivm.inspect.symbols import read_symbols
from minivm.machine.config import Config
from minivm.machine.machine import Machine

LIMIT = 120
GUEST = Path(minivm.boot.__file__).with_name("guest.elf")
PLACES = [read_symbols(str(GUEST)).address(name) for name in ("task_tick", "syscall", "uart_put", "trap")]
RAM = 64 << 20
# One machine is attacked by all examples: what a smaller one does is another story, so none is looked for.
SETTINGS = settings(deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate], database=None)
pytestmark = [
    pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="/dev/kvm is missing or not ours to open"),
    pytest.mark.timeout(LIMIT + 30),
]

HEX = st.one_of(
    st.integers(0, 1 << 66), st.integers((1 << 64) - 40, (1 << 64) + 40), st.integers(RAM - 40, RAM + 40), st.sampled_from(PLACES)
).map(lambda number: b"%x" % number)
NUMBERS = st.one_of(HEX, st.sampled_from([b"0", b"1", b"2", b"3", b"-1", b"-2", b"", b"zz", b"1_0", b" 1", b"p1.1"]))


def built(name: bytes, *parts: st.SearchStrategy[bytes] | bytes) -> st.SearchStrategy[bytes]:
    return st.tuples(*(part if isinstance(part, st.SearchStrategy) else st.just(part) for part in parts)).map(
        lambda made: name + b"".join(made)
    )


KINDS = st.sampled_from([b"Z0", b"Z1", b"Z2", b"Z3", b"Z4", b"Z9", b"z0", b"z1", b"z2", b"z4"])
BREAKS = built(b"", KINDS, b",", NUMBERS, b",", NUMBERS)
READS = built(b"m", NUMBERS, b",", NUMBERS)
OBJECTS = st.sampled_from([b"features:read:target.xml:", b"memory-map:read::", b"features:write:x:", b"auxv:read::"])
TRANSFERS = built(b"qXfer:", OBJECTS, NUMBERS, b",", NUMBERS)
VERBS = st.sampled_from([b"c", b"s", b"C05", b"S05", b"t", b"r1,2", b"x", b""])
ACTIONS = st.lists(built(b";", VERBS, st.one_of(st.just(b""), built(b":", NUMBERS)))).map(b"".join)
GOES = st.one_of(built(b"vCont", ACTIONS), st.sampled_from([b"c", b"s", b"C05", b"S05", b"vCont;c"]))
MONITOR = st.sampled_from([b"physical on", b"physical off", b"registers", b"walk -1", b"walk 0xffffffffffffffff", b"log", b"x"])
WHOLE = b"? g QStartNoAckMode qSupported:multiprocess+ qfThreadInfo qsThreadInfo D D;1 !"
ASKS = st.one_of(
    st.sampled_from(WHOLE.split()),
    built(b"", st.sampled_from([b"Hg", b"Hc", b"T", b"p", b"qThreadExtraInfo,"]), NUMBERS),
    MONITOR.map(lambda text: b"qRcmd," + text.hex().encode()),
)
HARMLESS = st.one_of(BREAKS, READS, TRANSFERS, GOES, ASKS)  # what leaves the guest as it was, once breakpoints are gone
SOME = st.binary(max_size=17).map(lambda value: value.hex().encode())
SET = st.one_of(
    built(b"P", st.integers(0, len(TABLE) + 1).map(lambda number: b"%x" % number), b"=", SOME),
    st.sampled_from(list(enumerate(TABLE))).flatmap(
        lambda entry: st.binary(min_size=entry[1].bits // 8, max_size=entry[1].bits // 8).map(
            lambda value: b"P%x=%b" % (entry[0], value.hex().encode())
        )
    ),
    st.binary(max_size=600).map(lambda data: b"G" + data.hex().encode()),
    st.tuples(HEX, st.binary(max_size=20)).map(lambda write: b"M%b,%x:%b" % (write[0], len(write[1]), write[1].hex().encode())),
    built(b"M", NUMBERS, b",", NUMBERS, b":", NUMBERS),
    built(b"X", NUMBERS, b",", NUMBERS, b":", st.binary(max_size=9)),
    built(b"", st.sampled_from([b"c", b"s"]), NUMBERS),
)


class Debugged:
    """A machine that serves gdb at a socket, and a guest that waits for it."""

    def __init__(self, path: Path, *words: str) -> None:
        self.path = str(path)
        command = [sys.executable, "-m", "minivm", "run", "--gdb", self.path, "--timeout", str(LIMIT), *words]
        self.log = path.with_suffix(".log")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
        while b"listening" not in self.log.read_bytes():
            assert self.process.poll() is None, self.log.read_text()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.02)

    def connect(self, wait: bool = True) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.setblocking(wait)  # where others wait before us
        client.connect(self.path)
        client.settimeout(LIMIT if wait else 0)
        return client

    def ask(self, *packets: bytes) -> list[bytes]:
        """Be a gdb with manners for a while. Returns the answers."""
        with self.connect() as client:
            reader, answers = Reader(), []
            for packet in packets:
                client.sendall(frame(packet))
                found: list[bytes | None] = []
                while not found:
                    data = client.recv(4096)
                    if not data:
                        return answers
                    found = reader.feed(data)
                answers += [answer for answer in found if answer is not None]
            return answers

    def ticks(self) -> int:
        """Return the processor time it has used, in hundredths of a second (man 5 proc, stat)."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    def end(self, typed: bytes = b"") -> tuple[int, str]:
        stdout, _ = self.process.communicate(typed, timeout=LIMIT)
        return self.process.returncode, stdout.decode(errors="replace").replace("\r", "")

    def __enter__(self) -> Debugged:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


class Attack(RuleBasedStateMachine):
    """Up to three clients, each of whom may say anything at any moment; only the first of them is heard."""

    machine: Debugged

    @initialize()
    def begin(self) -> None:
        self.clients: list[socket.socket] = []
        self.connect()

    def send(self, which: int, data: bytes) -> None:
        """Send as far as it can be, without waiting for anybody to read it."""
        with contextlib.suppress(OSError):
            self.clients[which % len(self.clients)].send(data)

    @precondition(lambda self: len(self.clients) < 3)
    @rule()
    def connect(self) -> None:
        try:
            self.clients.append(self.machine.connect(wait=False))
        except BlockingIOError:  # the queue is full: somebody is heard who does not listen
            self.clients.append(socket.socket(socket.AF_UNIX))

    @rule(which=st.integers(0, 2), packets=st.lists(HARMLESS, max_size=4))
    def packets(self, which, packets):
        self.send(which, b"".join(map(frame, packets)))

    @rule(which=st.integers(0, 2), packet=HARMLESS, cut=st.integers(1, 9))
    def half(self, which, packet, cut):
        self.send(which, frame(packet)[:-cut])

    @rule(which=st.integers(0, 2), packet=HARMLESS)
    def broken(self, which, packet):
        self.send(which, frame(packet)[:-2] + b"zz")

    @rule(which=st.integers(0, 2), noise=st.one_of(st.binary(max_size=40), st.sampled_from([b"\x03", b"-" * 500, b"$" * 9, b"#"])))
    def noise(self, which, noise):
        self.send(which, noise)

    @rule(which=st.integers(0, 2))
    def read(self, which):
        client = self.clients[which % len(self.clients)]
        with contextlib.suppress(OSError):
            select.select([client], [], [], 0.01)
            client.recv(100)

    @rule(which=st.integers(0, 2))
    def flood(self, which):
        """Ask and never read."""
        self.send(which, frame(b"m100000,2000") * 200)

    @rule(which=st.integers(0, 2), how=st.sampled_from([socket.SHUT_RD, socket.SHUT_WR]))
    def shut(self, which, how):
        with contextlib.suppress(OSError):
            self.clients[which % len(self.clients)].shutdown(how)

    @precondition(lambda self: len(self.clients) > 1)
    @rule(which=st.integers(0, 2))
    def leave(self, which):
        self.clients.pop(which % len(self.clients)).close()

    @invariant()
    def it_runs(self):
        assert self.machine.process.poll() is None, self.machine.log.read_text()

    def teardown(self) -> None:
        for client in getattr(self, "clients", []):
            client.close()
        reply, code, *_ = self.machine.ask(b"?", b"m100000,10", b"D")
        assert reply[:3] in (b"T05", b"T02"), reply
        assert bytes.fromhex(code.decode()) == GUEST.read_bytes()[0x1000:0x1010]


def test_whatever_is_said_at_the_socket_the_guest_ends_as_if_nobody_had_been_there(tmp_path):
    with Debugged(tmp_path / "gdb", "--cpus", "2") as machine:
        killer = threading.Timer(LIMIT, machine.process.kill)  # so that a server that hears nobody fails this, and does not hold it
        killer.daemon = True
        killer.start()
        Attack.machine = machine
        run_state_machine_as_test(Attack, settings=settings(SETTINGS, max_examples=60, stateful_step_count=12))
        with machine.connect() as client:
            client.sendall(b"$?")  # half a packet, and nothing more: the machine stands, and nobody has anything to do
            client.settimeout(0.5)
            before = machine.ticks()
            with pytest.raises(TimeoutError):
                client.recv(1)
            assert machine.ticks() - before < 25
        if shutil.which("gdb"):
            words = ["-ex", f"target remote {machine.path}", "-ex", "info threads", "-ex", "detach"]
            gdb = subprocess.run(["gdb", "-q", "-nx", "-batch", *words, str(GUEST)], capture_output=True, text=True, check=False,
                                 timeout=LIMIT)  # fmt: skip
            assert re.search(r"Thread 2 \(vCPU 1: ", gdb.stdout), gdb.stdout + gdb.stderr
        status, text = machine.end(b"hello\nexit 23\n")
        killer.cancel()
    assert status == 23, (text, machine.log.read_text())
    assert [int(n) for n in re.findall(r"^task 1: step (\d+)", text, re.M)] == [1, 2, 3] and "backwards: olleh\n" in text, text
    assert "Traceback" not in machine.log.read_text() and "a bug" not in machine.log.read_text()


@settings(SETTINGS, max_examples=15)
@given(packets=st.lists(st.one_of(SET, SET, BREAKS, GOES), min_size=1, max_size=10), cpus=st.sampled_from(["1", "2"]))
def test_what_is_written_may_end_the_guest_and_never_the_machine(tmp_path_factory, packets, cpus):
    with Debugged(tmp_path_factory.mktemp("gdb") / "gdb", "--cpus", cpus, "--timeout", "60") as machine:
        with machine.connect() as client:
            for packet in packets:
                with contextlib.suppress(OSError):  # the guest has ended, and so the machine
                    client.sendall(frame(packet) + b"\x03")
        with contextlib.suppress(OSError):
            assert all(machine.ask(b"?")) and machine.ask(b"vKill;1") == [b"OK"]
        status, log = machine.end()[0], machine.log.read_text()
        assert status >= 0 and status != 124, log  # no signal, and it did not hang; how a guest ends that was sent anywhere is open
        assert "Traceback" not in log and "a bug" not in log


@pytest.mark.parametrize("packet", [b"Z0,%b,1", b"Z1,%b,1", b"m%b,10", b"M%b,1:90", b"qXfer:memory-map:read::%b,9"])
@pytest.mark.parametrize("number", [b"10000000000000000", b"-5", b"1_0", b""])
def test_a_number_that_is_none_of_64_bits_is_refused(served, packet, number):
    """A debug register that was to hold 2^64 ended the thread of a processor, and so the machine."""
    assert served.ask(packet % number, b"?")[0] == b"E01"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with Debugged(tmp_path_factory.mktemp("gdb") / "gdb") as machine:
        yield machine


def test_who_kills_and_leaves_at_once_has_killed(tmp_path):
    """`k` has no answer (gdb manual, E.2), so nobody need be there to take one."""
    with Debugged(tmp_path / "gdb") as machine:
        with machine.connect() as client:
            client.sendall(frame(b"QStartNoAckMode") + frame(b"k"))
        assert machine.end()[0] == 137


# --- one machine, with page tables that we make: 0x400000 is a page, and the page after it lies elsewhere ---

VIRTUAL, ALIAS, FIRST, SECOND, NEITHER = 0x40_0000, 0x80_0000, 0x20_0000, 0x21_0000, 0x3FFF_F000


@pytest.fixture(scope="module")
def paged():
    config = Config()
    with Machine(config, formats.prepare(formats.read_kernel(formats.default_kernel()), "auto", config.memory, "")) as machine:
        machine.build()
        tables = longmode.PageTables(0x30_0000)
        for virtual, physical in ((VIRTUAL, FIRST), (VIRTUAL + 0x1000, SECOND), (ALIAS, FIRST), (ALIAS + 0x1000, NEITHER)):
            tables.map(virtual, physical, 0x1000, longmode.WRITABLE, largest=0x1000)
        machine.bytes_at(0x30_0000, len(tables.tobytes()))[:] = tables.tobytes()
        fd = machine.vcpus[0].fd
        sregs = kvm.get_sregs(fd)
        sregs.cr3 = 0x30_0000
        kvm.set_sregs(fd, sregs)
        yield machine


@pytest.fixture
def view(paged):
    paged.bytes_at(FIRST, 0x20000)[:] = bytes(0x20000)
    return GuestView(paged.bytes_at, [], lambda text: None)


def test_a_breakpoint_across_two_pages_is_put_into_both(paged, view):
    fd, breakpoints = paged.vcpus[0].fd, Breakpoints(view, Abilities(True, False, False, False))
    assert breakpoints.add(fd, 0, VIRTUAL + 0xFFF, 1)
    assert (paged.bytes_at(FIRST + 0xFFF, 2), paged.bytes_at(SECOND, 1)) == (b"\xeb\0", b"\xfe")
    assert view.read(fd, VIRTUAL + 0xFFF, 2) == b"\0\0"
    breakpoints.clear()
    assert not any(paged.bytes_at(FIRST, 0x20000))


def test_a_breakpoint_at_the_end_of_memory_changes_nothing(paged, view):
    breakpoints = Breakpoints(view, Abilities(True, False, False, False))
    with pytest.raises(IndexError):
        breakpoints.add(paged.vcpus[0].fd, 0, ALIAS + 0xFFF, 1)
    assert not any(paged.bytes_at(FIRST, 0x20000)) and not view.patched


def test_of_two_breakpoints_in_the_same_memory_one_stays(paged, view):
    fd, breakpoints = paged.vcpus[0].fd, Breakpoints(view, Abilities(True, False, False, False))
    assert breakpoints.add(fd, 0, VIRTUAL + 8, 1) and breakpoints.add(fd, 0, ALIAS + 8, 1)
    breakpoints.remove(0, ALIAS + 8, 1)
    assert paged.bytes_at(FIRST + 8, 2) == b"\xeb\xfe"
    breakpoints.remove(0, VIRTUAL + 8, 1)
    assert paged.bytes_at(FIRST + 8, 2) == b"\0\0"


def test_a_write_that_leaves_memory_halfway_writes_nothing(paged, view):
    with pytest.raises(IndexError):
        view.write(paged.vcpus[0].fd, ALIAS + 0xFFE, b"four")
    assert not any(paged.bytes_at(FIRST, 0x20000))


def test_the_trap_flag_is_cleared_on_the_guests_stack_though_gdb_has_asked_for_physical_addresses(paged, view):
    fd, pushed = paged.vcpus[0].fd, pack("<5Q", 0x10117A, 8, 0x346, 0x1035C8, 0x10)
    paged.bytes_at(FIRST + 0x100, len(pushed))[:] = pushed
    regs = kvm.get_regs(fd)
    regs.rsp = VIRTUAL + 0x100
    kvm.set_regs(fd, regs)
    view.physical = True
    assert clear(fd, view) == 1
    assert unpack("<5Q", paged.bytes_at(FIRST + 0x100, len(pushed)))[2] == 0x246
