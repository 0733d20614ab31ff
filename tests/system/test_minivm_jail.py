"""The jail of a machine's process: what /proc says of it, and what becomes of calls that it must not make."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from minirt.plan import Plan, Slot, Words
from minirt.plan.here import perform
from minivm.boot.formats import default_kernel
from minivm.machine import shares
from minivm.machine.confinement import profile

LIMIT = 60
COMMAND = [sys.executable, "-m", "minivm", "run", "--jail", "--timeout", str(LIMIT)]
NOBODY = 65534
pytestmark = [
    pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="/dev/kvm is missing or not ours to open"),
    pytest.mark.timeout(LIMIT + 30),
]
root = pytest.mark.skipif(os.geteuid() != 0, reason="another user is given up by root alone")


def status_of(pid: int) -> dict[str, str]:
    text = Path(f"/proc/{pid}/status").read_text()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


def wait_for_prompt(child: subprocess.Popen[bytes]) -> None:
    """Read what the in-tree guest says until it waits for a line."""
    text = b""
    while b"Type a line" not in text and (more := os.read(child.stdout.fileno(), 4096)):
        text += more


def finish(child: subprocess.Popen[bytes], killed: bool = False) -> None:
    """End the guest by its own command, or its machine by a signal; its status gets out of the jail."""
    if killed:
        child.kill()
    else:
        child.stdin.write(b"exit 9\n")
    child.stdin.close()
    child.stdout.read()
    assert child.wait(LIMIT) == (-signal.SIGKILL if killed else 9)


@pytest.fixture
def jailed(tmp_path):
    """A machine whose guest waits for input, with a disk."""
    (tmp_path / "disk").write_bytes(bytes(1 << 20))
    command = [*COMMAND, "--cpus", "2", "--disk", str(tmp_path / "disk"), "--rng"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        wait_for_prompt(child)
        yield child
        finish(child)


@root
def test_the_process_is_nobody_with_no_capabilities_and_a_filter_in_every_thread(jailed):
    threads = sorted(map(int, os.listdir(f"/proc/{jailed.pid}/task")))
    assert len(threads) >= 3
    for thread in threads:
        status = status_of(thread)
        users, groups = set(status["Uid"].split()), set(status["Gid"].split())
        assert users == groups and int(users.pop()) >= 0x7000_0000 and not status["Groups"]
        assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


@root
def test_its_root_is_empty_and_its_namespaces_are_its_own(jailed):
    assert os.listdir(f"/proc/{jailed.pid}/root") == [] and os.readlink(f"/proc/{jailed.pid}/cwd") == "/"
    mounts = Path(f"/proc/{jailed.pid}/mountinfo").read_text().splitlines()
    assert len(mounts) == 1 and re.search(r" / / ro,nosuid,nodev,noexec.* - tmpfs jail ", mounts[0])
    for kind in ("mnt", "net", "ipc", "uts", "cgroup"):
        assert os.readlink(f"/proc/{jailed.pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}"), kind
    assert Path(f"/proc/{jailed.pid}/net/dev").read_text().count(":") == 1, "the loopback alone"


@root
def test_it_holds_what_it_needs_and_no_directory_nor_socket(jailed):
    held = [os.readlink(f"/proc/{jailed.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{jailed.pid}/fd")]
    known = re.compile(r"pipe:|anon_inode:|/dev/kvm$|/dev/null$|.*/disk$")
    assert [text for text in held if not known.match(text) and text != os.readlink("/proc/self/fd/2")] == []
    limits = Path(f"/proc/{jailed.pid}/limits").read_text()
    soft, hard = re.search(r"Max open files +(\d+) +(\d+)", limits).groups()
    assert soft == hard and int(soft) <= len(held) + 40
    assert re.search(r"Max core file size +0 +0", limits)


def test_nobody_may_trace_it(jailed):
    assert os.stat(f"/proc/{jailed.pid}/mem").st_uid == 0, "not dumpable: its files in /proc are root's"


# In the jail, by a process of its own: {} is a call; what it returns or raises is written to descriptor 1.
TRY = """
import os, sys, mmap, socket, signal, ctypes, fcntl, threading
from minivm import kvm
libc = ctypes.CDLL(None, use_errno=True)
system = kvm.open_kvm()
from minivm.machine.jail import enter
enter()
try:
    print("returned", {}, flush=True)
