"""Machines by name: their life, their console, their control socket, and what kill -9 leaves of them."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import random
import re
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

LIMIT = 60
pytestmark = [
    pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="/dev/kvm is missing or not ours to open"),
    pytest.mark.timeout(LIMIT + 60),
]


class Minivm:
    """The command, with machines of its own below `root`."""

    def __init__(self, root: Path) -> None:
        self.machines = root / "lib" / "machines"
        self.env = {**os.environ, "MINIRT_ROOT": str(root)}

    def command(self, *words: object) -> list[str]:
        return [sys.executable, "-m", "minivm", *map(str, words)]

    def __call__(self, *words: object, **more: object) -> subprocess.CompletedProcess[str]:
        more = {"input": "", "capture_output": True, "text": True, "timeout": LIMIT, "env": self.env, **more}
        return subprocess.run(self.command(*words), **more)

    def ok(self, *words: object, **more: object) -> str:
        done = self(*words, **more)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def about(self, name: str) -> dict[str, object]:
        return json.loads(self.ok("inspect", name))[0]

    def started(self, name: str, *words: object) -> str:
        self.ok("create", name, *words)
        self.ok("start", name)
        return name

    def kill_all(self) -> None:
        for path in self.machines.glob("*/state.json"):
            with contextlib.suppress(ValueError, KeyError, OSError):
                pid = json.loads(path.read_text())["pid"]
                if f"vmm\0{path.parent.name}\0".encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGKILL)


@pytest.fixture
def minivm():
    root = Path(tempfile.mkdtemp(prefix="minivm-machines-", dir="/var/tmp"))
    command = Minivm(root)
    yield command
    command.kill_all()
    shutil.rmtree(root)


def ask(minivm: Minivm, name: str, *lines: bytes) -> list[dict[str, object]]:
    """Send lines to a machine's control socket; return the answers."""
    with socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(LIMIT)
        stream.connect(str(minivm.machines / name / "api.sock"))
        stream.sendall(b"".join(line + b"\n" for line in lines))
        file = stream.makefile("rb")
        return [json.loads(file.readline()) for _ in lines]


def request(method: str, path: str, **body: object) -> bytes:
    return json.dumps({"method": method, "path": path, "body": body}).encode()


def until(question, limit: float = LIMIT):
    end = time.monotonic() + limit
    while not (answer := question()) and time.monotonic() < end:
        time.sleep(0.01)
    return answer


