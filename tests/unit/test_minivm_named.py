"""A machine's directory and its control socket: what may lie in the files, who asks at the same moment, and peers that lie."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minivm.manager import client, machines
from minivm.manager.machines import Busy, MachineError, NamedMachine

DOCUMENT = {"machine-config": {"vcpu_count": 1, "mem_size_mib": 64}}
STATUSES = ("created", "starting", "running", "stopping", "stopped")


@pytest.fixture(scope="module")
def box(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIRT_ROOT", str(tmp_path_factory.mktemp("root")))
        yield machines.create("box", DOCUMENT)


# --- who asks at the same moment ---


def test_whoever_asks_whether_a_machine_runs_is_not_taken_for_its_process(box):
    """Two commands may ask at once, and one may start it then: a look must not look like a machine."""
    done = threading.Event()
    seen: list[bool] = []

    def look() -> None:
        while not done.is_set():
            seen.append(box.runs())

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(300):
            os.close(box.take())
    finally:
        done.set()
        for thread in threads:
            thread.join()
    fd = box.take()
    assert box.runs() and box.runs()
    with pytest.raises(Busy):
        box.take()
    os.close(fd)
    assert not box.runs()


def test_lookers_see_no_machine_in_each_other(box):
    fd = os.open(box.file("vmm.lock"), os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_SH)  # as another that looks just now
    try:
        assert not box.runs()
    finally:
        os.close(fd)


def test_a_start_between_two_looks_is_no_kill(box, monkeypatch):
    """What was asked first is old by the time that the file is read."""
    held: list[int] = []

    def runs(self: NamedMachine) -> bool:
        if not held:
            held.append(self.take())
            self.save(status="running", pid=1, started=2)
            return False  # as it was a moment ago
        return True

    monkeypatch.setattr(NamedMachine, "runs", runs)
    try:
        assert box.state()["status"] == "running"
    finally:
        os.close(held[0])


def test_a_lock_on_what_was_removed_is_not_a_lock_on_its_successor(box):
    """`rm` holds the lock, `start` waits for it, and `create` takes the name meanwhile."""
    machine = machines.create("heir", DOCUMENT)
    entered, errors = threading.Event(), []

    def start() -> None:
        entered.set()
        try:
            with machine.lock():
                path = os.stat(machine.file("lock"))
                held = [os.fstat(int(fd)) for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")]
                assert any(os.path.samestat(path, each) for each in held), "the lock of the directory that is there now"
        except (AssertionError, MachineError, OSError) as error:
            errors.append(error)

    thread = threading.Thread(target=start)
    with machine.lock():
        thread.start()
        entered.wait()
        while thread.is_alive() and not _waiters(machine.file("lock")):
            time.sleep(0.001)
        os.rename(machine.path, f"{machines.directory()}/tmp/gone")
        machines.create("heir", DOCUMENT)
    thread.join()
    assert errors == []


def _waiters(path: str) -> bool:
    number = os.stat(path).st_ino
    with open("/proc/locks", encoding="ascii") as file:
        return any("->" in line and line.split()[6].rpartition(":")[2] == str(number) for line in file)


def test_a_lock_of_a_machine_that_went_meanwhile_says_so(box):
    machine = machines.create("gone", DOCUMENT)
    machines.remove(machine)
    with pytest.raises(MachineError, match="no machine 'gone'"), machine.lock():
        pass


# --- files that lie: a process in a jail may write to outcome.json whatever it likes ---

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=5), inside, max_size=3),
    max_leaves=6,
)
STATE = st.fixed_dictionaries({}, optional={
    "status": st.sampled_from(STATUSES) | JSON, "pid": st.integers(1, 9) | JSON, "started": st.just(5) | JSON,
    "exit_status": st.integers(0, 255) | JSON, "reason": JSON, "ended": JSON,
})  # fmt: skip
FILE = st.binary(max_size=20) | (JSON | STATE).map(lambda value: json.dumps(value).encode()) | st.just(b"[" * 100_000)


@given(FILE, FILE)
@settings(deadline=None)
def test_whatever_lies_in_its_files_a_machine_has_a_state(box, state, outcome):
    for name, data in (("state.json", state), ("outcome.json", outcome)):
        with open(box.file(name), "wb") as file:
            file.write(data)
    found = box.state()
    assert found["status"] in ("created", "stopped"), "nothing runs"
    status, reason = found.get("exit_status"), found.get("reason", "")
    assert status is None or (type(status) is int and 0 <= status <= 255)
    assert isinstance(reason, str) and reason.isprintable()


def test_an_outcome_counts_only_for_the_run_that_it_is_of(box):
    box.save(status="running", pid=1, started=5)
    for started, expected in ((5, 7), (6, None)):
        with open(box.file("outcome.json"), "w", encoding="ascii") as file:
            json.dump({"status": "stopped", "started": started, "ended": 9, "exit_status": 7, "reason": ""}, file)
        assert box.state()["exit_status"] == expected


# --- a peer that lies ---


class Peer(threading.Thread):
    """Something that listens at a machine's control socket, and answers each request with the same bytes."""

    def __init__(self, machine: NamedMachine, answer: bytes) -> None:
        super().__init__(daemon=True)
        self.answer = answer
        self.listener = socket.socket(socket.AF_UNIX)
        self.path = machine.file(client.SOCKET)
        directory = os.open(machine.path, os.O_PATH)
        self.listener.bind(client.short_path(directory))
        os.close(directory)
        self.listener.listen(4)
        self.start()

    def run(self) -> None:
        stream, _ = self.listener.accept()
        with stream:
            stream.recv(4096)
            try:
                stream.sendall(self.answer)
            except OSError:
                pass

    def close(self) -> None:
        self.listener.close()
        os.unlink(self.path)


@pytest.mark.parametrize(
    "answer",
    [
        b"\n", b"{}\n", b"[]\n", b"null\n", b'{"status": "200"}\n', b'{"status": 400}\n', b'{"status": 400, "body": 7}\n',
        b'{"status": 400, "body": {"fault_message": 7}}\n', b"\xff\n", b"[" * 30_000 + b"\n", b"x" * (3 << 20), b"half",
    ],
)  # fmt: skip
def test_an_answer_that_is_none_is_an_error_and_no_crash(box, answer):
    peer = Peer(box, answer)
    try:
        with pytest.raises(MachineError, match="box"):
            client.request(box, "GET", "/")
    finally:
        peer.close()


def test_a_fault_is_told_in_one_line_without_a_terminals_commands(box):
    peer = Peer(box, json.dumps({"status": 400, "body": {"fault_message": "no\x1b]0;title\x07\nsuch"}}).encode() + b"\n")
    try:
        with pytest.raises(MachineError) as caught:
            client.request(box, "GET", "/")
        assert str(caught.value).isprintable()
    finally:
        peer.close()


def test_a_machine_that_is_busy_is_not_called_one_that_does_not_run(box, monkeypatch):
    """man 2 connect: EAGAIN where as many wait at the socket already as it lets."""
    monkeypatch.setattr(client, "PATIENCE", 0.1)
    directory, waiting = os.open(box.path, os.O_PATH), []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(client.short_path(directory))
        listener.listen(0)
        try:
            while True:
                waiting.append(socket.socket(socket.AF_UNIX))
                waiting[-1].setblocking(False)
                waiting[-1].connect(client.short_path(directory))
        except BlockingIOError:
            pass
        with pytest.raises(MachineError, match="does not answer"):
            client.connect(box)
    for stream in waiting:
        stream.close()
    os.unlink(box.file(client.SOCKET))
    with pytest.raises(MachineError, match="not running"):
        client.connect(box)