except OSError as error:
    print("refused", error.errno, flush=True)
os._exit(0)
"""


def attempt(call: str) -> tuple[int, str]:
    done = subprocess.run([sys.executable, "-c", TRY.format(call)], capture_output=True, text=True, timeout=LIMIT, check=False)
    return done.returncode, done.stdout.strip() or done.stderr.strip()


@pytest.mark.parametrize("call", ["os.open('/etc/passwd', os.O_RDONLY)", "os.listdir('/')", "os.readlink('/proc/self/exe')",
                                  "socket.socket()", "os.open('/dev/mem', os.O_RDWR)"])  # fmt: skip
def test_files_and_sockets_are_refused(call):
    assert attempt(call) == (0, "refused 13")


def test_what_is_asked_of_the_empty_root_is_not_there():
    assert attempt("os.stat('/etc')") == (0, "refused 2") and attempt("os.stat('/').st_nlink") == (0, "returned 2")


@pytest.mark.parametrize("call", [
    "os.fork()", "os.execv('/bin/sh', ['sh'])", "os.kill(1, 9)", "os.kill(os.getppid(), 0)", "os.setuid(0)", "os.chroot('/')",
    "os.mkdir('/x')", "libc.ptrace(0, 0, 0, 0)", "libc.mount(0, 0, 0, 0, 0)", "libc.unshare(0x10000000)", "libc.setns(3, 0)",
    "libc.mprotect(0, 4096, 7)", "mmap.mmap(-1, 4096, prot=7)", "fcntl.ioctl(0, 0x5412, b'x')", "fcntl.fcntl(0, 8, os.getpid())",
    "kvm.create_vm(system)", "libc.personality(0)", "libc.prctl(22, 0)", "libc.process_vm_readv(1, 0, 0, 0, 0, 0)",
    "libc.memfd_create(b'x', 0)",
    "libc.syscall(321, 0, 0, 0)", "libc.syscall(425, 1, 0)", "libc.syscall(248, 0, 0, 0)", "libc.syscall(298, 0, 0, 0)",
    "libc.syscall(0x40000000)",
])  # fmt: skip
def test_what_no_machine_needs_is_death(call):
    status, text = attempt(call)
    assert status == -signal.SIGSYS, (status, text)


@pytest.mark.parametrize("call", ["len(os.urandom(8))", "os.write(1, b'') or 0", "threading.Thread(target=print).start() or 0",
                                  "kvm.check_extension.__name__"])  # fmt: skip
def test_what_a_machine_needs_still_works(call):
    status, text = attempt(call)
    assert status == 0 and "returned" in text


def test_a_file_that_is_open_grows_to_what_was_given_and_no_further(tmp_path):
    program = f"""
