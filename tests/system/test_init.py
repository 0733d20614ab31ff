"""csrc/init as pid 1 of a pid namespace, and the kernel's rules that make it needed. Root, for the namespace."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIG_SETMASK

import pytest

import minirt.engine
from minirt.linux.constants import CLONE_NEWPID, CLONE_PARENT
from minirt.plan import Memory, Plan
from minirt.plan.birth import Birth

pytestmark = [
    pytest.mark.root,
    pytest.mark.timeout(60),
    pytest.mark.skipif(os.geteuid() != 0, reason="a pid namespace needs CAP_SYS_ADMIN"),
]

INIT = str(Path(minirt.engine.__file__).with_name("init.elf"))


@contextmanager
def first_process(*argv: str, out: int = 1) -> Iterator[Birth]:
    """Run a program as pid 1 of a new pid namespace; kill it and all its descendants at the end."""
    plan = Plan().clone3(CLONE_NEWPID | CLONE_PARENT)
    plan.rt_sigprocmask(SIG_SETMASK, Memory(bytes(8)), why="the executor is started with all signals blocked")
    plan.execve(argv[0], list(argv), [f"PATH={os.defpath}"])
    with Birth(plan, (0, out, 2)) as birth:
        for _ in birth.barriers():
            pass
        yield birth


def run(*argv: str) -> int:
    """Run a program under the init, with no namespace; return its exit status."""
    return subprocess.run([INIT, *argv], timeout=30, capture_output=True).returncode


def states(pid: int) -> dict[int, str]:
    """Return the kernel's state letter of each child of a process (man 5 proc: R, S, Z for zombie ...)."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    found = {}
    for child in children:
        try:
            found[int(child)] = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):  # before it is opened, and between that and the read
            pass
    return found


def eventually(condition: Callable[[], bool], seconds: float = 20) -> bool:
    """Wait for a condition; return whether it came true."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """Give a pipe's two ends, closed at the end."""
    ends = os.pipe()
    try:
        yield ends
    finally:
        for fd in ends:
            os.close(fd)


ORPHANS = "for i in 1 2 3 4 5 6 7 8 9 10; do (/bin/true & /bin/true &); done; "  # twenty, and their parents end


def test_without_an_init_orphans_stay_zombies() -> None:
    """Sleep as pid 1 waits for nobody. (The shell does: so they end when it is gone.)"""
    with first_process("/bin/sh", "-c", "(sleep 1 & sleep 1 & sleep 1 &); exec sleep 100") as birth:
        assert eventually(lambda: list(states(birth.pid).values()) == ["Z", "Z", "Z"])


def test_orphans_are_reaped() -> None:
    with pipe() as (reader, writer), first_process(INIT, "--", "/bin/sh", "-c", ORPHANS + "echo; exec sleep 100",
                                                   out=writer) as birth:  # fmt: skip
        assert os.read(reader, 1) == b"\n"
        assert eventually(lambda: list(states(birth.pid).values()) == ["S"])  # sleep is its only child


def test_orphans_that_end_later_are_reaped_while_the_program_runs() -> None:
    with first_process(INIT, "/bin/sh", "-c", "(sleep 0.2 & sleep 0.3 &); exec sleep 100") as birth:
        assert eventually(lambda: len(states(birth.pid)) == 3)
        assert eventually(lambda: len(states(birth.pid)) == 1)


def test_without_an_init_sigterm_does_nothing_to_pid_1() -> None:
    with first_process("/bin/sleep", "100") as birth:
        for _ in range(3):
            os.kill(birth.pid, 15)
        time.sleep(0.2)
        assert "State:\tS" in Path(f"/proc/{birth.pid}/status").read_text()


@pytest.mark.parametrize("number", [1, 2, 10, 12, 15, 64])
def test_a_signal_to_pid_1_reaches_the_program(number: int) -> None:
    """SIGHUP, SIGINT, SIGUSR1, SIGUSR2, SIGTERM, the last real-time signal: sleep dies of each."""
    with first_process(INIT, "--", "/bin/sleep", "100") as birth:
        assert eventually(lambda: bool(states(birth.pid)))
        os.kill(birth.pid, number)
        assert birth.wait() == 128 + number


