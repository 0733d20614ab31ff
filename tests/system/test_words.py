"""What is typed and is none of our words: one line that says what to do, and docker's exit codes."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import Minirt

from minirt.cli.main import build_parser as minirt_parser
from minivm.cli.main import build_parser as minivm_parser
from tutorials.tutor.cli import parser as tutor_parser


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("run", "--bogus", "busybox"), 125, "minirt run: no option --bogus (see minirt run --help)"),
        (("run",), 125, "minirt run: the following arguments are required: IMAGE (see minirt run --help)"),
        (("run", "--stop-timeout", "x", "busybox"), 125, "--stop-timeout: invalid int value: 'x' (see minirt run --help)"),
        (("stop", "-t", "x", "box"), 125, "invalid float value: 'x' (see minirt stop --help)"),
        (("stop", "--bogus", "box"), 125, "minirt stop: no option --bogus (see minirt stop --help)"),
        (("ps", "extra"), 125, "minirt ps: takes no 'extra' (see minirt ps --help)"),
        (("network", "create"), 125, "the following arguments are required: NAME (see minirt network create --help)"),
        (("network",), 125, "minirt network: the following arguments are required: VERB (see minirt network --help)"),
        (("network", "bogus"), 125, "minirt network: no command 'bogus' (see minirt network --help)"),
        (("container", "bogus"), 125, "minirt container: no command 'bogus' (see minirt container --help)"),
        (("compose", "bogus"), 125, "minirt compose: no command 'bogus' (see minirt compose --help)"),
        (("bogus",), 125, "minirt: no command 'bogus' (see minirt --help)"),
        (("netwrok", "ls"), 125, "minirt: no command 'netwrok'; did you mean network? (see minirt --help)"),
        (("image", "lss"), 125, "minirt image: no command 'lss'; did you mean ls? (see minirt image --help)"),
        (("top",), 125, "minirt top: the following arguments are required: CONTAINER (see minirt top --help)"),
        (("compose", "run"), 125, "the following arguments are required: SERVICE (see minirt compose run --help)"),
        (("compose", "exec"), 125, "arguments are required: SERVICE, COMMAND (see minirt compose exec --help)"),
        (("image", "ls", "--formt=x"), 125, "image ls: no option --formt; did you mean --format? (see minirt image ls --help)"),
    ],
)  # fmt: skip
def test_words_that_are_none_are_refused_in_one_line(minirt: Minirt, words: tuple[str, ...], code: int, said: str) -> None:
    done = minirt(*words)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("minirt") and done.stderr.endswith(said + "\n") and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--plain",), "tutor: no option --plain (see tutor --help)"),
        (("chek",), "tutor: no command 'chek'; did you mean check? (see tutor --help)"),
        (("watch", "--plian"), "tutor watch: no option --plian; did you mean --plain? (see tutor watch --help)"),
        (("list", "c1"), "tutor list: takes no 'c1' (see tutor list --help)"),
        (("read", "c99"), "tutor: c99: no lesson of this name; there are "),
    ],
)  # fmt: skip
def test_tutors_words_are_refused_alike(words: tuple[str, ...], said: str) -> None:
    command = [sys.executable, "-m", "tutorials.tutor.cli", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1) and done.stderr.startswith(said), done.stderr


LAB = Path(__file__).resolve().parents[2] / "lab" / "run"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--bogus=1", "true"), "lab/run: no option --bogus (see lab/run --help)"),
        (("--timeout", "soon", "true"), "lab/run: argument --timeout: invalid float value: 'soon' (see lab/run --help)"),
        (("--console",), "lab/run: argument --console: expected one argument (see lab/run --help)"),
    ],
)  # fmt: skip
def test_the_labs_words_are_refused_alike_with_no_code_of_the_commands(words: tuple[str, ...], said: str) -> None:
    done = subprocess.run([LAB, *words], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (125, "", f"{said}\n")


PROGRAMS = {"minirt": "run", "minivm": "run", "tutorials.tutor.cli": "check"}  # module -> one of its commands


@pytest.mark.parametrize("module", PROGRAMS)
def test_help_is_shown_to_who_says_nothing_and_to_who_says_help(minirt: Minirt, module: str) -> None:
    def say(*words: str) -> tuple[int, str, str]:
        command = [sys.executable, "-m", module, *words]
        done = subprocess.run(command, capture_output=True, text=True, env=minirt.env, timeout=60, check=False)
        return done.returncode, done.stdout, done.stderr

    code, text, wrong = say("--help")
    assert code == 0 and text.startswith("usage: ") and wrong == ""
    assert say() == (2, text, "") and say("help") == (0, text, "")
    assert say("help", PROGRAMS[module], "more") == say(PROGRAMS[module], "--help") != (0, text, "")


COMPLETED = [("minirt", "run --dom", "--domainname"), ("minivm", "run --wat", "--watchdog"), ("tutor", "check --pa", "--partial"),
             ("minirt", "help ru", "run"), ("minivm", "help hotp", "hotplug"), ("tutor", "help meas", "measure")]  # fmt: skip


@pytest.mark.parametrize(("program", "typed", "whole"), COMPLETED)
def test_a_shell_completes_each_programs_words(program: str, typed: str, whole: str) -> None:
    module = next(name for name in PROGRAMS if program in name.split("."))
    command = [sys.executable, "-m", module, "completion", "bash"]
    made = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    ask = f"COMP_WORDS=({program} {typed}); COMP_CWORD=2; _shtab_{program}; echo ${{COMPREPLY[@]}}"
    done = subprocess.run(["bash", "-c", f"{made.stdout}\n{ask}"], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, whole, "")


@pytest.mark.parametrize("how", [("run", "--rm"), ("run", "-d"), ("create",)])
@pytest.mark.parametrize(
    ("flag", "value"),
    [("--log-driver", "syslog"), ("--log-opt", "color=red"), ("--stop-signal", "FOO"), ("--pid", "container:none"),
     ("--network", "container:none"), ("--volumes-from", "none")],
)  # fmt: skip
def test_what_a_container_cannot_have_is_refused_however_it_is_run(
    minirt: Minirt, how: tuple[str, ...], flag: str, value: str
) -> None:
    done = minirt(*how, flag, value, "busybox", "true")
    assert done.returncode == 125 and value.removeprefix("container:") in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert minirt.good("ps", "-aq") == ""


def test_what_is_not_there_is_no_error_for_rm_by_force(minirt: Minirt) -> None:
    minirt.good("create", "--name", "box", "busybox", "true")
    done = minirt("rm", "-f", "none", "box")
    assert (done.returncode, done.stdout) == (0, "box\n") and "no container 'none'" in done.stderr
    assert minirt("rm", "none").returncode == 1
    for force, code in (["-f"], 0), ([], 1):
        words = [sys.executable, "-m", "minivm", "rm", *force, "none"]
        machine = subprocess.run(words, capture_output=True, text=True, env=minirt.env, timeout=60, check=False)
        assert (machine.returncode, machine.stdout) == (code, "") and "no machine 'none'" in machine.stderr


def test_dockers_longer_names_of_ls_and_rm_are_taken(minirt: Minirt) -> None:
    for noun in ("image", "volume", "network", "container"):
        assert minirt.good(noun, "list") == minirt.good(noun, "ls")
        assert minirt(noun, "remove", "none").stderr == minirt(noun, "rm", "none").stderr != ""


def test_any_beginning_of_an_id_will_do(minirt: Minirt) -> None:
    id = minirt.good("create", "busybox", "true").strip()
    assert minirt.good("inspect", "-f", "{{.Id}}", id[0]) == f"{id}\n"
    minirt.good("rm", id[:2])


def test_a_working_directory_that_is_none_is_said_in_words(minirt: Minirt) -> None:
    minirt.good("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    try:
        for path, code, said in (("/none", 127, "No such file or directory"), ("/etc/passwd", 127, "Not a directory")):
            done = minirt("exec", "-w", path, "box", "true")
            assert (done.returncode, done.stderr) == (code, f"minirt: exec: working directory {path} in the container: {said}\n")
    finally:
        minirt.good("rm", "-f", "box")


WITHOUT_READERS = [
    ("minirt", "--help", 141), ("minirt", "--version", 141), ("minirt", "run --help", 141), ("minirt", "completion bash", 141),
    ("minirt", "bogus", 125), ("minirt", "run --pull never none:none true", 125),
    ("minivm", "--help", 141), ("minivm", "--version", 141), ("minivm", "run --help", 141), ("minivm", "bogus", 2),
    ("minivm", "run none", 125), ("minivm", "run --plan", 141),
    ("tutorials.tutor.cli", "--help", 141), ("tutorials.tutor.cli", "list", 141), ("tutorials.tutor.cli", "read c99", 2),
    ("minirt", "oci --help", 141), ("minirt", "oci state none", 1),
]  # fmt: skip


@pytest.mark.parametrize(("module", "words", "code"), WITHOUT_READERS)
def test_where_nobody_reads_a_command_ends_as_by_sigpipe_or_with_its_own_code(
    minirt: Minirt, module: str, words: str, code: int
) -> None:
    command = [sys.executable, "-m", module, *words.split()]
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as nobody:
        done = subprocess.run(command, stdout=nobody, stderr=nobody, env=minirt.env, timeout=60, check=False)
        assert done.returncode == code
        if code == 141:
            done = subprocess.run(command, stdout=nobody, stderr=subprocess.PIPE, env=minirt.env, timeout=60, check=False)
            assert (done.returncode, done.stderr) == (code, b"")


def every(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield a parser and those of its commands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for one in action.choices.values():
                yield from every(one)


@pytest.mark.parametrize("top", [minirt_parser(None), minivm_parser(None), tutor_parser()], ids=lambda top: top.prog)
def test_each_commands_help_says_what_it_is_for(top: argparse.ArgumentParser) -> None:
    assert [one.prog for one in every(top) if not one.description and one.prog != "minirt oci"] == []


TUTOR = dict(next(iter(tutor_parser()._subparsers._group_actions)).choices.items())  # type: ignore[union-attr]


@pytest.mark.parametrize("name", TUTOR)
def test_each_command_of_tutor_has_examples_that_it_takes(name: str) -> None:
    _, found, shown = (TUTOR[name].epilog or "").partition("examples:")
    lines = re.findall(r"\btutor ((?:[^ \n)>]+(?: |$)?)+)", shown, re.M)
    assert found and lines and all(line.split()[0] == name for line in lines), lines
    for line in lines:
        tutor_parser().parse_args(line.split())
