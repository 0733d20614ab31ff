"""`minirt oci`: a container's life as runc's callers lead it; what is asserted is what the kernel says of it."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command import gone
from oci_bundle import Bundle

from minirt.linux.cgroup2 import find_mount

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="making a container's namespaces needs CAP_SYS_ADMIN"),
]
LIMIT = 60


class Runtime:
    """The command minirt-oci with a root of its own, and one bundle."""

    def __init__(self, place: Path) -> None:
        self.root = place / "state"
        self.bundle = Bundle(place / "bundle")
        self.config = self.bundle.config
        self.config["process"]["args"] = ["sleep", "1000"]
        self.path = place
        self.group = f"minirt/{place.name}"  # not the container's name: other runs of these tests have it too
        self.config["linux"]["cgroupsPath"] = f"/{self.group}"

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", "minirt", "oci", "--root", str(self.root)]

    def write(self) -> None:
        (self.bundle.path / "config.json").write_text(json.dumps(self.config))

    def __call__(self, *words: object, stdin: Any = subprocess.DEVNULL, **more: Any) -> subprocess.CompletedProcess[str]:
        self.write()
        command = [*self.command, *map(str, words)]
        more = {"capture_output": True, **more}
        return subprocess.run(command, stdin=stdin, text=True, timeout=LIMIT, check=False, **more)

    def good(self, *words: object, **more: Any) -> str:
        done = self(*words, **more)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def create(self, *flags: object) -> None:
        """Create the container `box`; its descriptors are files, as nobody would close a pipe."""
        with open(self.path / "out", "w") as out, open(self.path / "err", "w") as err:
            done = self("create", "--bundle", self.bundle.path, *flags, "box", capture_output=False, stdout=out, stderr=err)
        assert done.returncode == 0, (self.path / "err").read_text()

    def state(self) -> dict[str, Any]:
        return json.loads(self.good("state", "box"))

    @property
    def pid(self) -> int:
        return self.state()["pid"]

    def left(self) -> list[str]:
        """What is in the state directory, and our containers' cgroup."""
        found = [str(p) for p in self.root.iterdir()] if self.root.exists() else []
        return found + [str(p) for p in Path(find_mount() or "/nowhere").glob(self.group)]


@pytest.fixture
def oci() -> Iterator[Runtime]:
    with tempfile.TemporaryDirectory(prefix="minirt-oci-", dir="/var/tmp") as place:
        os.chmod(place, 0o755)
        runtime = Runtime(Path(place))
        yield runtime
        runtime("delete", "--force", "box")
        assert runtime.left() == []


def wait_for(condition: Any) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, condition
        time.sleep(0.01)


def test_run_gives_the_program_s_exit_status_and_leaves_nothing(oci: Runtime) -> None:
    oci.config["process"]["args"] = ["sh", "-c", "echo hello; exit 7"]
    done = oci("run", "--bundle", oci.bundle.path, "box")
    assert (done.returncode, done.stdout, done.stderr) == (7, "hello\n", "")
    assert oci.left() == []


def test_a_created_container_waits_and_is_not_yet_its_program(oci: Runtime) -> None:
    pid_file = oci.path / "pid"
    oci.create("--pid-file", pid_file)
    state = oci.state()
    assert state["status"] == "created" and state["pid"] == int(pid_file.read_text())
    assert os.readlink(f"/proc/{state['pid']}/exe").startswith("/memfd:minirt-executor")
    assert os.readlink(f"/proc/{state['pid']}/ns/pid") != os.readlink("/proc/self/ns/pid")
    oci.good("start", "box")
    assert os.path.basename(os.readlink(f"/proc/{state['pid']}/exe")) == "busybox"
    assert oci.state()["status"] == "running"
    assert "already running" in oci("start", "box").stderr


def test_pause_stops_the_processes_and_resume_lets_them_go_on(oci: Runtime) -> None:
    oci.create()
    oci.good("start", "box")
    group = next(line[3:] for line in Path(f"/proc/{oci.pid}/cgroup").read_text().splitlines() if line.startswith("0::"))
    frozen = Path(find_mount() + group) / "cgroup.events"
    oci.good("pause", "box")
    assert "frozen 1" in frozen.read_text() and oci.state()["status"] == "paused"
    assert "paused" in oci("exec", "box", "true").stderr
    oci.good("resume", "box")
    assert "frozen 0" in frozen.read_text() and oci.state()["status"] == "running"


