"""What the documents show is what happens: their Python sessions and `sh run` transcripts are replayed.

    ```python     a session of `>>>` lines; all of a document's share one interpreter
    ```sh run     `$ command` lines with their output, run in the top directory with .venv/bin in PATH; programs that are named
                  behind it are other packages', and without them it is not run

In the expected output `...` stands for anything, over lines too.
"""

import doctest
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tutorials.tutor.lessons import Lesson
from tutorials.tutor.place import lacking

TOP = Path(__file__).resolve().parents[2]
LESSONS = sorted(str(path.relative_to(TOP)) for path in TOP.glob("tutorials/*/*/lesson.md"))
DOCUMENTS = ["README.md", *LESSONS]
FENCE = re.compile(r"^```(?P<info>[^\n]*)\n(?P<body>.*?)^```$", re.M | re.S)
SESSION = """
import json, os, sys, tempfile, traceback
sources, back = json.load(sys.stdin), os.fdopen(os.dup(1), "w")
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
names = {"__name__": "__main__"}
for source in sources:
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 1); os.dup2(file.fileno(), 2)
        try:
            exec(compile(source, "<document>", "single"), names)
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush(); sys.stderr.flush()
        file.seek(0)
        print(json.dumps(file.read().decode(errors="replace")), file=back, flush=True)
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the documents make namespaces, which takes root")


def fences(document: str, info: str) -> list[str]:
    """Return the blocks of a kind; those that name programs, if these are here."""
    found = [(m["info"].strip(), m["body"]) for m in FENCE.finditer((TOP / document).read_text())]
    return [body for said, body in found if f"{said} ".startswith(f"{info} ") and all(map(shutil.which, said[len(info) :].split()))]


def lacks(document: str) -> list[str]:
    """Return what this machine has not, and a lesson needs as a whole; without KVM the rest of a document is replayed."""
    lesson = (TOP / document).parent
    return [need for need in (lacking(Lesson(lesson)) if (lesson / "lesson.toml").exists() else []) if need != "kvm"]


def matches(expected: str, got: str) -> bool:
    """Say whether the output is as expected, where `...` stands for anything."""
    pattern = ".*".join(re.escape(part) for part in expected.strip().split("..."))
    return re.fullmatch(pattern, got.strip(), re.S) is not None


def environment() -> dict[str, str]:
    return {**os.environ, "PATH": f"{TOP}/.venv/bin:{os.environ['PATH']}", "NO_COLOR": "1", "LC_ALL": "C.UTF-8"}


@pytest.fixture
def alone() -> Iterator[None]:
    """Nobody else replays meanwhile, from another tree: a transcript names its containers and directories."""
    with (Path(tempfile.gettempdir()) / "minirt-transcripts.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.mark.parametrize("document", DOCUMENTS)
def test_python_sessions_print_what_they_show(document: str) -> None:
    if "machines" in document and not os.access("/dev/kvm", os.R_OK | os.W_OK):
        pytest.skip("without /dev/kvm there is no machine to show")
    if lacks(document):
        pytest.skip(f"needs {' '.join(lacks(document))}: tests/lab has it")
    parser = doctest.DocTestParser()
    examples = [example for body in fences(document, "python") for example in parser.get_examples(body)]
    run = subprocess.run([sys.executable, "-c", SESSION], input=json.dumps([e.source for e in examples]), text=True,
                         stdout=subprocess.PIPE, cwd=TOP, env=environment(), check=False)  # fmt: skip
    got = [json.loads(line) for line in run.stdout.splitlines()]
    for example, output in zip(examples, got, strict=True):
        want = example.want.replace("<BLANKLINE>", "")
        assert matches(want, output), f"{document}: >>> {example.source}expected:\n{want}\ngot:\n{output}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_transcripts_replay(document: str, alone: None) -> None:
    if lacks(document):
        pytest.skip(f"needs {' '.join(lacks(document))}: tests/lab has it")
    for body in fences(document, "sh run"):
        for command, want in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", body, re.M):
            if "minivm" in command and not os.access("/dev/kvm", os.R_OK | os.W_OK):
                continue  # without /dev/kvm there is no machine to show
            run = subprocess.run(["bash", "-c", command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                                 stderr=subprocess.STDOUT, cwd=TOP, env=environment(), check=False)  # fmt: skip
            assert matches(want, run.stdout), f"{document}: $ {command}\nexpected:\n{want}\ngot:\n{run.stdout}"


@pytest.mark.parametrize("document", [*DOCUMENTS, "CONTRIBUTING.md", "examples/notes/README.md", "examples/cloud/README.md"])
def test_files_that_are_named_exist(document: str) -> None:
    text = (TOP / document).read_text()
    named = re.findall(r"`((?:minirt|minivm|csrc|tests|bench|lab|tutorials|web|notes|db)/[\w/.]+)`", text)
    named += re.findall(r"\]\(([^)#:]+)\)", text)
    places = (TOP, (TOP / document).parent)
    assert named or document in LESSONS
    assert not [name for name in named if not any((place / name).exists() for place in places)]


def section(title: str) -> str:
    """Return a section of the README, without its fences."""
    text = re.search(rf"^## {title}$(.*?)(?=^## |\Z)", (TOP / "README.md").read_text(), re.M | re.S)
    assert text
    return FENCE.sub("", text[1])


def ran(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, cwd=TOP, env=environment(), timeout=60, check=False,
                          stdin=subprocess.DEVNULL)  # fmt: skip


@pytest.mark.parametrize("document", [*DOCUMENTS, "CONTRIBUTING.md"])
def test_every_make_target_that_is_named_exists(document: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (TOP / "Makefile").read_text(), re.M))
    named = set(re.findall(r"(?:`|^ {4})make ([a-z-]+)", (TOP / document).read_text(), re.M))
    assert (named or document in LESSONS) and named <= targets


def test_the_map_shows_every_room() -> None:
    """A folder with code in it, by its name or by that of the folder above."""
    rooms = {path.parent.relative_to(TOP) for top in ("minirt", "minivm") for path in TOP.glob(f"{top}/*/__init__.py")}
    rooms |= {path.parent.relative_to(TOP) for pattern in ("*.c", "*.S") for path in TOP.glob(f"csrc/*/{pattern}")}
    shown = set(re.findall(r"`([\w/]+)/`", section("The rooms, in reading order")))
    assert len(rooms) > 12 and {str(room) for room in rooms} - shown == set()


def test_a_weekends_reading_is_as_long_as_it_is_said_to_be() -> None:
    rows = re.findall(r"^\| S\w+day: .*$", section("The rooms, in reading order"), re.M)
    patterns = re.findall(r"`([^`]+/[^`]+)`", "".join(rows))
    files = ran("bash", "-c", f"ls -d {' '.join(patterns)}")  # which complains of a name that is not there
    assert len(rows) == 2 and (files.returncode, files.stderr) == (0, "")
    assert 10_500 < sum((TOP / file).read_text().count("\n") for file in files.stdout.split()) < 11_700, "eleven thousand"


def test_each_flag_that_is_said_to_be_there_is_there() -> None:
    there = "".join(ran(*words, "--help").stdout for words in (("minirt", "run"), ("minirt", "build"), ("minivm", "run")))
    flags = set(re.findall(r"`(?:minirt run )?(--?[a-z][a-z-]*)", section("What is implemented")))
    assert len(flags) > 15 and [flag for flag in flags if not re.search(rf"(?<![\w-]){flag}(?![\w-])", there)] == []


def test_each_command_that_is_said_to_be_there_is_there() -> None:
    named = set(re.findall(r"`(minirt(?: image| oci)?(?: [a-z]+)?)`", section("What is implemented")))
    assert len(named) > 4
    for words in named:
        assert ran(*words.split(), "--help").returncode == 0, words


LACKING = [
    ["minirt", "build", "https://example.org/project.git"],
    ["minirt", "volume", "create", "--driver", "nfs", "x1"], ["minirt", "compose", "watch"],
    ["minivm", "run", "--net", "tap0"], ["minivm", "snapshot", "x"], ["minivm", "migrate", "x"],
]  # fmt: skip


@pytest.mark.parametrize("words", LACKING, ids=" ".join)
def test_what_is_said_to_be_missing_is_refused_in_words(words: list[str]) -> None:
    """When one of these works, the README is to say so."""
    done = ran(*words)
    assert done.returncode != 0 and done.stderr and "Traceback" not in done.stderr, done.stdout


def test_no_network_but_none_and_host_is_claimed() -> None:
    for network in ("none", "host"):
        assert ran("minirt", "run", "--rm", "--net", network, "busybox", "true").returncode == 0