def ended(pid: str) -> bool:
    """Say whether a process is gone, or waits for its parent to look."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


# --- life ---


def test_a_machine_is_created_started_typed_to_and_keeps_its_status(minivm):
    minivm.started("box", "--cmdline", "a=1")
    about = minivm.about("box")
    assert about["status"] == "running" and b"vmm\0box\0" in Path(f"/proc/{about['pid']}/cmdline").read_bytes()
    assert os.getsid(about["pid"]) == about["pid"], "a session of its own: a terminal's ctrl-C is not for it"
    word = secrets.token_hex(8)
    done = minivm("console", "box", input=f"{word}\nexit 9\n")
    assert done.returncode == 9 and f"backwards: {word[::-1]}" in done.stdout
    assert minivm.ok("wait", "box") == "9\n"
    assert "command line: a=1" in minivm.ok("logs", "box")
    assert f"backwards: {word[::-1]}" in minivm.ok("logs", "--tail", "12", "box")
    about = minivm.about("box")
    assert (about["status"], about["exit_status"], about["reason"]) == ("stopped", 9, "")
    assert not (minivm.machines / "box" / "api.sock").exists()
    minivm.ok("start", "box")
    assert minivm("start", "-a", "box").returncode == 1, "it runs"
    assert minivm("rm", "box").stderr == "minivm: machine box is running: minivm stop box, or rm -f\n"
    minivm.ok("stop", "--time", "0", "box")
    assert minivm.about("box")["exit_status"] == 128 + signal.SIGTERM
    assert minivm.ok("rm", "box") == "box\n" and minivm.ok("ps", "-a", "--format", "json") == "[]\n"


def test_how_a_machine_ended_is_kept_where_no_new_file_can_be_written(minivm):
    """As on a disk that has filled up meanwhile."""
    box = minivm.machines / minivm.started("box")
    (box / "state.json.new").mkdir()
    assert minivm("console", "box", input="exit 6\n").returncode == 6
    assert minivm.ok("wait", "box") == "6\n" and (box / "outcome.json").stat().st_blocks * 512 >= 4096, "its room was kept"
    (box / "state.json.new").rmdir()
    minivm.ok("start", "box")
    (box / "state.json.new").mkdir()
    os.kill(minivm.about("box")["pid"], signal.SIGKILL)
    assert minivm.ok("wait", "box") == "killed\n", "what is kept is of an earlier run"


def test_however_often_it_is_told_to_end_it_ends_once_and_says_how(minivm):
    """As by two who stop it at once."""
    for _ in range(3):
        if not (minivm.machines / "box").exists():
            minivm.ok("create", "box")
        minivm.ok("start", "box")
        pidfd = os.pidfd_open(minivm.about("box")["pid"])
        with contextlib.suppress(ProcessLookupError):
            for _ in range(100_000):
                signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        os.close(pidfd)
        assert minivm.ok("wait", "box") == f"{128 + signal.SIGTERM}\n" and minivm.about("box")["reason"] == "stopped by SIGTERM"


def test_to_wait_for_what_never_ran_is_an_error_and_no_kill(minivm):
    minivm.ok("create", "box")
    done = minivm("wait", "box")
    assert (done.returncode, done.stdout) == (1, "") and "was never started: minivm start box" in done.stderr


@pytest.mark.parametrize("seconds", ["nan", "-1", "x"])
def test_a_time_that_is_none_stops_nothing(minivm, seconds):
    minivm.started("box")
    done = minivm("stop", f"--time={seconds}", "box")
    assert done.returncode == 2 and "--time" in done.stderr and minivm.about("box")["status"] == "running"


@pytest.mark.skipif(os.geteuid() != 0, reason="another user is given up by root alone")
def test_a_machine_in_a_jail_has_a_life_and_its_end_is_known(minivm):
    minivm.started("box", "--jail")
    for turn in range(2):
        pid = minivm.about("box")["pid"]
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        assert int(status["Uid"].split()[0]) >= 0x7000_0000 and status["Seccomp"].strip() == "2"
        assert os.listdir(f"/proc/{pid}/root") == []
        minivm.ok("pause", "box")
        assert minivm.about("box")["status"] == "paused"
        minivm.ok("resume", "box")
        (answer,) = ask(minivm, "box", b'{"method": "PUT", "path": "/dump", "body": {"path": "/tmp/core"}}')
        assert answer["status"] == 400 and minivm.about("box")["status"] == "running"
        word = secrets.token_hex(8)
        done = minivm("console", "box", input=f"{word}\nexit {turn + 3}\n")
        assert done.returncode == turn + 3 and f"backwards: {word[::-1]}" in done.stdout
        assert minivm.about("box")["exit_status"] == turn + 3 and word[::-1] in minivm.ok("logs", "box")
        minivm.ok("start", "box")
    os.kill(minivm.about("box")["pid"], signal.SIGKILL)
    about = until(lambda: (found := minivm.about("box"))["status"] == "stopped" and found)
    assert about["exit_status"] is None and about["reason"] == "its process was killed", "not the end of an earlier run"


@pytest.mark.skipif(os.geteuid() != 0, reason="another user is given up by root alone")
def test_of_a_machine_in_a_jail_no_file_grows_far_beyond_its_largest_disk(minivm, tmp_path):
    (tmp_path / "disk").write_bytes(bytes(32 << 20))
    (tmp_path / "large").write_bytes(b"")
    os.truncate(tmp_path / "large", 1 << 40)
    minivm.started("box", "--jail", "--disk", tmp_path / "disk", "--disk", f"{tmp_path / 'large'},ro")
    limits = Path(f"/proc/{minivm.about('box')['pid']}/limits").read_text()
    soft, hard = re.search(r"^Max file size +(\d+) +(\d+)", limits, re.M).groups()
    assert soft == hard and 32 << 20 <= int(soft) <= 48 << 20
    minivm.ok("stop", "box", "--time", "0")


@pytest.mark.skipif(os.geteuid() != 0, reason="another user is given up by root alone")
@pytest.mark.skipif(shutil.which("passt") is None, reason="passt is not installed")
def test_a_machine_in_a_jail_has_a_network_in_user_mode(minivm):
    minivm.started("box", "--jail", "--net", "user")
    assert minivm.ok("stop", "box", "--time", "0") == "box\n" and minivm.about("box")["exit_status"] == 128 + signal.SIGTERM


@pytest.mark.skipif(os.geteuid() != 0, reason="another user is given up by root alone")
def test_a_machine_in_a_jail_has_a_process_that_connects_for_it_and_ends_with_it(minivm):
    """Which holds none of its files, vmm.lock least of all; a killed machine can be started again at once."""
    minivm.started("box", "--jail", "--vsock", minivm.machines.parent / "v")
    pid = minivm.about("box")["pid"]
    (connector,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    assert until(lambda: "\nSeccomp:\t2\n" in Path(f"/proc/{connector}/status").read_text()), "it does that to itself"
    assert Path(f"/proc/{connector}/comm").read_text() == "minivm-connect\n" and len(os.listdir(f"/proc/{connector}/fd")) == 4
    limit = Path(f"/proc/{pid}/limits").read_text().partition("Max open files")[2].split()[0]
    assert int(limit) > 150, "the guest's connections leave room for those of the control socket"
    os.kill(pid, signal.SIGKILL)
    until(lambda: minivm.about("box")["status"] == "stopped")
    minivm.ok("start", "box")
    minivm.ok("stop", "box", "--time", "0")
    assert until(lambda: ended(connector))


def test_a_balloon_is_aimed_and_read_in_firecrackers_words(minivm):
    minivm.started("box", "--balloon", "8m")
    answers = ask(minivm, "box", request("GET", "/balloon"), request("PATCH", "/balloon", amount_mib=4), request("GET", "/balloon"))
    assert [answer.get("body", {}).get("amount_mib") for answer in answers] == [8, None, 4] and answers[1]["status"] == 204
    minivm.ok("balloon", "box", "16m")
    found = json.loads(minivm.ok("balloon", "box", "--format", "json"))
    assert (found["target_mib"], found["actual_mib"], found["target_pages"]) == (16, 0, 4096), "the in-tree guest has no driver"
    assert "0 MiB of 16 MiB" in minivm.ok("balloon", "box")
    for amount in (-1, True, "4", None, 1 << 20):
        (answer,) = ask(minivm, "box", request("PATCH", "/balloon", amount_mib=amount))
        assert answer["status"] == 400 and "amount_mib" in answer["body"]["fault_message"]
    minivm.started("without")
    done = minivm("balloon", "without")
    assert done.returncode == 1 and "has no virtio-balloon: make it with --balloon" in done.stderr


def test_a_machine_with_a_virtio_console_keeps_how_it_ended(minivm):
    """Its console is open still when the last of it is read."""
    minivm.started("box", "--console", "virtio")
    minivm.ok("stop", "--time", "0", "box")
    about = minivm.about("box")
    assert (about["exit_status"], about["reason"]) == (128 + signal.SIGTERM, "stopped by SIGTERM")


def test_ps_lists_what_runs_and_with_a_everything(minivm):
    minivm.started("one", "-m", "48m")
    minivm.ok("create", "two")
    assert minivm.ok("ps", "-q") == "one\n" and minivm.ok("ps", "-aq") == "one\ntwo\n"
    table = minivm.ok("ps", "-a").splitlines()
    assert re.fullmatch(r"one +running +\d+ +1 +48m +in-tree guest", table[1]) and "created" in table[2]


def test_a_machine_is_made_from_a_file(minivm, tmp_path):
    (tmp_path / "boot.bin").write_bytes(bytes.fromhex("b007 e6f4 f4").ljust(510, b"\0") + b"\x55\xaa")  # out 0xf4, 7
    (tmp_path / "box.toml").write_text(
        '[boot-source]\nkernel_image_path = "boot.bin"\n[machine-config]\nvcpu_count = 1\nmem_size_mib = 1\n'
    )
    minivm.ok("create", "box", "-f", tmp_path / "box.toml", cwd="/")
    minivm.ok("start", "box")
    assert minivm.ok("wait", "box") == "15\n", "7 << 1 | 1"
    done = minivm("create", "other", "-f", tmp_path / "box.toml", "-c", "2")
    assert done.returncode == 2 and "cpus" in done.stderr
    (tmp_path / "box.toml").write_text("[machine-config]\nvcpu_count = 0\nmem_size_mib = 1\n")
    done = minivm("create", "other", "-f", tmp_path / "box.toml")
    assert done.returncode == 1 and "machine-config.vcpu_count: 0 is not between" in done.stderr


def test_what_cannot_start_says_so_and_may_be_started_again(minivm, tmp_path):
    disk = tmp_path / "disk"
    minivm.ok("create", "box", "--disk", disk)
    done = minivm("start", "box")
    assert done.returncode == 1 and "no such disk" in done.stderr and done.stderr.count("\n") == 1
    assert minivm.about("box")["exit_status"] == 125
    disk.write_bytes(bytes(512))
    minivm.ok("start", "box")
    assert minivm.about("box")["status"] == "running"


def test_one_of_many_gets_the_name_and_one_of_many_starts_it(minivm):
    many = [subprocess.Popen(minivm.command("create", "box"), env=minivm.env, stderr=subprocess.PIPE) for _ in range(6)]
    texts = [child.communicate(timeout=LIMIT)[1] for child in many]
    assert sorted(child.returncode for child in many) == [0, 1, 1, 1, 1, 1] and sum(b"is in use" in text for text in texts) == 5
    many = [subprocess.Popen(minivm.command("start", "box"), env=minivm.env, stderr=subprocess.PIPE) for _ in range(4)]
    texts = [child.communicate(timeout=LIMIT)[1] for child in many]
    assert sorted(child.returncode for child in many) == [0, 1, 1, 1] and sum(b"is running" in text for text in texts) == 3
    assert minivm("rm", "box").returncode == 1 and minivm.about("box")["status"] == "running"
    minivm.ok("rm", "-f", "box")


@pytest.mark.parametrize("name", ["", ".", "a/b", "-x", "a b", "é", "x" * 65, "tmp", "a\n"])
def test_not_everything_is_a_name(minivm, name):
    assert minivm("create", "--", name).returncode == 1
    assert minivm.ok("ps", "-aq") == ""


def test_every_command_says_when_there_is_no_such_machine(minivm):
    for words in (["start"], ["stop"], ["pause"], ["resume"], ["wait"], ["inspect"], ["logs"], ["rm"], ["console"]):
        for name in ("none", "../none", "tmp"):
            done = minivm(*words, name)
            assert done.returncode == 1 and f"no machine {name!r}" in done.stderr, words


# --- kill -9 ---


def test_a_killed_machine_shows_as_stopped_and_starts_again(minivm):
    minivm.started("box")
    os.kill(minivm.about("box")["pid"], signal.SIGKILL)
    assert until(lambda: minivm.about("box")["status"] == "stopped")
    about = minivm.about("box")
    assert about["exit_status"] is None and "killed" in about["reason"] and "stopped (killed)" in minivm.ok("ps", "-a")
    assert minivm.ok("wait", "box") == "killed\n"
    minivm.ok("start", "box")
    assert minivm.about("box")["status"] == "running"


def test_commands_killed_at_any_moment_leave_what_the_next_repairs(minivm):
    """Create, start, stop and rm, each killed after a random time, again and again; nothing but the machine is left."""
    dice = random.Random(5)
    for _ in range(40):
        words = dice.choice([("create", "box"), ("start", "box"), ("stop", "-t", "0", "box"), ("rm", "-f", "box")])
        child = subprocess.Popen(minivm.command(*words), env=minivm.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(dice.uniform(0, 0.25))
        child.kill()
        child.wait(LIMIT)
    names = minivm.ok("ps", "-aq").split()
    assert names in ([], ["box"])
    if not names:
        minivm.ok("create", "box")
    until(lambda: minivm.about("box")["status"] not in ("starting", "stopping"))
    if minivm.about("box")["status"] != "running":
        minivm.ok("start", "box")
    assert minivm("console", "box", input="exit 3\n").returncode == 3
    minivm.ok("rm", "box")
    assert sorted(path.name for path in minivm.machines.iterdir()) == ["tmp", "tmp.lock"]
    assert not list((minivm.machines / "tmp").iterdir())


# --- pause ---


def ticks_in(minivm: Minivm, name: str) -> float:
    """Return the seconds of processor time that the machine's process has used."""
    fields = Path(f"/proc/{minivm.about(name)['pid']}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_paused_machine_says_so_and_does_nothing_until_it_is_resumed(minivm, tmp_path):
    (tmp_path / "spin.bin").write_bytes(b"\xeb\xfe")
    minivm.started("box", tmp_path / "spin.bin", "--boot", "flat16", "-m", "1m")
    assert until(lambda: ticks_in(minivm, "box") > 0.3), "it spins"
    assert minivm.ok("pause", "box") == "box\n" and minivm.about("box")["status"] == "paused" and "paused" in minivm.ok("ps")
    before = ticks_in(minivm, "box")
    time.sleep(0.5)
    assert ticks_in(minivm, "box") - before < 0.1
    minivm.ok("resume", "box")
    assert minivm.about("box")["status"] == "running" and until(lambda: ticks_in(minivm, "box") > before + 0.3)
    minivm.ok("pause", "box")
    minivm.ok("stop", "box")
    assert minivm.about("box")["status"] == "stopped"


# --- console ---


@contextlib.contextmanager
def terminal(minivm: Minivm, *words: object):
    """Run a command on a terminal; yield its master and the process."""
    pid, master = pty.fork()
    if not pid:
        os.execve(sys.executable, minivm.command(*words), minivm.env)
    try:
        yield master, pid
    finally:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(master)


def read_until(fd: int, text: bytes) -> bytes:
    seen, end = b"", time.monotonic() + LIMIT
    while text not in seen and time.monotonic() < end and select.select([fd], [], [], LIMIT)[0]:
        try:
            seen += os.read(fd, 4096)
        except OSError:
            break
    assert text in seen, seen
    return seen


def test_the_console_is_left_by_its_keys_and_returned_to(minivm):
    minivm.started("box")
    with terminal(minivm, "console", "--replay", "box") as (master, pid):
        read_until(master, b"> ")
        os.write(master, b"abc\n")
        read_until(master, b"backwards: cba")
        os.write(master, b"\x10\x11")
        read_until(master, b"box runs on")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert minivm.about("box")["status"] == "running"
    with terminal(minivm, "console", "--detach-keys", "ctrl-a,d", "box") as (master, pid):
        os.write(master, b"xyz\n")
        read_until(master, b"backwards: zyx")
        os.write(master, b"\x01d")
        read_until(master, b"box runs on")
    with terminal(minivm, "console", "box") as (master, pid):
        os.write(master, b"exit 6\n")
        read_until(master, b"status 6")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 6


def test_start_with_attach_misses_nothing(minivm):
    minivm.ok("create", "box")
    done = minivm("start", "-a", "box", input="exit 4\n")
    assert done.returncode == 4 and done.stdout.startswith("Hello from the minivm guest")


def test_logs_follow_until_the_end(minivm):
    minivm.started("box")
    with subprocess.Popen(minivm.command("logs", "-f", "box"), env=minivm.env, stdout=subprocess.PIPE) as child:
        read_until(child.stdout.fileno(), b"> ")
        minivm("console", "box", input="exit 0\n")
        assert b"power off with status 0" in child.stdout.read() and child.wait(LIMIT) == 0


ENDLESS = bytes.fromhex("ba f803 b0 2e ee eb fd")  # mov dx, 0x3f8; mov al, '.'; out dx, al; jmp to the out


def test_a_client_that_does_not_read_stops_nobody(minivm, tmp_path):
    (tmp_path / "endless.bin").write_bytes(ENDLESS)
    minivm.started("box", tmp_path / "endless.bin", "--boot", "flat16", "-m", "1m")
    log = minivm.machines / "box" / "console.log"
    with socket.socket(socket.AF_UNIX) as stream:
        stream.connect(str(minivm.machines / "box" / "api.sock"))
        stream.sendall(request("PUT", "/console", replay=True) + b"\n")
        assert until(lambda: log.stat().st_size > 100_000), "it goes on though nobody reads"
        assert ask(minivm, "box", request("GET", "/"))[0]["status"] == 200
    minivm.ok("stop", "-t", "0", "box")


# --- the control socket ---


def test_the_control_socket_speaks_of_firecrackers_resources(minivm):
    minivm.started("box", "-c", "2", "-m", "32m")
    assert (minivm.machines / "box" / "api.sock").stat().st_mode & 0o777 == 0o600
    root, config, whole, paused, state, again, wrong, none = ask(
        minivm, "box", request("GET", "/"), request("GET", "/machine-config"), request("GET", "/vm/config"),
        request("PATCH", "/vm", state="Paused"), request("GET", "/"), request("PATCH", "/vm", state="Resumed"),
        request("PATCH", "/vm", state="Off"), request("DELETE", "/nothing"),
    )  # fmt: skip
    assert root["body"]["id"] == "box" and root["body"]["state"] == "Running" and root["body"]["app_name"] == "minivm"
    assert config == {"status": 200, "body": {"vcpu_count": 2, "mem_size_mib": 32}}
    assert whole["body"]["machine-config"] == config["body"]
    assert (paused, state["body"]["state"], again) == ({"status": 204}, "Paused", {"status": 204})
    assert wrong["status"] == 400 and "Paused or Resumed" in wrong["body"]["fault_message"] and none["status"] == 404
    assert ask(minivm, "box", request("PUT", "/actions", action_type="SendCtrlAltDel")) == [{"status": 204}]


KEYS = st.sampled_from(["method", "path", "body", "status"])
REQUESTS = st.recursive(
    st.none() | st.integers() | st.text(max_size=9) | st.sampled_from(["GET", "PUT", "/", "/vm"]),
    lambda inside: st.lists(inside) | st.dictionaries(KEYS, inside),
)


def test_no_request_harms_the_machine(minivm):
    minivm.started("box")

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.binary(max_size=80) | REQUESTS.map(lambda value: json.dumps(value).encode()))
    def try_it(line):
        with socket.socket(socket.AF_UNIX) as stream:
            stream.settimeout(LIMIT)
            stream.connect(str(minivm.machines / "box" / "api.sock"))
            stream.sendall(line.replace(b"\n", b" ") + b"\n")
            assert json.loads(stream.makefile("rb").readline())["status"] in (200, 400, 404, 405)

    try_it()
    with socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(LIMIT)
        stream.connect(str(minivm.machines / "box" / "api.sock"))
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            for _ in range(100):
                stream.sendall(b"x" * 4096)  # a line without end
                time.sleep(0.001)
            stream.recv(1)
            raise BrokenPipeError
    assert minivm("console", "box", input="exit 5\n").returncode == 5