def test_what_was_paused_before_its_start_is_not_started(oci: Runtime) -> None:
    """The start would wait for the thaw, with the lock that `resume` needs."""
    oci.create()
    oci.good("pause", "box")
    assert oci.state()["status"] == "paused"
    assert "cannot start a container in the paused state" in oci("start", "box").stderr
    oci.good("resume", "box")
    assert oci.state()["status"] == "created"
    oci.good("start", "box")
    assert oci.state()["status"] == "running"


def test_exec_is_in_the_same_namespaces_and_cgroup(oci: Runtime) -> None:
    oci.create()
    oci.good("start", "box")
    script = "for n in pid mnt net ipc uts cgroup; do readlink /proc/self/ns/$n; done; cat /proc/self/cgroup"
    inside = oci.good("exec", "box", "sh", "-c", script).splitlines()
    assert inside[:6] == [os.readlink(f"/proc/{oci.pid}/ns/{n}") for n in ("pid", "mnt", "net", "ipc", "uts", "cgroup")]
    assert "0::/" in inside[6:]
    assert oci("exec", "box", "sh", "-c", "exit 9").returncode == 9
    assert oci("exec", "box", "sh", "-c", "kill -9 $$").returncode == 137


def test_exec_flags_say_who_where_and_with_what(oci: Runtime) -> None:
    oci.create()
    oci.good("start", "box")
    out = oci.good("exec", "--user", "12:34", "--cwd", "/dev", "-e", "A=b c", "-g", "56", "box", "sh", "-c", "id; pwd; echo $A")
    assert out.splitlines() == ["uid=12 gid=34 groups=34,56", "/dev", "b c"] or "uid=12 gid=34 groups=56" in out
    process = {"args": ["sh", "-c", "umask"], "cwd": "/", "user": {"uid": 0, "gid": 0, "umask": 0o77}, "env": ["PATH=/bin"]}
    (oci.path / "p.json").write_text(json.dumps(process))
    assert oci.good("exec", "--process", oci.path / "p.json", "box") == "0077\n"


def test_exec_detached_writes_its_pid_and_goes_on(oci: Runtime) -> None:
    oci.create()
    oci.good("start", "box")
    with open(os.devnull, "w") as nowhere:
        done = oci("exec", "-d", "--pid-file", oci.path / "p", "box", "sleep", "999", capture_output=False, stdout=nowhere)
    assert done.returncode == 0
    pid = int((oci.path / "p").read_text())
    assert b"999" in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert json.loads(oci.good("ps", "--format", "json", "box")) == sorted([pid, oci.pid])


def test_kill_by_number_name_and_in_runc_s_order_of_flags(oci: Runtime) -> None:
    script = "trap 'echo term' TERM; trap 'echo usr1' USR1; echo ready; while :; do sleep 0.05; done"
    oci.config["process"]["args"] = ["sh", "-c", script]
    oci.create()
    oci.good("start", "box")
    said = ["ready"]
    wait_for(lambda: (oci.path / "out").read_text().split() == said)
    for words in (("box",), ("box", "USR1"), ("box", "10")):
        oci.good("kill", *words)
        said.append("usr1" if words[1:] else "term")
        wait_for(lambda: (oci.path / "out").read_text().split() == said)
    assert "unknown signal" in oci("kill", "box", "NONE").stderr
    pid = oci.pid
    oci.good("kill", "box", "KILL", "--all")
    wait_for(lambda: gone(pid))
    assert oci.state()["status"] == "stopped"
    assert "not running" in oci("kill", "box", "TERM").stderr


def test_delete_refuses_what_runs_and_force_ends_it(oci: Runtime) -> None:
    oci.create()
    oci.good("start", "box")
    pid = oci.pid
    assert "not stopped" in oci("delete", "box").stderr and not gone(pid)
    oci.good("delete", "--force", "box")
    assert gone(pid) and oci.left() == []
    assert oci("delete", "box").returncode == 1 and oci("delete", "--force", "box").returncode == 0


