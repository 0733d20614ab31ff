"""attach: a user's terminal (a pty whose master the test holds), and behind it a container's pty with a real program.

    the test = user ═ outer pty ═ PROGRAM below (raw mode, attach) ═ inner pty ═ the container: a shell, cat, stty ...

No root: a container is here only a session of its own.
"""

import fcntl
import json
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(60)

# What the lead of a container does: make it, attach, end with its status. argv: options of attach as JSON, command.
PROGRAM = """
import json, os, sys
from minirt.terminal import attach as terminal
from minirt.terminal.wait import Interrupted, Signals

options, command = json.loads(sys.argv[1]), sys.argv[2:]
wants_tty, broken = options.pop("tty"), options.pop("broken", False)
if "detach_keys" in options:
    options["detach_keys"] = options["detach_keys"].encode()
master, slave = os.openpty() if wants_tty else (-1, -1)
early = options.pop("early", False)
if not wants_tty:  # before the container can say that it is there
    options["signals"] = Signals(options.pop("sig_proxy", True)).__enter__()
if early:
    os.kill(os.getpid(), 15)
if wants_tty:
    pid = os.fork()
    if not pid:
        os.close(master)
        os.login_tty(slave)
        os.execvp(command[0], command)
    os.close(slave)
else:  # as the plan's executor: signals blocked and handlers reset before any can run
    pid = os.posix_spawn(command[0], command, os.environ, setsid=True, setsigmask=(), setsigdef=range(1, 32))
if broken:
    def look(self): raise RuntimeError("broken")
    terminal.Link.look = look
pidfd = os.pidfd_open(pid)
try:
    status = terminal.attach(pidfd, master=master, **options)
except Interrupted as error:
    os.kill(pid, 9)
    sys.exit(error.exit_code)
if status is None:
    print("detached", pid, open(f"/proc/{pid}/stat").read().split()[2], flush=True)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    status = 99
sys.exit(status)
"""


class User:
    """Sits at the outer terminal: types, reads, resizes, and looks at the settings."""

    def __init__(self, program: "subprocess.Popen[bytes]", master: int, slave: int) -> None:
        self.program = program
        self.master = master
        self.slave = slave  # kept open, so that the terminal outlives the program, as a shell's does
        self.before = termios.tcgetattr(slave)
        self.seen = b""

    def read(self, until: bytes) -> bytes:
        """Return what the screen shows up to and with these bytes."""
        while until not in self.seen:
            self.take()
        text, self.seen = self.seen.split(until, 1)
        return text + until

    def take(self) -> None:
        assert select.select([self.master], [], [], 20)[0], f"nothing more after {self.seen[-200:]!r}"
        self.seen += os.read(self.master, 65536)

    def type(self, data: bytes) -> None:
        """Type all of it, reading the screen meanwhile."""
        os.set_blocking(self.master, False)
        while data:
            readable, writable, _ = select.select([self.master], [self.master], [], 20)
            assert readable or writable, f"{len(data)} bytes are not taken"
            if readable:
                self.seen += os.read(self.master, 65536)
            if writable:
                try:
                    data = data[os.write(self.master, data[:4096]) :]
                except BlockingIOError:
                    pass

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def end(self) -> int:
        """Wait for the program's end, and return its exit status; what it wrote last is in `seen`."""
        end = time.monotonic() + 20
        while self.program.poll() is None:
            assert time.monotonic() < end, f"still running; seen: {self.seen[-200:]!r}"
            if select.select([self.master], [], [], 0.01)[0]:
                self.take()
        while select.select([self.master], [], [], 0.05)[0]:
            self.take()
        return self.program.returncode

    @property
    def raw(self) -> bool:
        return not termios.tcgetattr(self.slave)[3] & (termios.ICANON | termios.ECHO | termios.ISIG)

    @property
    def restored(self) -> bool:
        return termios.tcgetattr(self.slave) == self.before