# --- where it runs ---


def test_a_processors_thread_runs_where_it_may(minivm):
    one = min(os.sched_getaffinity(0))
    minivm.started("box", "--cpu-affinity", one)
    tasks = Path(f"/proc/{minivm.about('box')['pid']}/task")
    threads = {int(path.name): os.sched_getaffinity(int(path.name)) for path in tasks.iterdir()}
    main = threads.pop(int(minivm.about("box")["pid"]))
    assert {one} in threads.values() and main == os.sched_getaffinity(0)
    done = minivm("run", "--cpu-affinity", "8000")
    assert done.returncode == 125 and "sched_setaffinity(8000): EINVAL" in done.stderr and "may use processors" in done.stderr


def test_a_start_on_processors_that_the_host_lacks_is_no_success(minivm):
    minivm.ok("create", "box", "--cpus", "2", "--cpu-affinity", f"{min(os.sched_getaffinity(0))}:8000")
    done = minivm("start", "box")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1) and "sched_setaffinity(8000)" in done.stderr
    assert minivm.about("box")["status"] == "stopped"


def test_a_machine_is_born_into_its_control_group(minivm):
    unified = Path("/sys/fs/cgroup/unified")
    group = (unified if unified.is_dir() else unified.parent) / f"minivm-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        minivm.started("box", "--cgroup", group)
        assert (group / "cgroup.procs").read_text().split() == [str(minivm.about("box")["pid"])]
        minivm.ok("rm", "-f", "box")
        done = minivm("run", "--cgroup", "no/such/group")
        assert done.returncode == 125 and "there is no such control group" in done.stderr
    finally:
        minivm.kill_all()
        assert until(lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()


def test_a_dump_may_take_longer_than_other_answers(minivm, tmp_path, monkeypatch):
    """Gigabytes on a slow disk do: the machine's process is stopped, and goes on after the time that others are given."""
    from minivm.cli.main import main

    name, core = minivm.started("box"), tmp_path / "core"
    pid = minivm.about(name)["pid"]
    monkeypatch.setenv("MINIRT_ROOT", minivm.env["MINIRT_ROOT"])
    monkeypatch.setattr("minivm.manager.client.PATIENCE", 0.1)
    os.kill(pid, signal.SIGSTOP)
    waker = subprocess.Popen(["sh", "-c", f"sleep 1; kill -CONT {pid}"])
    try:
        assert main(["dump", name, str(core)]) == 0 and core.stat().st_size > 1 << 20
    finally:
        waker.wait()


def test_a_running_machine_is_dumped_and_runs_on(minivm, tmp_path):
    name, core = minivm.started("box", "--cpus", "2", "--cmdline", "seen in the dump"), tmp_path / "core"
    assert "KiB" in minivm("dump", name, core).stderr
    assert b"seen in the dump" in core.read_bytes() and minivm.about(name)["status"] == "running"
    found = json.loads(minivm.ok("walk", core, "0x200000", "--format", "json"))[0]
    assert (found["physical"], found["page_size"]) == (0x200000, 2 << 20)
    minivm.ok("pause", name)
    minivm.ok("dump", name, core)
    assert minivm.about(name)["status"] == "paused", "as it was"
    assert "cannot write dump" in minivm("dump", name, "/nonexistent/x").stderr
    assert "no machine" in minivm("dump", "nobody", core).stderr