def test_delete_of_a_created_container_ends_its_process(oci: Runtime) -> None:
    oci.create()
    pid = oci.pid
    oci.good("delete", "box")
    assert gone(pid) and oci.left() == []


def test_what_cannot_be_run_is_known_when_it_is_created(oci: Runtime) -> None:
    for args, words in ((["nothing"], "executable file not found in $PATH"), (["/nothing"], "no such file or directory"),
                        (["/bin"], "permission denied"), (["./rootless"], "no such file or directory")):  # fmt: skip
        oci.config["process"]["args"] = args
        done = oci("create", "--bundle", oci.bundle.path, "box")
        assert done.returncode == 1 and words in done.stderr and len(done.stderr.splitlines()) == 1
        assert oci.left() == []


def test_a_program_that_the_kernel_refuses_is_told_by_start(oci: Runtime) -> None:
    bad = oci.bundle.rootfs / "bin" / "bad"
    bad.write_bytes(b"\x7fELF no program")
    bad.chmod(0o755)
    oci.config["process"]["args"] = ["/bin/bad"]
    oci.create()
    done = oci("start", "box")
    assert done.returncode == 1 and "exec format error" in done.stderr
    wait_for(lambda: oci.state()["status"] == "stopped")


def test_the_log_is_what_engines_read(oci: Runtime) -> None:
    log = oci.path / "log"
    done = oci("--log", log, "--log-format", "json", "start", "nobody")
    assert done.returncode == 1
    (line,) = log.read_text().splitlines()
    entry = json.loads(line)
    assert entry["level"] == "error" and "does not exist" in entry["msg"] and entry["time"].endswith("Z")