def test_a_signal_that_the_program_handles_does_not_end_it() -> None:
    traps = "trap 'echo usr1' USR1; trap 'echo cont' CONT; trap 'exit 5' TERM; "
    script = traps + "echo ready; while :; do sleep 0.01; done"
    with pipe() as (reader, writer), first_process(INIT, "/bin/sh", "-c", script, out=writer) as birth:
        told = open(reader, closefd=False)
        assert told.readline() == "ready\n"
        for number, word in ((10, "usr1\n"), (18, "cont\n"), (10, "usr1\n")):
            os.kill(birth.pid, number)
            assert told.readline() == word
        os.kill(birth.pid, 15)
        assert birth.wait() == 5


def test_the_programs_end_kills_what_is_left() -> None:
    with pipe() as (reader, writer):
        with first_process(INIT, "/bin/sh", "-c", "sleep 100 & exit 3", out=writer) as birth:
            assert birth.wait() == 3
        os.set_blocking(reader, False)
        os.dup2(reader, writer)  # our own copy of the writing end: now only the orphan could have one
        assert os.read(reader, 1) == b""  # end of file: it has none


def test_exit_statuses_come_through() -> None:
    assert [run("/bin/sh", "-c", f"exit {n}") for n in range(256)] == list(range(256))


@pytest.mark.parametrize("number", [1, 6, 9, 11, 15, 34])
def test_death_by_signal_is_128_plus_its_number(number: int) -> None:
    assert run("/bin/sh", "-c", f"kill -{number} $$") == 128 + number


@pytest.mark.parametrize(
    ("argv", "status", "text"),
    [
        (["/no/such"], 127, "init: cannot run /no/such: no such file"),
        (["--", "/etc/passwd"], 126, "init: cannot run /etc/passwd: permission denied"),
        (["/"], 126, "init: cannot run /: permission denied"),
        ([], 125, "usage: init"),
        (["--"], 125, "usage: init"),
    ],
)
def test_what_cannot_run_is_told_in_one_line(argv: list[str], status: int, text: str) -> None:
    result = subprocess.run([INIT, *argv], timeout=30, capture_output=True, text=True)
    assert result.returncode == status
    assert result.stderr.startswith(text)
    assert result.stderr.count("\n") == 1


def status_of_program(*before: str) -> dict[str, str]:
    """Return /proc/self/status as a program under the init sees it."""
    text = subprocess.check_output([*before, INIT, "/bin/cat", "/proc/self/status"], text=True, timeout=30)
    return dict(line.split(":\t", 1) for line in text.splitlines())


def test_the_program_has_the_signal_mask_that_the_init_was_given() -> None:
    assert int(status_of_program()["SigBlk"], 16) == 0
    assert int(status_of_program("env", "--block-signal=USR1")["SigBlk"], 16) == 1 << 9


def test_an_ignored_sigchld_does_not_lose_the_exit_status() -> None:
    assert subprocess.run(["env", "--ignore-signal=CHLD", INIT, "/bin/sh", "-c", "exit 9"], timeout=30).returncode == 9


def test_arguments_and_environment_come_through() -> None:
    command = [INIT, "--", "/bin/sh", "-c", 'echo "$#:$1:$2:$FACT"', "sh", "--", ""]
    out = subprocess.check_output(command, env={"FACT": "yes"}, timeout=30)
    assert out == b"2:--::yes\n"


def test_the_program_leads_a_process_group_of_its_own() -> None:
    fields = subprocess.check_output([INIT, "/bin/cat", "/proc/self/stat"], timeout=30).split()
    assert fields[0] == fields[4]  # pid and process group (man 5 proc)


def test_it_needs_no_library_and_is_small() -> None:
    program = Path(INIT).read_bytes()
    assert len(program) < 4096
    assert b"/ld-" not in program  # no interpreter: static


def test_pid_1_by_unshare_as_well() -> None:
    script = "[ $$ != 1 ] && [ \"$(cat /proc/1/comm)\" = init.elf ] && exit 42"
    command = ["unshare", "--fork", "--pid", "--mount-proc", INIT, "--", "/bin/sh", "-c", script]
    assert subprocess.run(command, timeout=30).returncode == 42