import errno, os
from minivm.machine.jail import enter
fd = os.open({str(tmp_path / "log")!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
enter(longest=8192)
assert os.write(fd, bytes(10000)) == 8192
for grow in (lambda: os.write(fd, b"x"), lambda: os.ftruncate(fd, 8193), lambda: os.posix_fallocate(fd, 0, 8193)):
    try:
        grow()
        os._exit(1)
    except OSError as error:
        assert error.errno == errno.EFBIG
os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=LIMIT, check=False)
    assert (done.returncode, (tmp_path / "log").stat().st_size) == (0, 8192), done.stderr


def test_explain_tells_each_call_of_the_jail_with_its_reason():
    done = subprocess.run([*COMMAND, "--explain"], input="", capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stderr
    told = re.findall(r"^  (\w+)\(", done.stderr, re.M)
    calls = ["unshare", "mount", "mount", "chdir", "pivot_root", "umount2", "chdir", "prlimit64", "prlimit64", "prctl"]
    assert told[told.index("unshare") :][: len(calls)] == calls
    assert "seccomp(SECCOMP_SET_MODE_FILTER" in done.stderr and "no path leads to the host's files" in done.stderr


@root
def test_a_user_without_rights_is_jailed_too(tmp_path):
    """Where /dev/kvm is open to it, which is made so in a mount namespace of this test's own."""
    kvm = tmp_path / "kvm"
    os.mknod(kvm, 0o666 | stat.S_IFCHR, os.stat("/dev/kvm").st_rdev)
    kvm.chmod(0o666)
    script = f'mount --bind {kvm} /dev/kvm && exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups "$@"'
    command = ["unshare", "--mount", "sh", "-ec", script, "sh", *COMMAND]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.getcwd()}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, cwd="/", env=environment) as child:
        wait_for_prompt(child)
        status = status_of(child.pid)
        assert set(status["Uid"].split()) == {str(NOBODY)} and status["CapEff"] == "0" * 16 == status["CapBnd"]
        assert status["Seccomp"] == "2" and os.listdir(f"/proc/{child.pid}/root") == []
        child.stdin.write(b"exit 5\n")
        child.stdin.close()
        child.stdout.read()
        assert child.wait(LIMIT) == 5


