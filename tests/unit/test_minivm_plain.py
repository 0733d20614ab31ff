"""Plain words are read without argparse, and as argparse would; what is not plain is left to it."""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivm.cli import main, plain, words

TABLE = plain.Table()
words.declare(TABLE)
FLAGS = sorted(TABLE.options)
VALUES = ["1", "64m", "kernel", "auto", "pvh", "serial", "a=b", "", "x y", "0.5", "-1", "-", "--", "text", "-c", "none", "json"]


def by_argparse(given: list[str]) -> dict[str, object] | None:
    try:
        with redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
            return vars(main.build_parser("run", alone=True).parse_args(["run", *given]))
    except SystemExit:
        return None


def by_table(given: list[str]) -> dict[str, object] | None:
    read = plain.read(words.declare, given, command="run", debug=False)
    return None if read is None else vars(read)


WORD = st.one_of(
    st.sampled_from(FLAGS), st.sampled_from(VALUES), st.tuples(st.sampled_from(FLAGS), st.sampled_from(VALUES)).map("=".join),
    st.sampled_from(FLAGS).map(lambda flag: flag[:-1]),
)  # fmt: skip


@given(st.lists(WORD, max_size=8))
def test_what_is_read_is_what_argparse_reads(given):
    read = by_table(given)
    assert read is None or read == by_argparse(given)


@pytest.mark.parametrize(
    "given",
    [[], ["-m", "256m", "--cmdline", "a=b c", "--initrd", "i", "--initrd=j", "kernel"],
     ["k", "--balloon", "-c", "2", "--balloon=1g"],
     ["--stats", "--format", "json", "--net=user", "--disk", "d,ro", "k", "--timeout", "1.5"]],
)  # fmt: skip
def test_usual_words_are_read_here(given):
    assert by_table(given) == by_argparse(given) is not None


@pytest.mark.parametrize(
    "given", [["--help"], ["--mem", "1g"], ["--boot", "magic"], ["-c", "two"], ["a", "b"], ["-m"], ["--rng=1"], ["-m1g"]]
)
def test_the_rest_is_argparses(given):
    assert by_table(given) is None


def test_suppress_is_argparses():
    assert plain.SUPPRESS == argparse.SUPPRESS and plain.suppress() is argparse.SUPPRESS


def test_running_a_guest_loads_no_argparse(tmp_path):
    code = "import sys; from minivm.cli.main import main; main(sys.argv[1:]); print(*sys.modules)"
    kernel = tmp_path / "boot.bin"
    kernel.write_bytes(b"\xf4")
    command = [sys.executable, "-I", "-c", code, "run", str(kernel), "--boot", "flat16", "--plan"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert not set(done.stdout.splitlines()[-1].split()) & {"argparse", "gettext", "signal", "contextlib", "re", "enum"}