def listen(path: Path) -> tuple[threading.Thread, list[Any]]:
    """Wait on a socket for a descriptor."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen(1)
    got: list[Any] = []

    def take() -> None:
        with server, server.accept()[0] as peer:
            message, fds, _, _ = socket.recv_fds(peer, 100, 1)
            got.extend([message, *fds])

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    return thread, got


def test_the_terminal_goes_to_the_console_socket(oci: Runtime) -> None:
    oci.config["process"].update(terminal=True, args=["sh", "-c", "tty; stty size 2>/dev/null || ls -l /dev/console; sleep 100"],
                                 consoleSize={"height": 33, "width": 77})  # fmt: skip
    thread, got = listen(oci.path / "console")
    oci.create("--console-socket", oci.path / "console")
    thread.join(10)
    message, master = got
    assert message
    import fcntl
    import struct
    import termios

    assert struct.unpack("HHHH", fcntl.ioctl(master, termios.TIOCGWINSZ, bytes(8)))[:2] == (33, 77)
    oci.good("start", "box")
    assert b"/dev/pts/0" in os.read(master, 100)
    os.close(master)


def test_a_terminal_that_nobody_would_hold_is_refused(oci: Runtime) -> None:
    oci.config["process"]["terminal"] = True
    assert "console socket" in oci("create", "--bundle", oci.bundle.path, "box").stderr
    oci.config["process"]["terminal"] = False
    assert "console socket" in oci("create", "--bundle", oci.bundle.path, "--console-socket", "/x", "box").stderr
    assert oci.left() == []


def test_run_with_a_terminal_of_ours(oci: Runtime) -> None:
    oci.config["process"].update(terminal=True, args=["sh", "-c", "tty; exit 3"])
    oci.write()
    pid, master = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-m", "minirt", "oci", "--root", str(oci.root), "run", "-b",
                                  str(oci.bundle.path), "box"])  # fmt: skip
    shown = b""
    try:
        while data := os.read(master, 1000):
            shown += data
    except OSError:
        pass
    os.close(master)
    assert b"/dev/pts/0" in shown and os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3


def test_the_pidfd_socket_gets_the_first_process(oci: Runtime) -> None:
    thread, got = listen(oci.path / "pidfd")
    oci.create("--pidfd-socket", oci.path / "pidfd")
    thread.join(10)
    fdinfo = Path(f"/proc/self/fdinfo/{got[1]}").read_text()
    assert f"Pid:\t{oci.pid}\n" in fdinfo
    os.close(got[1])


def test_preserved_descriptors_and_no_others(oci: Runtime) -> None:
    oci.config["process"]["args"] = ["sh", "-c", "ls /proc/self/fd; cat <&3"]
    oci.write()
    (oci.path / "given").write_text("from outside\n")
    fds = [os.open(oci.path / "given", os.O_RDONLY) for _ in range(3)]
    command = [sys.executable, "-m", "minirt", "oci", "--root", str(oci.root), "run", "-b", str(oci.bundle.path)]
    shell = f'exec 3<&{fds[0]} {fds[0]}<&- 8<&3; exec "$@"'
    done = subprocess.run(["bash", "-c", shell, "sh", *command, "--preserve-fds", "1", "box"], pass_fds=fds, text=True,
                          capture_output=True, timeout=LIMIT, check=False)  # fmt: skip
    for fd in fds:
        os.close(fd)
    # ls has its own descriptor of the directory besides.
    assert done.stdout.split()[:4] == ["0", "1", "2", "3"] and done.stdout.endswith("from outside\n"), done.stderr
    assert len(done.stdout.splitlines()) <= 6


KINDS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


def test_hooks_run_where_and_when_the_specification_says(oci: Runtime) -> None:
    log = oci.path / "hooks"
    log.touch()
    script = f'echo "$1 $(readlink /proc/self/ns/mnt) $(cat)" >> {log}'
    hooks = {kind: [{"path": "/bin/sh", "args": ["sh", "-c", script, "sh", kind], "env": ["PATH=/bin:/usr/bin"]}] for kind in KINDS}
    inside = 'echo "$1 $(readlink /proc/self/ns/mnt) $(cat)" >> /hooks'
    hooks["startContainer"][0]["args"] = ["sh", "-c", inside, "sh", "startContainer"]
    oci.config["hooks"] = hooks
    (oci.bundle.rootfs / "hooks").touch()
    oci.config["mounts"].append({"destination": "/hooks", "type": "bind", "source": str(log), "options": ["bind"]})
    oci.config["annotations"] = {"some": "thing"}
    oci.create()
    pid, ours, theirs = oci.pid, os.readlink("/proc/self/ns/mnt"), os.readlink(f"/proc/{oci.pid}/ns/mnt")
    assert [line.split()[0] for line in log.read_text().splitlines()] == list(KINDS[:3])
    oci.good("start", "box")
    oci.good("delete", "--force", "box")
    seen = {}
    for line in log.read_text().splitlines():
        kind, namespace, state = line.split(" ", 2)
        seen[kind] = (namespace, json.loads(state))
    assert list(seen) == list(KINDS)
    assert {kind: namespace for kind, (namespace, _) in seen.items()} == {
        kind: theirs if kind in ("createContainer", "startContainer") else ours for kind in KINDS
    }
    statuses = [seen[kind][1]["status"] for kind in KINDS]
    assert statuses == ["creating", "creating", "creating", "created", "running", "stopped"]
    for kind in KINDS[:5]:
        assert seen[kind][1]["pid"] == pid and seen[kind][1]["id"] == "box"
        assert seen[kind][1]["bundle"] == str(oci.bundle.path) and seen[kind][1]["annotations"] == {"some": "thing"}


def test_a_create_container_hook_sees_the_mounts_and_the_host(oci: Runtime) -> None:
    proof = oci.path / "proof"
    root = oci.bundle.rootfs
    script = f"ls {root}/proc/self/status {root}/dev/null /usr > {proof}; mkdir {root}/dev/made"
    oci.config["hooks"] = {"createContainer": [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}]}
    oci.create()
    assert "proc/self/status" in proof.read_text() and "dev/null" in proof.read_text()
    oci.good("start", "box")
    assert "made" in oci.good("exec", "box", "ls", "/dev")  # in the container's own /dev
    assert not (oci.bundle.rootfs / "dev" / "made").exists()


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_a_hook_that_fails_ends_the_container(oci: Runtime, kind: str) -> None:
    stopped = oci.path / "stopped"
    oci.config["hooks"] = {
        kind: [{"path": "/bin/sh", "args": ["sh", "-c", "echo so not >&2; exit 5"]}],
        "poststop": [{"path": "/bin/sh", "args": ["sh", "-c", f"/bin/cat > {stopped}"], "env": ["PATH=/bin"]}],
    }
    done = oci("create", "--bundle", oci.bundle.path, "box")
    assert done.returncode == 1 and kind in done.stderr and "exit status 5" in done.stderr and "so not" in done.stderr
    assert oci.left() == []
    assert json.loads(stopped.read_text())["status"] == "stopped"


@pytest.mark.parametrize("kind", ["startContainer", "poststart"])
def test_a_hook_that_fails_at_the_start_stops_the_container(oci: Runtime, kind: str) -> None:
    """runtime-spec runtime.md#lifecycle, 7 and 9: an error, and the container is stopped (of poststart since 1.2.1)."""
    path = "/bin/sh"
    oci.config["hooks"] = {kind: [{"path": path, "args": ["sh", "-c", "exit 5"]}]}
    oci.create()
    pid = oci.pid
    done = oci("start", "box")
    assert done.returncode == 1 and kind in done.stderr and "exit status 5" in done.stderr
    wait_for(lambda: gone(pid))
    assert oci.state()["status"] == "stopped"