def test_a_jail_that_cannot_be_made_ends_the_command():
    done = subprocess.run([*COMMAND, "--step", "1"], input="", capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 2 and "--jail does not go together" in done.stderr


def test_a_plan_runs_in_the_process_that_made_it(tmp_path):
    fd, seen = Slot("fd"), []
    plan = Plan().step("files").openat(-100, str(tmp_path / "x"), os.O_CREAT | os.O_RDWR, 0o600, store=fd, why="a file")
    plan.write(fd, b"hello", 5).close(fd).unlinkat(-100, "/nonexistent", tolerate=(2,))
    perform(plan, seen.append)
    assert (tmp_path / "x").read_bytes() == b"hello"
    assert [(event.call, event.result, event.errno) for event in seen] == [
        ("openat", seen[0].result, 0), ("write", 5, 0), ("close", 0, 0), ("unlinkat", -1, 2),
    ]  # fmt: skip
    with pytest.raises(OSError, match=r"chdir\(\"/nonexistent\"\): No such file"):
        perform(Plan().chdir("/nonexistent"))
    with pytest.raises(ValueError, match="needs the executor"):
        perform(Plan().execve("/bin/true"))
    assert Words(1).size == 8 and profile(1)["defaultAction"] == "SCMP_ACT_KILL_PROCESS"


@root
def test_sockets_of_ports_and_vsock_go_into_the_jail_and_what_is_left_of_them_is_taken_over(tmp_path):
    """A client connects to each while the guest runs; after the end the names are still there, and the next run has them."""
    command = [*COMMAND, "--console", "serial", "--port", f"x={tmp_path / 'p'}", "--vsock", str(tmp_path / "v")]
    for _ in range(2):
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            wait_for_prompt(child)
            with socket.socket(socket.AF_UNIX) as one, socket.socket(socket.AF_UNIX) as other:
                one.connect(str(tmp_path / "p"))
                other.connect(str(tmp_path / "v"))
                other.sendall(b"not the words\n")
                assert other.recv(10) == b"", "it was heard, and closed"
            finish(child)
    assert (tmp_path / "p").is_socket() and (tmp_path / "v").is_socket()


# A driver of the device (tests/unit/virtio_driver.py) in a process that enters the jail before its threads begin.
CONNECTS = """
import sys
sys.path.insert(0, sys.argv[1])
import test_minivm_vsock as t
from minivm.machine.jail import enter

class Jailed(t.Guest):
    def begin_threads(self):
        enter(connections=self.device.most)
        super().begin_threads()

with Jailed(sys.argv[2], connector=True) as guest:
    for peer in range(60):
        guest.say(t.vs.REQUEST, 1234, peer)
        assert guest.hear()[:3] == (t.vs.RESPONSE, 1234, peer)
    guest.say(t.vs.REQUEST, 1235, 7)
    assert guest.hear()[:3] == (t.vs.RST, 1235, 7)
    guest.say(t.vs.RW, 1234, 59, b"from the jail")
    assert guest.hear()[:5] == (t.vs.RW, 1234, 59, 0, b"to the jail")
"""


@pytest.fixture
def place():
    """A directory that any user can reach."""
    with tempfile.TemporaryDirectory(prefix="minivm-jail-") as made:
        yield Path(made)


@root
@pytest.mark.parametrize("user", [0, NOBODY])
def test_a_guest_in_a_jail_reaches_programs_of_the_host_that_are_the_callers(place, user):
    """A driver of the device in a process that has entered the jail: more connections than it has descriptors for itself, to a
    socket that only its owner may connect to."""
    where = str(place / "v_1234")
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.getcwd(), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", CONNECTS, str(Path(__file__).parents[1] / "unit"), str(place)]
    os.chown(place, user, user)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.settimeout(LIMIT)
        listener.bind(where)
        listener.listen(100)
        os.chmod(where, 0o600)
        os.chown(where, user, user)
        ends = []
        with subprocess.Popen(command, cwd="/", env=environment, user=user, group=user, extra_groups=[]) as child:
            while len(ends) < 60:
                ends.append(listener.accept()[0])
            pid, uid, _ = struct.unpack("iii", ends[0].getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            assert uid == user and pid != child.pid and pid in [number for number, _ in beside(child.pid)]
            assert ends[59].recv(100) == b"from the jail"
            ends[59].sendall(b"to the jail")
            assert child.wait(LIMIT) == 0
        for end in ends:
            assert end.recv(100) == b""
            end.close()


@root
@pytest.mark.parametrize("killed", [False, True], ids=["ends", "killed"])
def test_who_connects_for_the_guest_stays_outside_the_jail_and_ends_with_the_machine(killed, tmp_path):
    with subprocess.Popen([*COMMAND, "--vsock", "v"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path) as child:
        wait_for_prompt(child)
        ((connector, _),) = beside(child.pid)
        end = time.monotonic() + LIMIT
        while status_of(connector)["Seccomp"] != "2" and time.monotonic() < end:
            time.sleep(0.01)  # it does that to itself, meanwhile
        assert status_of(connector)["Name"] == "minivm-connect" and status_of(child.pid)["Seccomp"] == "2"
        assert os.readlink(f"/proc/{connector}/cwd") == str(tmp_path) and os.readlink(f"/proc/{child.pid}/cwd") == "/"
        assert len(os.listdir(f"/proc/{connector}/fd")) == 4
        finish(child, killed)
        assert gone([connector])


def test_nothing_is_forked_without_a_vsock_or_without_a_jail():
    for words in (["--jail"], ["--vsock", "v"]):
        command = [sys.executable, "-m", "minivm", "run", *words, "--plan"]
        assert b"fork" not in subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=LIMIT).stdout
    done = subprocess.run([*command, "--jail"], stdout=subprocess.PIPE, check=True, timeout=LIMIT)
    assert b'fork(path="v")' in done.stdout


@pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed")
def test_gdb_and_a_dump_reach_the_guest_of_a_jailed_process(tmp_path):
    """The socket and the file are open before; what gdb asks of KVM is let through, for the machine's own processors."""
    where, core = str(tmp_path / "gdb"), str(tmp_path / "core")
    command = [*COMMAND, "--gdb", where, "--dump", core]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        while "listening" not in child.stderr.readline():
            assert child.poll() is None
        assert status_of(child.pid)["Seccomp"] == "2"
        guest = default_kernel()
        commands = ["set pagination off", f"target remote {where}", "info registers rip", "stepi", "info registers rip",
                    "set var $rax = 77", "print $rax", "x/2i $rip", "info threads", "monitor registers", "detach"]  # fmt: skip
        gdb = ["gdb", "-q", "-nx", "-batch", *(word for line in commands for word in ("-ex", line)), guest]
        done = subprocess.run(gdb, capture_output=True, text=True, timeout=LIMIT)
        child.stdin.write("exit 21\n")
        child.stdin.close()
        said, complaints = child.stdout.read(), child.stderr.read()
        assert child.wait(LIMIT) == 21, (done.stdout, done.stderr, said, complaints)
    places = re.findall(r"^rip +(0x\w+)", done.stdout, re.M)
    assert len(places) == 2 and places[0] != places[1] and "= 77" in done.stdout, done.stdout + done.stderr
    assert "KiB that are not zero" in complaints
    read = ["gdb", "-q", "-nx", "-batch", "-ex", "info registers rip", guest, core]
    assert re.search(r"^rip +0x\w+", subprocess.run(read, capture_output=True, text=True, timeout=LIMIT).stdout, re.M)


@pytest.fixture(params=["passt", "qemu-storage-daemon", "virtiofsd"])
def helped(request, tmp_path):
    """Words that ask for a machine with such a program beside it."""
    here = shutil.which(request.param) or (request.param == "virtiofsd" and any(map(os.path.exists, shares.PLACES)))
    if not here or (request.param == "qemu-storage-daemon" and not os.access("/dev/fuse", os.R_OK | os.W_OK)):
        pytest.skip(f"{request.param} is not installed, or /dev/fuse is missing")
    image = tmp_path / "disk.qcow2"
    if request.param == "qemu-storage-daemon":
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "8M"], check=True)
    words = {"passt": ["--net", "user"], "qemu-storage-daemon": ["--disk", str(image)], "virtiofsd": ["--share", f"{tmp_path}:x"]}
    return request.param, words[request.param]


