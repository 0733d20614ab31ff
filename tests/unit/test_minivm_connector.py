"""The process that makes a jailed guest's connections: what it does for whom, and what /proc says of it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from virtio_driver import until

from minivm.devices.virtio.vsock_call import CONNECTED, PORT, REFUSED
from minivm.machine.connector import start

LIMIT = 30
root = pytest.mark.skipif(os.geteuid() != 0, reason="it is not dumpable: its place in /proc is open to root alone")


@pytest.fixture
def connector(tmp_path):
    made = start(str(tmp_path / "v"))
    made.end.settimeout(LIMIT)
    yield made
    made.stop()


def listening(path, backlog=64):
    listener = socket.socket(socket.AF_UNIX)
    listener.settimeout(LIMIT)
    listener.bind(str(path))
    listener.listen(backlog)
    return listener


def ask(connector, port):
    connector.end.send(PORT.pack(port))
    word, fds, _, _ = socket.recv_fds(connector.end, 10, 5)
    return word, [socket.socket(fileno=fd) for fd in fds]


def told(pid, name):
    return next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(name)).split()[1:]


def gone(pid):
    return until(lambda: not Path(f"/proc/{pid}").exists() or told(pid, "State")[0] == "Z", LIMIT)


def test_a_port_is_a_connection_to_the_path_with_that_number(connector, tmp_path):
    with listening(tmp_path / "v_7") as listener:
        word, (end,) = ask(connector, 7)
        with end, listener.accept()[0] as other:
            assert word == CONNECTED
            end.sendall(b"hello")
            assert other.recv(10) == b"hello"


@pytest.mark.parametrize("there", ["nothing", "file", "datagrams", "nobody", "full"])
def test_what_takes_no_connection_is_a_refusal_and_the_next_is_answered(connector, tmp_path, there):
    path, kept = tmp_path / "v_8", []
    if there == "file":
        path.write_text("")
    elif there == "datagrams":
        kept.append(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        kept[0].bind(str(path))
    elif there == "nobody":
        listening(path).close()
    elif there == "full":
        kept += [listening(path, 0), socket.socket(socket.AF_UNIX)]
        kept[1].connect(str(path))
    assert ask(connector, 8) == (REFUSED, [])
    with listening(tmp_path / "v_9"):
        word, (end,) = ask(connector, 9)
        end.close()
        assert word == CONNECTED
    for one in kept:
        one.close()


@root
def test_it_keeps_its_socket_and_no_other_file_of_ours(connector):
    until(lambda: told(connector.pid, "Seccomp:") == ["2"])
    held = sorted(os.readlink(f"/proc/{connector.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{connector.pid}/fd"))
    assert held[:3] == ["/dev/null"] * 3 and len(held) == 4 and held[3].startswith("socket:")
    assert told(connector.pid, "NoNewPrivs:") == ["1"]
    assert os.getsid(connector.pid) == connector.pid, "no signal of our terminal reaches it"


@root
def test_of_roots_capabilities_it_keeps_one_and_reaches_another_users_socket(connector, tmp_path):
    until(lambda: told(connector.pid, "Seccomp:") == ["2"])
    mine = int(told("self", "CapEff:")[0], 16)
    sets = {name: int(told(connector.pid, f"Cap{name}:")[0], 16) for name in ("Inh", "Prm", "Eff", "Amb")}
    assert sets == {"Inh": 0, "Prm": mine & 2, "Eff": mine & 2, "Amb": 0}, "CAP_DAC_OVERRIDE"
    with listening(tmp_path / "v_7"):
        os.chown(tmp_path / "v_7", 12345, 12345)
        os.chmod(tmp_path / "v_7", 0o700)
        word, (end,) = ask(connector, 7)
        end.close()
        assert word == CONNECTED


@pytest.mark.parametrize("words", [b"", b"x", b"12345", b"/etc/passwd"])
def test_words_that_are_no_port_are_its_end(connector, words):
    connector.end.send(words)
    assert connector.end.recv(10) == b""
    assert gone(connector.pid)


def test_descriptors_that_are_sent_to_it_are_not_taken(connector):
    out, into = os.pipe()
    socket.send_fds(connector.end, [PORT.pack(1)], [into, into])
    assert connector.end.recv(10) == REFUSED
    os.close(into)
    assert os.read(out, 1) == b"", "nobody else has the pipe's other end"
    os.close(out)


@root
def test_who_asks_and_takes_no_answer_has_few_connections_made(connector, tmp_path):
    """Nor does it spin meanwhile: it sleeps in sendmsg(2)."""
    with listening(tmp_path / "v_7", 500) as listener:
        connector.end.setblocking(False)
        asked = 0
        try:
            while asked < 5000:
                connector.end.send(PORT.pack(7))
                asked += 1
        except BlockingIOError:
            pass
        until(lambda: Path(f"/proc/{connector.pid}/syscall").read_text().split()[0] == "46")  # sendmsg
        listener.setblocking(False)
        made = 0
        try:
            while True:
                listener.accept()[0].close()
                made += 1
        except BlockingIOError:
            pass
        assert 0 < made < 30 < asked < 5000


def test_it_ends_with_who_holds_the_other_end(tmp_path):
    program = "from minivm.machine.connector import start; made = start('v'); print(made.pid, flush=True); input()"
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, env=environment, **pipes) as child:
        pid = int(child.stdout.readline())
        assert told(pid, "PPid:") == [str(child.pid)]
        child.send_signal(signal.SIGKILL)
        assert child.stdout.read() == b"", "it does not hold our output either"
        child.wait(LIMIT)
    assert gone(pid)


def test_to_stop_one_that_does_not_end_has_a_limit(connector, monkeypatch):
    monkeypatch.setattr("minivm.machine.connector.LIMIT", 0.05)
    os.kill(connector.pid, signal.SIGSTOP)
    begin = time.monotonic()
    connector.stop()
    assert time.monotonic() - begin < LIMIT
    os.kill(connector.pid, signal.SIGCONT)
    os.waitpid(connector.pid, 0)


# As the connector: {} is a call.
TRY = """
import os, socket, ctypes, mmap
libc = ctypes.CDLL(None)
from minirt.plan.here import perform
from minivm.machine.connector import _confinement
perform(_confinement())
{}
os._exit(0)
"""


@pytest.mark.parametrize("call", [
    "socket.socket(socket.AF_INET)", "socket.socket(socket.AF_UNIX).listen()", "os.open('/etc/passwd', 0)", "os.read(0, 1)",
    "os.unlink('/x')", "os.fork()", "os.kill(os.getppid(), 0)", "os.execv('/bin/true', ['true'])", "libc.bind(0, 0, 0)",
    "mmap.mmap(-1, 4096, prot=7)",
])  # fmt: skip
def test_what_it_need_not_do_is_its_death(call):
    done = subprocess.run([sys.executable, "-c", TRY.format(call)], stdin=subprocess.DEVNULL, timeout=LIMIT, check=False)
    assert done.returncode == -signal.SIGSYS


def test_what_it_does_is_let_through():
    call = "made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK); made.connect_ex('/nowhere')"
    done = subprocess.run([sys.executable, "-c", TRY.format(call)], timeout=LIMIT, check=False)
    assert done.returncode == 0
