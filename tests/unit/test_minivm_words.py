"""The small things: sizes, failures to inject, the bus, debug-exit, keys, the plan as data, and what is imported."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shlex
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivm.boot import formats
from minivm.cli.main import build_parser
from minivm.devices.debug_exit import DebugExit
from minivm.errors import KvmError, UsageError
from minivm.machine.bus import Bus
from minivm.machine.config import Config, parse_size
from minivm.machine.plan import machine_plan
from minivm.machine.recorder import Recorder, parse_failure
from minivm.machine.terminal import Escape

HUGE = 1 << 60


def minivm(*words: str, **more: object) -> subprocess.CompletedProcess[str]:
    more = {"input": "", "capture_output": True, "text": True, "timeout": 60, **more}
    return subprocess.run([sys.executable, "-m", "minivm", *words], **more)


@pytest.mark.parametrize(
    ("text", "size"),
    [("64m", 64 << 20), ("1g", 1 << 30), ("1G", 1 << 30), ("2048k", 2 << 20), ("1048576", 1 << 20), ("1.5g", 3 << 29),
     ("64mb", 64 << 20), ("64MiB", 64 << 20), ("1048577b", (1 << 20) + 4096)],
)  # fmt: skip
def test_sizes_are_read_as_docker_writes_them(text, size):
    assert parse_size(text, HUGE) == size


@given(st.text(max_size=8))
def test_any_other_text_is_refused_or_a_whole_number_of_pages(text):
    try:
        assert parse_size(text, HUGE) % 4096 == 0
    except UsageError as error:
        assert "memory size" in str(error)


@pytest.mark.parametrize(
    ("text", "words"),
    [("1k", "too small"), ("-64m", "too small"), ("nan", "too small"), ("9t", "too large: 1024m is"), ("64q", "number and")],
)
def test_silly_sizes_say_why(text, words):
    with pytest.raises(UsageError, match=words):
        parse_size(text, 1 << 30)


def test_a_failure_is_a_call_a_count_and_an_errno():
    assert parse_failure("KVM_CREATE_VM=EPERM") == ("KVM_CREATE_VM", 1, 1)
    assert parse_failure("mmap:2=ENOMEM") == ("mmap", 2, 12)
    for text in ("mmap", "mmap=", "mmap=12", "mmap:0=EPERM", "mmap:x=EPERM", "mmap=__doc__"):
        with pytest.raises(UsageError, match="--fail"):
            parse_failure(text)


def test_a_failure_that_could_never_happen_is_refused():
    for failure in (("KVM_NOTHING", 1, 5), ("mmap", 3, 5)):
        with pytest.raises(UsageError, match="plan"):
            Recorder(failures=[failure]).check(["open", "mmap", "mmap", "KVM_RUN"])
    Recorder(failures=[("KVM_RUN", 99, 5), ("KVM_IRQ_LINE", 2, 5)]).check(["KVM_RUN"])


def test_the_nth_call_fails_and_no_other():
    recorder = Recorder(failures=[("mmap", 2, 12)])
    recorder.inject("mmap")
    with pytest.raises(KvmError, match=r"mmap.*ENOMEM.*--fail"):
        recorder.inject("mmap")
    recorder.inject("mmap")


def test_an_empty_bus_reads_as_ones_and_two_devices_cannot_share_a_port():
    bus = Bus()
    assert [bus.read(0x80, size) for size in (1, 2, 4)] == [0xFF, 0xFFFF, 0xFFFFFFFF]
    bus.write(0x80, 1, 1)
    bus.add(DebugExit(print))
    with pytest.raises(ValueError, match="debug-exit"):
        bus.add(DebugExit(print))


@given(st.integers(0, 0xFFFFFFFF))
def test_debug_exit_keeps_qemus_rule_at_f4_and_its_own_at_501(value):
    statuses: list[int] = []
    bus = Bus()
    bus.add(DebugExit(statuses.append))
    bus.add(DebugExit(statuses.append, qemu=True))
    bus.write(0xF4, 4, value)
    bus.write(0x501, 4, value)
    assert statuses == [(value * 2 + 1) % 256, value % 256]


@pytest.mark.parametrize(
    ("typed", "guest_gets"),
    [([b"abc"], b"abc"), ([b"\x01x"], None), ([b"a\x01", b"x"], None), ([b"\x01a"], b"\x01"), ([b"\x01\x01"], b"\x01"),
     ([b"\x01q"], b"\x01q"), ([b"\x01", b"ax"], b"\x01x")],
)  # fmt: skip
def test_ctrl_a_is_an_escape(typed, guest_gets):
    escape, got = Escape(), b""
    for piece in typed:
        out = escape.filter(piece)
        got = None if out is None else got + out
    assert got == guest_gets


def test_the_plan_is_plain_data_with_a_reason_for_each_call():
    kernel = formats.prepare(bytes(510) + b"\x55\xaa", "auto", 1 << 20, "")
    plan = machine_plan(Config(memory=1 << 20), kernel)
    assert [operation.call for operation in plan][:2] == ["open", "KVM_GET_API_VERSION"]
    assert plan[-1].call == "KVM_RUN"
    assert all(operation.why.endswith(".") for operation in plan)
    assert "KVM_CREATE_IRQCHIP" not in [operation.call for operation in plan], "16-bit code ends by hlt"
    json.dumps([operation.as_dict() for operation in plan])


def test_memory_beyond_the_hole_gets_a_slot_of_its_own():
    kernel = formats.prepare(bytes(510) + b"\x55\xaa", "auto", 4 << 30, "")
    slots = [o.args for o in machine_plan(Config(memory=4 << 30), kernel) if o.call == "KVM_SET_USER_MEMORY_REGION"]
    assert [(slot["address"], slot["length"]) for slot in slots] == [(0, 3 << 30), (4 << 30, 1 << 30)]


def test_help_loads_almost_nothing():
    code = "import sys; sys.argv = ['minivm', '--help']\nimport minivm.cli.main as m\ntry: m.main()\nexcept SystemExit: pass\n"
    code += "print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=60)
    loaded = set(done.stderr.split())
    ours = {name for name in loaded if name.startswith("minivm")}
    assert not any(name.startswith(("minivm.kvm", "minivm.machine", "minivm.devices")) for name in ours), ours
    assert not loaded & {"typing", "dataclasses", "json", "tempfile", "logging", "subprocess", "_cffi_backend"}


def commands(parser, words=()):
    """Yield (words, parser) of a parser and of those of its commands."""
    yield words, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield from commands(below, (*words, name))


EVERY = [pytest.param(words, parser, id=" ".join(("minivm", *words))) for words, parser in commands(build_parser(None))]


@pytest.mark.parametrize(("words", "parser"), EVERY)
def test_every_help_has_examples_and_our_parser_takes_each(words, parser):
    _, found, examples = (parser.epilog or "").rpartition("example")
    assert found
    shown = re.findall(r"\bminivm(?: [^ \n;|&()`<>']+|  ?'[^'\n]*')*", examples)
    assert [text for text in shown if text.startswith(" ".join(("minivm", *words)))], "none is of this command"
    for text in shown:
        if len(text.split()) > 1 and text != "minivm COMMAND --help":
            build_parser(None).parse_args(shlex.split(text)[1:])  # ends the test with SystemExit where it is wrong


def test_the_completion_knows_each_flag():
    known = dict(re.findall(r"^_shtab_(\w+)_option_strings=\((.*)\)$", minivm("completion", "bash").stdout, re.M))
    for words, parser in commands(build_parser(None)):
        flags = {flag for action in parser._actions for flag in action.option_strings}
        assert set(known["_".join(("minivm", *words))].replace("'", "").split()) == flags


def at_a_terminal(words, environment):
    """Return what a command writes to a terminal."""
    ours, theirs = os.openpty()
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=theirs, env=environment):
        os.close(theirs)
        text = b""
        with contextlib.suppress(OSError):  # EIO: nobody holds the other side any more
            while more := os.read(ours, 4096):
                text += more
    os.close(ours)
    return text


def test_no_color_is_heeded_at_a_terminal():
    words = [sys.executable, "-m", "minivm", "doctor"]
    for more, colored in (({}, True), ({"NO_COLOR": "1"}, False)):
        environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | {"TERM": "xterm"} | more
        text = at_a_terminal(words, environment)
        assert b"/dev/kvm" in text and (b"\x1b[" in text) == colored


def test_plan_needs_no_kvm_and_names_every_step(tmp_path):
    kernel = tmp_path / "boot.bin"
    kernel.write_bytes(b"\xf4")
    done = minivm("run", str(kernel), "--boot", "flat16", "--plan", "--format", "json")
    steps = [operation["step"] for operation in json.loads(done.stdout)]
    assert list(dict.fromkeys(steps)) == ["open", "vm", "memory", "vcpu", "boot", "run"]
    assert done.returncode == 0 and not done.stderr


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["run", "/nonexistent/kernel"], 125, "cannot read kernel '/nonexistent/kernel': No such file"),
        (["run", "/nonexistent/kernel"], 125, "`minivm kernel fetch debian-cloud` gets one"),
        (["run", "/proc/self/exe", "--initrd", "/nonexistent"], 125, "initrd '/nonexistent': No such file or directory; is"),
        (["run", "/"], 125, "Is a directory; a kernel is a file: `--rootfs DIR`"),
        (["run", "--vsock", ""], 2, "no path is named"),
        (["run", "--hotplug", "1"], 2, "--hotplug size '1' is too small: 1m is the least"),
        (["run", "-m", "128"], 2, "minivm: memory size '128' is too small: 1m is the least (without a unit it is bytes: 128m?)\n"),
        (["run", "-m", "0"], 2, "minivm: memory size '0' is too small: 1m is the least\n"),
        (["run", "-m", "nan"], 2, "minivm: memory size 'nan' is too small: 1m is the least\n"),
        (["run", "--name", "box"], 2, "minivm run: no option --name: minivm create NAME makes a machine that minivm start"),
        (["run", "-d"], 2, "minivm run: no option -d: minivm create NAME makes a machine that minivm start NAME leaves running"),
        (["run", "--network=user"], 2, "minivm run: no option --network: a network card is --net (see minivm run --help)\n"),
        (["run", "-drive", "file=x"], 2, "minivm run: no option -drive: a disk is --disk (see minivm run --help)\n"),
        (["run", "--vcpus", "2"], 2, "minivm run: no option --vcpus; did you mean --cpus? (see minivm run --help)\n"),
        (["run", "--balloon", "9q"], 2, "--balloon size '9q'"),
        (["run", "--disk", "nofile,cache=none"], 2, "no option 'cache'; there are ro, rw, "),
        (["start", "--attach", "--detach-keys", "zz", "box"], 2, "minivm: detach keys 'zz': 'zz' is no key: write "),
        (["disk", "create", "/nonexistent/x", "--size", "1m"], 125, "minivm: /nonexistent/x: No such file or directory\n"),
        (["run", "/dev/zero"], 125, "not a file"),
        (["run", "-m", "1m", "--plan"], 125, "see --memory"),
        (["run", "/proc/self/cmdline"], 125, "--boot flat16"),
        (["run", "--memory", "12parsecs"], 2, "memory size '12parsecs'"),
        (["run", "--memory", "99999t"], 2, "more than this host has"),
        (["run", "--balloon", "65m", "-m", "64m"], 2, "--balloon 65m: more than the machine's memory, which is 64m"),
        (["run", "--rootfs", "/", "--init", "sh"], 2, "name its kernel, as debian-cloud"),
        (["run", "--share", "/:a", "--share", "/tmp:a"], 2, "--share: two are called 'a'"),
        (["run", "--port", "a=/p", "--port", "a=/q"], 2, "--port: two are called 'a'"),
        (["run", "--symbols", "/nonexistent", "--profile"], 125, "cannot read symbols '/nonexistent': No such file"),
        (["boot"], 2, "minivm boot: the following arguments are required: IMAGE (see minivm boot --help)\n"),
        (["run", "--boot", "magic"], 2, "minivm run: argument --boot: invalid choice: 'magic' (choose from "),
        (["run", "-c", "two"], 2, "minivm run: argument -c/--cpus/--smp: invalid int value: 'two' (see minivm run --help)\n"),
        (["run", "--memory"], 2, "minivm run: argument -m/--memory: expected one argument (see minivm run --help)\n"),
        (["run", "--fail", "KVM_CREATE_VM"], 2, "--fail"),
        (["run", "--timeout", "0"], 2, "more than 0"),
        (["run", "--timeout", "nan"], 2, "more than 0"),
        (["run", "--flag"], 2, "minivm run: no option --flag (see minivm run --help)\n"),
        (["run", "--memroy=1g"], 2, "minivm run: no option --memroy; did you mean --memory? (see minivm run --help)\n"),
        (["run", "vmlinuz", "two\nlines"], 2, "minivm run: takes no 'two\\nlines' (see minivm run --help)\n"),
        (["--flag", "run"], 2, "minivm: no option --flag (see minivm --help)\n"),
        (["nosuch"], 2, "minivm: no command 'nosuch' (see minivm --help)\n"),
        (["strat", "box"], 2, "minivm: no command 'strat'; did you mean start? (see minivm --help)\n"),
        (["kernel", "ftch"], 2, "minivm kernel: no command 'ftch'; did you mean fetch? (see minivm kernel --help)\n"),
        (["kernel"], 2, "minivm kernel: the following arguments are required: VERB (see minivm kernel --help)\n"),
        (["--bogus"], 2, "minivm: no option --bogus (see minivm --help)\n"),
    ],
)
def test_bad_input_is_one_line_and_the_right_status(words, status, said):
    done = minivm(*words)
    assert done.returncode == status
    assert said in done.stderr and done.stderr.count("\n") == 1 and not done.stdout