@pytest.mark.parametrize("kind", ["createRuntime", "createContainer", "startContainer"])
def test_a_hook_that_hangs_is_killed_at_its_timeout(oci: Runtime, kind: str) -> None:
    oci.config["hooks"] = {kind: [{"path": "/bin/sleep", "args": ["sleep", "500"], "timeout": 1}]}
    began = time.monotonic()
    done = oci("run", "--bundle", oci.bundle.path, "box")
    assert done.returncode == 1 and "timeout" in done.stderr
    assert 0.9 < time.monotonic() - began < 20
    assert oci.left() == []


def test_two_creates_of_one_name_make_one_container(oci: Runtime) -> None:
    oci.write()
    command = [sys.executable, "-m", "minirt", "oci", "--root", str(oci.root), "create", "-b", str(oci.bundle.path), "box"]
    with open(os.devnull, "r+") as nowhere:
        both = [subprocess.Popen(command, stdin=nowhere, stdout=nowhere, stderr=nowhere) for _ in range(4)]
        codes = sorted(process.wait(LIMIT) for process in both)
    assert codes == [0, 1, 1, 1]
    assert oci.state()["status"] == "created"


@pytest.mark.parametrize("milliseconds", range(6, 60, 3))
def test_a_create_that_is_killed_leaves_what_delete_force_removes(oci: Runtime, milliseconds: int) -> None:
    oci.write()
    command = [sys.executable, "-m", "minirt", "oci", "--root", str(oci.root), "create", "-b", str(oci.bundle.path), "box"]
    with open(os.devnull, "r+") as nowhere:
        process = subprocess.Popen(command, stdin=nowhere, stdout=nowhere, stderr=nowhere)
        time.sleep(milliseconds / 1000 * 2)
        process.send_signal(signal.SIGKILL)
        process.wait(LIMIT)
    # The process that was to become the executor may still be on its way; then it finds nobody, and ends.
    wait_for(lambda: not [p for p in os.listdir("/proc") if p.isdigit() and f"{oci.root}" in cmdline(p)])
    assert oci("delete", "--force", "box").returncode == 0
    assert oci.left() == []


