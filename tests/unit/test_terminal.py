"""Detach keys, and what of the terminal's code needs no terminal. No root."""

import os
import select
import signal
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minirt.errors import UsageError
from minirt.terminal.detach_keys import DEFAULT_DETACH_KEYS, DetachKeys, parse_detach_keys
from minirt.terminal.tty import NotATerminal, require_terminal
from minirt.terminal.wait import Interrupted, Signals


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", b"\x00\x1b\x1c\x1d\x1e\x1f"),
        ("a,Z,DEL", b"aZ\x7f"),
        ("", b""),
    ],
)
def test_detach_keys_are_written_as_for_docker(text: str, keys: bytes) -> None:
    assert parse_detach_keys(text) == keys


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-A", "ctrl-1", "ctrl-pq", "a,", ",", "é", "del", "shift-a"])
def test_a_key_that_is_none_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_detach_keys(text)
    assert "\n" not in str(error.value)
    assert repr(text) in str(error.value)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Return data in pieces, cut at these places."""
    ends = sorted({place % (len(data) + 1) for place in places})
    return [data[a:b] for a, b in zip([0, *ends], [*ends, len(data)], strict=True)]


@given(
    keys=st.text("ab", min_size=1, max_size=4).map(str.encode),
    data=st.text("abc", max_size=30).map(str.encode),
    places=st.lists(st.integers(0, 30), max_size=8),
)
def test_detach_keys_are_found_however_the_input_is_cut(keys: bytes, data: bytes, places: list[int]) -> None:
    machine = DetachKeys(keys)
    passed = b""
    for piece in cut(data, places):
        passed += machine.feed(piece)
        if machine.detached:
            break
    before, found, _ = data.partition(keys)
    assert machine.detached == bool(found)
    assert passed + machine.held == before
    # Held back is no more than what may still become the sequence: the longest of its beginnings that we end with.
    beginnings = [keys[:n] for n in range(len(keys)) if before.endswith(keys[:n])]
    assert machine.held == (b"" if found else beginnings[-1])


@given(data=st.binary(max_size=200), places=st.lists(st.integers(0, 200), max_size=8))
def test_without_detach_keys_every_byte_is_passed_on(data: bytes, places: list[int]) -> None:
    machine = DetachKeys(None)
    assert b"".join(map(machine.feed, cut(data, places))) == data
    assert not machine.detached


def test_a_broken_sequence_is_passed_on_whole() -> None:
    machine = DetachKeys(DEFAULT_DETACH_KEYS)
    assert machine.feed(b"ls\x10") == b"ls"
    assert machine.feed(b"x") == b"\x10x"


def test_a_pipe_is_refused_as_terminal_with_dockers_exit_code() -> None:
    reader, writer = os.pipe()
    try:
        with pytest.raises(NotATerminal, match="the input device is not a TTY") as error:
            require_terminal(reader)
        assert error.value.exit_code == 1
    finally:
        os.close(reader)
        os.close(writer)


def python(code: str, *before: str) -> dict[str, str]:
    """Run a program that prints /proc/self/status; return its lines. (pytest itself has handlers that C installed.)"""
    text = subprocess.run([*before, sys.executable, "-c", code], capture_output=True, timeout=30, check=True).stdout
    return dict(line.split(":\t", 1) for line in text.decode().splitlines() if ":\t" in line)


def test_every_signal_of_the_kernel_is_caught_but_those_about_our_own_life() -> None:
    status = python("from minirt.terminal.wait import *\nwith Signals(): print(open('/proc/self/status').read())")
    not_caught = {number for number in range(1, 65) if not int(status["SigCgt"], 16) >> (number - 1) & 1}
    # ILL BUS FPE KILL SEGV PIPE CHLD STOP TTIN TTOU URG; XFSZ, which Python ignores; 32 and 33 are the C library's
    assert not_caught - {32, 33} == {4, 7, 8, 9, 11, 13, 17, 19, 21, 22, 23, 25}


def test_signal_dispositions_are_as_before_at_the_end() -> None:
    show = "print(open('/proc/self/status').read())"
    before, after = python(show), python(f"from minirt.terminal.wait import *\nwith Signals(): pass\n{show}")
    for mask in ("SigCgt", "SigIgn", "SigBlk"):
        assert before[mask] == after[mask]


def test_nothing_is_left_open_at_the_end() -> None:
    before = os.listdir("/proc/self/fd")
    with Signals():
        assert len(os.listdir("/proc/self/fd")) == len(before) + 2
    assert os.listdir("/proc/self/fd") == before


def test_ignored_signals_stay_ignored() -> None:
    """Nohup's meaning."""
    code = "from minirt.terminal.wait import Signals\nwith Signals(): print(open('/proc/self/status').read())"
    status = python(code, "sh", "-c", 'trap "" HUP; exec "$@"', "sh")
    assert int(status["SigIgn"], 16) & 1  # bit 0: SIGHUP
    assert not int(status["SigCgt"], 16) & 1
    assert int(status["SigCgt"], 16) >> 1 & 1  # SIGINT


def test_a_signal_is_kept_until_it_is_asked_for() -> None:
    pidfd = os.pidfd_open(os.getpid())
    try:
        with Signals(proxy=False) as signals:
            os.kill(os.getpid(), 15)
            assert select.select([signals.reader], [], [], 5)[0]
            with pytest.raises(Interrupted) as error:
                signals.take(pidfd)
            assert error.value.exit_code == 143
            assert signals.take(pidfd) == b""
    finally:
        os.close(pidfd)


def test_a_signal_for_who_has_ended_is_nobody_s() -> None:
    with Signals() as signals:
        os.kill(os.getpid(), signal.SIGUSR1)
        select.select([signals.reader], [], [], 60)
        assert signals.take(-1) == bytes((signal.SIGUSR1,))


def test_waiting_without_a_terminal_loads_neither_signal_nor_termios() -> None:
    code = "import sys, minirt.terminal.wait; print(*{'signal', 'enum', 'termios', 'socket', 're'} & set(sys.modules))"
    # -S: the site-packages' own .pth files import what they like
    result = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert result.stdout.split() == []
