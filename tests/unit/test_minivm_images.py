"""An image as a machine: what the agent is told, and disks that keep their holes."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minivm.boot import agent, cpio
from minivm.errors import BootError, MinivmError
from minivm.images.command import _number
from minivm.images.root_disk import copy_sparse
from minivm.machine.config import Program

WORDS = st.lists(st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=8), max_size=4)


def read_settings(data: bytes) -> list[tuple[str, str]]:
    """Read them as csrc/agent/settings.c does."""
    assert data.endswith(b"\0")
    return [tuple(word.decode().split("=", 1)) for word in data[:-1].split(b"\0")]


@given(WORDS, WORDS, st.booleans(), st.sampled_from(["", "ext4"]))
@settings(deadline=None)
def test_every_word_arrives_whole_and_in_order(args, env, terminal, kind):
    program = Program(args, env=env, cwd="/w d", user="u:g", hostname="h", terminal=terminal, stop_signal=3)
    told = read_settings(agent.settings(program, kind, False, {"b": b"", "a": b""}))
    several = {key: [value for name, value in told if name == key] for key in ("arg", "env", "module")}
    assert several == {"arg": args, "env": env, "module": ["b", "a"]}
    once = {name: value for name, value in told if name not in several}
    wanted = {"cwd": "/w d", "user": "u:g", "hostname": "h", "stop": "3"}
    assert once == wanted | ({"tty": ""} if terminal else {}) | ({"type": kind} if kind else {})


def test_a_zero_byte_is_refused_as_it_would_cut_a_word():
    with pytest.raises(BootError, match="zero byte"):
        agent.settings(Program(["a\0arg=b"]), "", False, {})


def test_the_agent_is_in_its_initramfs_and_needs_no_library():
    entries = {entry.name: entry for entry in cpio.read_archive(agent.build({"m": b"ko"}, None, b"arg=x\0"))}
    program = bytes(entries[agent.INIT[1:]].data)
    place, size, count = (struct.unpack_from(form, program, at)[0] for form, at in (("<Q", 32), ("<H", 54), ("<H", 56)))
    kinds = {struct.unpack_from("<I", program, place + size * number)[0] for number in range(count)}
    assert program[:4] == b"\x7fELF" and 3 not in kinds, "no PT_INTERP: no dynamic linker (man 5 elf)"
    assert entries[agent.INIT[1:]].mode & 0o111
    assert bytes(entries[".minivm/m.ko"].data) == b"ko" and bytes(entries[".minivm/settings"].data) == b"arg=x\0"


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 5)), min_size=1, max_size=8))
@settings(deadline=None)
def test_a_copy_of_a_disk_is_the_same_and_not_larger(tmp_path_factory, pieces):
    directory = tmp_path_factory.mktemp("disk")
    with open(directory / "a", "wb") as file:
        for full, count in pieces:
            file.write(os.urandom(count * 4096)) if full else file.seek(count * 4096, os.SEEK_CUR)
        file.truncate(file.tell())
    copy_sparse(str(directory / "a"), str(directory / "b"))
    assert (directory / "a").read_bytes() == (directory / "b").read_bytes()
    assert (directory / "b").stat().st_blocks <= (directory / "a").stat().st_blocks + 8
    with pytest.raises(FileExistsError):
        copy_sparse(str(directory / "a"), str(directory / "b"))


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="there is no second file system")
def test_a_disk_is_copied_into_another_file_system(tmp_path):
    """copy_file_range(2) refuses that since Linux 5.19."""
    data = os.urandom(3 << 20)
    with tempfile.NamedTemporaryFile(dir="/dev/shm", prefix="minivm-") as source:
        source.write(data)
        source.truncate(8 << 20)
        source.flush()
        copy_sparse(source.name, str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == data.ljust(8 << 20, b"\0")
    assert (tmp_path / "copy").stat().st_blocks * 512 < 4 << 20


def test_a_copy_that_fails_leaves_nothing(tmp_path):
    (tmp_path / "disk").write_bytes(bytes(range(256)) * 64)
    code = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))"
    code += "; from minivm.images.root_disk import copy_sparse; copy_sparse('disk', 'copy')"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert "OSError" in done.stderr and os.listdir(tmp_path) == ["disk"]


@pytest.mark.parametrize(("text", "number"), [("SIGQUIT", 3), ("term", 15), ("9", 9), ("SIGRTMIN+3", int(signal.SIGRTMIN) + 3)])
def test_a_stop_signal_is_a_name_or_a_number(text, number):
    assert _number(text) == number


def test_another_word_is_no_signal():
    with pytest.raises(MinivmError, match="SIGNOT"):
        _number("SIGNOT")