def take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@contextmanager
def at_terminal(*command: str, rows: int = 24, columns: int = 80, env: Any = None, **options: Any) -> Iterator[User]:
    """Run a command in a "container" with a pty, before a user with a terminal."""
    with terminal(rows, columns) as (master, slave):
        streams = {"stdin": slave, "stdout": options.pop("stdout", slave), "stderr": slave}
        argv = [sys.executable, "-c", PROGRAM, json.dumps({"tty": True, **options}), *command]
        with subprocess.Popen(argv, **streams, start_new_session=True, preexec_fn=take_terminal, env=env) as program:
            try:
                yield User(program, master, slave)
            finally:
                program.kill()  # its end closes the inner master: the container gets SIGHUP


@contextmanager
def terminal(rows: int, columns: int) -> Iterator[tuple[int, int]]:
    master, slave = os.openpty()
    try:
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        yield master, slave
    finally:
        os.close(master)
        os.close(slave)


def without_terminal(*command: str, **options: Any) -> "subprocess.Popen[bytes]":
    """Run a command in a "container" without a pty."""
    argv = [sys.executable, "-c", PROGRAM, json.dumps({"tty": False, **options}), *command]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)


def eventually(condition: Callable[[], bool], seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


# -- bytes ---------------------------------------------------------------------------------------------------


def test_a_megabyte_goes_there_and_back_unaltered() -> None:
    data = os.urandom(1 << 20)
    command = f"stty raw -echo; printf ready; head -c {len(data)}"
    with at_terminal("/bin/sh", "-c", command, detach_keys="") as user:
        user.read(b"ready")
        user.type(data)
        assert user.end() == 0
        assert user.seen == data


def test_output_just_before_the_end_is_not_lost() -> None:
    with at_terminal("/usr/bin/seq", "1", "30000") as user:
        assert user.end() == 0
        assert user.seen == b"".join(b"%d\r\n" % n for n in range(1, 30001))


def test_output_waits_for_a_slow_reader() -> None:
    reader, writer = os.pipe()
    with at_terminal("/usr/bin/seq", "1", "30000", stdout=writer) as user, open(reader, "rb") as out:
        os.close(writer)
        time.sleep(0.5)  # the pipe is full, and the container's pty
        assert user.program.poll() is None
        assert out.read() == b"".join(b"%d\r\n" % n for n in range(1, 30001))
        assert user.end() == 0


def test_a_reader_that_has_gone_hangs_up_the_containers_terminal() -> None:
    reader, writer = os.pipe()
    with at_terminal("/usr/bin/yes", stdout=writer) as user:
        os.close(writer)
        assert os.read(reader, 2) == b"y\r"
        os.close(reader)
        assert user.end() == 128 + signal.SIGHUP


def test_echo_and_line_editing_are_the_containers() -> None:
    """ENTER is a carriage return until the container's terminal makes it a newline; erase takes a letter back."""
    with at_terminal("/bin/sh", "-c", "read line; echo \"<$line>\"") as user:
        assert eventually(lambda: user.raw)
        user.type(b"abx\x7fc\r")
        assert user.end() == 0
        assert user.seen.count(b"ab") == 2  # echoed once, and shown once
        assert user.seen.endswith(b"<abc>\r\n")


def test_a_terminal_that_the_container_closes_and_opens_again_goes_on() -> None:
    script = "t=$(tty); echo one; exec <&- >&- 2>&-; sleep 0.3; exec <$t >$t; echo two; read x; exit $x"
    with at_terminal("/bin/sh", "-c", script) as user:
        user.read(b"two\r\n")
        user.type(b"4\r")
        assert user.end() == 4


def test_without_interactive_nothing_is_typed_and_the_terminal_keeps_its_mode() -> None:
    with at_terminal("/bin/sh", "-c", "echo ready; sleep 0.3; exit 6", interactive=False) as user:
        user.read(b"ready")
        assert user.restored
        user.type(b"text")
        assert user.end() == 6
        assert user.seen.count(b"text") == 1  # the outer terminal's own echo


def test_a_container_that_does_not_read_can_still_be_detached_from() -> None:
    with at_terminal("/bin/sh", "-c", "stty raw -echo; echo ready; sleep 100") as user:
        user.read(b"ready")
        user.type(b"x" * 20000)  # far more than a pty holds
        user.type(b"\x10\x11")
        assert user.end() == 99


# -- size ----------------------------------------------------------------------------------------------------


def test_the_containers_terminal_has_the_users_size() -> None:
    with at_terminal("/bin/sh", "-c", "sleep 0.3; stty size", rows=33, columns=101) as user:
        user.read(b"33 101")


def test_a_change_of_size_reaches_the_program() -> None:
    script = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.01; done"
    with at_terminal("/bin/sh", "-c", script) as user:
        user.read(b"ready")
        for rows, columns in ((40, 120), (10, 20)):
            user.resize(rows, columns)
            user.read(b"%d %d\r\n" % (rows, columns))


# -- keys ----------------------------------------------------------------------------------------------------


def test_ctrl_c_is_a_byte_here_and_sigint_in_the_container() -> None:
    script = "trap 'echo interrupted; exit 3' INT; echo ready; while :; do sleep 0.01; done"
    with at_terminal("/bin/sh", "-c", script) as user:
        user.read(b"ready")
        user.type(b"\x03")
        user.read(b"interrupted")
        assert user.end() == 3


def test_ctrl_z_does_not_stop_us() -> None:
    with at_terminal("/bin/sh", "-c", "stty susp undef; echo ready; read x; exit 8") as user:
        user.read(b"ready")
        user.type(b"\x1a\r")
        assert user.end() == 8


def test_detach_keys_leave_the_container_running() -> None:
    with at_terminal("/bin/sleep", "100") as user:
        assert eventually(lambda: user.raw)
        user.type(b"\x10")
        user.type(b"\x11")
        assert user.end() == 99
        assert user.seen.split()[-1] in (b"R", b"S", b"D")  # the kernel's state of the container then: it lives
        assert user.restored


def test_other_detach_keys_take_the_defaults_place() -> None:
    with at_terminal("/bin/sh", "-c", "stty raw -echo; printf ready; cat", detach_keys="~.") as user:
        user.read(b"ready")
        user.type(b"\x10\x11~~")
        user.read(b"\x10\x11~")
        user.type(b".")
        assert user.end() == 99


# -- the user's terminal is given back -----------------------------------------------------------------------


def test_the_terminal_is_raw_meanwhile_and_as_before_at_the_end() -> None:
    with at_terminal("/bin/sh", "-c", "read x; exit 12") as user:
        assert eventually(lambda: user.raw)
        user.type(b"\r")
        assert user.end() == 12
        assert user.restored


def test_the_terminal_is_as_before_after_an_exception() -> None:
    with at_terminal("/bin/sh", "-c", "sleep 0.3; echo; sleep 100", broken=True) as user:
        assert eventually(lambda: user.raw)
        assert user.end() == 1
        assert b"RuntimeError: broken" in user.seen
        assert user.restored


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1])
def test_the_terminal_is_as_before_after_a_signal(number: int) -> None:
    with at_terminal("/bin/sleep", "100") as user:
        assert eventually(lambda: user.raw)
        user.program.send_signal(number)
        assert user.end() == 128 + number
        assert user.restored