def cmdline(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def test_time_namespace_offsets_are_the_container_s(oci: Runtime) -> None:
    if not os.path.exists("/proc/self/ns/time"):
        pytest.skip("this kernel has no time namespaces (CONFIG_TIME_NS)")
    oci.config["linux"]["namespaces"].append({"type": "time"})
    oci.config["linux"]["timeOffsets"] = {"monotonic": {"secs": 172800, "nanosecs": 0}, "boottime": {"secs": 864000}}
    oci.config["process"]["args"] = ["sh", "-c", "cat /proc/self/timens_offsets /proc/uptime; readlink /proc/self/ns/time"]
    out = oci.good("run", "-b", oci.bundle.path, "box").splitlines()
    assert [line.split() for line in out[:2]] == [["monotonic", "172800", "0"], ["boottime", "864000", "0"]]
    assert float(out[2].split()[0]) - time.clock_gettime(time.CLOCK_BOOTTIME) == pytest.approx(864000, abs=60)
    assert out[3] != os.readlink("/proc/self/ns/time")


def test_a_namespace_by_path_is_shared(oci: Runtime) -> None:
    oci.create()
    pid = oci.pid
    for namespace in oci.config["linux"]["namespaces"]:
        if namespace["type"] in ("uts", "ipc", "network"):
            file = {"network": "net"}.get(namespace["type"], namespace["type"])
            namespace["path"] = f"/proc/{pid}/ns/{file}"
    oci.config["linux"]["cgroupsPath"] += "-other"
    oci.config["process"]["args"] = ["sh", "-c", "for n in uts ipc net pid; do readlink /proc/self/ns/$n; done"]
    oci.config.pop("hostname", None)
    out = oci.good("run", "-b", oci.bundle.path, "other").split()
    theirs = [os.readlink(f"/proc/{pid}/ns/{n}") for n in ("uts", "ipc", "net", "pid")]
    assert out[:3] == theirs[:3] and out[3] != theirs[3]


def test_scheduler_priority_and_personality_are_the_kernel_s(oci: Runtime) -> None:
    oci.config["process"]["scheduler"] = {"policy": "SCHED_BATCH", "nice": 7}
    oci.config["process"]["ioPriority"] = {"class": "IOPRIO_CLASS_IDLE", "priority": 0}
    oci.config["linux"]["personality"] = {"domain": "LINUX32"}
    oci.create()
    oci.good("start", "box")
    pid = oci.pid
    assert os.sched_getscheduler(pid) == os.SCHED_BATCH and os.getpriority(os.PRIO_PROCESS, pid) == 7
    assert int(Path(f"/proc/{pid}/personality").read_text(), 16) & 0xFF == 8
    assert subprocess.run(["ionice", "-p", str(pid)], capture_output=True, text=True, check=True).stdout.strip() == "idle"


def test_ambient_capabilities_that_cannot_be_are_left_out_as_runc_does(oci: Runtime) -> None:
    kill, chown = ["CAP_KILL"], ["CAP_CHOWN"]
    oci.config["process"]["capabilities"] = {"bounding": kill + chown, "effective": kill + chown, "permitted": kill + chown,
                                             "inheritable": chown, "ambient": kill + chown}  # fmt: skip
    oci.config["process"]["args"] = ["grep", "CapAmb", "/proc/self/status"]
    assert int(oci.good("run", "-b", oci.bundle.path, "box").split()[1], 16) == 1  # CAP_CHOWN alone


def test_unknown_words_are_errors_in_one_line(oci: Runtime) -> None:
    for words in (("fly",), ("create",), ("--fly",), ("state", "--fly", "box"), ("state", "a", "b"), ("start", "../x"),
                  ("--log-format", "xml", "list"), ("list", "--format", "xml"), ("checkpoint", "box"),
                  ("run", "--preserve-fds", "x", "box"), ("create", "--bundle", "/nothing", "box")):  # fmt: skip
        done = oci(*words)
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and "Traceback" not in done.stderr, words
    assert oci.left() == []


def test_the_usual_path_loads_no_heavy_module(oci: Runtime) -> None:
    oci.config["process"]["args"] = ["true"]
    oci.write()
    code = f"""
import sys
from minirt.runtime.command import main
status = main(["--root", {str(oci.root)!r}, "run", "-b", {str(oci.bundle.path)!r}, "box"])
heavy = {{"re", "json", "typing", "argparse", "dataclasses", "enum", "pathlib", "logging", "socket", "tempfile", "subprocess",
         "collections", "functools", "contextlib", "pyroute2", "signal", "threading", "importlib.metadata"}}
print(*sorted(heavy & set(sys.modules)), status)
"""
    command = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:0] = {[p for p in sys.path if p]!r}\n{code}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.stdout.split() == ["0"], done.stdout + done.stderr