def beside(pid):
    """Return (process, name) of each child of a process."""
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = place.read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue  # gone meanwhile
        if rest.split()[1] == str(pid):
            found.append((int(place.parent.name), name))
    return found


def gone(pids):
    """Wait until none of these processes lives."""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        if not any(Path(f"/proc/{pid}").exists() and status_of(pid)["State"][0] != "Z" for pid in pids):
            return True
        time.sleep(0.05)
    return False


@root
@pytest.mark.parametrize("killed", [False, True], ids=["ends", "killed"])
def test_the_programs_beside_a_machine_stay_outside_its_jail_and_end_with_it(helped, killed, tmp_path):
    program, words = helped
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environment = os.environ | {"TMPDIR": str(temporary)}
    with subprocess.Popen([*COMMAND, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as child:
        wait_for_prompt(child)
        children = beside(child.pid)
        assert any(program.startswith(name.partition(".")[0]) for _, name in children), children  # "passt.avx2"; or 15 characters
        assert status_of(child.pid)["Seccomp"] == "2"
        finish(child, killed)
        assert gone([pid for pid, _ in children])
    assert list(temporary.iterdir()) == [], "nor is a directory left"


WRITER = """
import os, sys
from minivm.boot import formats
from minivm.machine.config import Config
from minivm.machine.devices import parse_disk
from minivm.machine.jail import enter
from minivm.machine.machine import Machine
config = Config(disks=[parse_disk(sys.argv[1])])
start = formats.prepare(formats.read_kernel(formats.default_kernel()), "auto", config.memory, "", virtio=1)
with Machine(config, start) as machine:
    machine.build()
    enter()
    disk = machine.transports[0].device._fd
    assert os.pwrite(disk, b"\\x5a" * 4096, 4096) == 4096 and os.pread(disk, 4096, 4096) == b"\\x5a" * 4096
    os.fdatasync(disk)
"""


@root
@pytest.mark.parametrize("helped", ["qemu-storage-daemon"], indirect=True)
def test_a_qcow2_disk_is_written_to_from_the_jail(helped):
    """By nobody, who may not even look at the file that the daemon shows: it was open before."""
    path = helped[1][1]
    subprocess.run([sys.executable, "-c", WRITER, path], check=True, timeout=LIMIT)
    done = subprocess.run(["qemu-io", "-r", "-c", "read -P 0x5a 4096 4096", path], capture_output=True, text=True, check=False)
    assert "read 4096/4096" in done.stdout and "verification failed" not in done.stdout