def test_without_proxy_a_signal_ends_us_and_gives_the_terminal_back() -> None:
    with at_terminal("/bin/sleep", "100", sig_proxy=False) as user:
        assert eventually(lambda: user.raw)
        user.program.send_signal(signal.SIGTERM)
        assert user.end() == 143
        assert user.restored


def test_the_terminal_is_raw_again_after_we_were_stopped() -> None:
    """What a shell does for `fg`: its own settings while we are stopped, then SIGCONT."""
    with at_terminal("/bin/sh", "-c", "read x; exit 2") as user:
        assert eventually(lambda: user.raw)
        user.program.send_signal(signal.SIGSTOP)
        termios.tcsetattr(user.slave, termios.TCSANOW, user.before)
        user.program.send_signal(signal.SIGCONT)
        assert eventually(lambda: user.raw)
        user.type(b"\r")
        assert user.end() == 2
        assert user.restored


def test_in_the_background_we_stop_and_leave_the_terminal_alone() -> None:
    """SIGTTOU: another process group is in the foreground, so the terminal is that one's."""
    script = "set -m; " + '"$@" & sleep 0.5; stty -a > "$OUT"; grep State: /proc/$!/status >> "$OUT"; kill -KILL $!'
    out = Path(os.environ.get("TMPDIR", "/tmp")) / f"minirt-test-terminal-{os.getpid()}"
    try:
        with terminal(24, 80) as (_, slave):
            program = [sys.executable, "-c", PROGRAM, json.dumps({"tty": True}), "/bin/sleep", "3"]
            subprocess.run(
                ["sh", "-c", script, "sh", *program], stdin=slave, stdout=slave, stderr=slave, timeout=30,
                start_new_session=True, preexec_fn=take_terminal, env={**os.environ, "OUT": str(out)},
            )  # fmt: skip
        said = out.read_text()
        assert "State:\tT" in said
        assert " icanon" in said
        assert "-icanon" not in said
    finally:
        out.unlink(missing_ok=True)


# -- exit status, and signals without a terminal -------------------------------------------------------------


@pytest.mark.parametrize("status", [0, 1, 125, 126, 127, 255])
def test_the_exit_status_is_the_containers(status: int) -> None:
    with without_terminal("/bin/sh", "-c", f"echo told; exit {status}") as program:
        assert program.communicate(timeout=20) == (b"told\n", b"")
        assert program.returncode == status


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_death_by_signal_is_128_plus_its_number(number: int) -> None:
    with without_terminal("/bin/sh", "-c", f"kill -{number} $$") as program:
        assert program.wait(20) == 128 + number


LISTENER = """
import signal, sys
def told(number, frame): print(number, flush=True)
for number in {numbers}: signal.signal(number, told)
print("ready", flush=True)
while True: signal.pause()
"""


def test_signals_are_passed_on_one_for_one() -> None:
    numbers = [1, 2, 3, 6, 10, 12, 14, 15, 18, 20, 28, 34, 64]
    with without_terminal(sys.executable, "-c", LISTENER.format(numbers=numbers)) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"ready\n"
        for number in numbers:
            program.send_signal(number)
            if number != signal.SIGWINCH:  # about our terminal, not the container
                assert int(program.stdout.readline()) == number
        program.send_signal(signal.SIGALRM)
        assert int(program.stdout.readline()) == signal.SIGALRM
        program.send_signal(signal.SIGVTALRM)  # which the listener does not handle
        assert program.wait(20) == 128 + signal.SIGVTALRM


def test_the_third_plea_kills_a_container_that_does_not_listen() -> None:
    with without_terminal("/bin/sh", "-c", "trap '' INT TERM; echo ready; exec sleep 100") as program:
        assert program.stdout is not None
        assert program.stderr is not None
        assert program.stdout.readline() == b"ready\n"
        for number in (signal.SIGINT, signal.SIGTERM):
            program.send_signal(number)
            time.sleep(0.2)
            assert program.poll() is None
        program.send_signal(signal.SIGINT)
        assert program.wait(20) == 137
        assert program.stderr.read() == b"minirt: killed the container: asked to end 3 times, it did not\n"


def test_a_signal_before_the_container_is_there_reaches_it() -> None:
    with without_terminal("/bin/sleep", "100", early=True) as program:
        assert program.wait(20) == 143


def test_pleas_that_are_far_between_do_not_kill() -> None:
    with without_terminal("/bin/sh", "-c", "trap '' INT; echo ready; exec sleep 100") as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"ready\n"
        for pause in (1.6, 1.6, 0.2):  # never three within 3 s
            program.send_signal(signal.SIGINT)
            time.sleep(pause)
            assert program.poll() is None
        program.send_signal(signal.SIGHUP)
        assert program.wait(20) == 129


def test_without_proxy_a_signal_ends_us_and_does_not_reach_the_container() -> None:
    script = "import signal, time; signal.signal(15, print); print('ready', flush=True); time.sleep(100)"
    with without_terminal(sys.executable, "-c", script, sig_proxy=False) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"ready\n"
        program.send_signal(signal.SIGTERM)
        assert program.wait(20) == 143
        assert program.stdout.read() == b""
