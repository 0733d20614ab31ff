"""The verbs of images on a terminal and elsewhere: bars, lines, help, completion, docker's short names."""

from __future__ import annotations

import os
import pty
import subprocess

import pytest
from command import LIMIT, Minirt
from liars import Content, Registry

PLAIN = "--tls-verify=false"
SHORT = {"pull": "pull", "push": "push", "images": "ls", "rmi": "rm", "tag": "tag", "save": "save", "load": "load",
         "import": "import", "history": "history", "build": "build"}  # fmt: skip


def on_a_terminal(minirt: Minirt, *words: str, **env: str) -> str:
    """Return what a command writes to a terminal that is its standard error."""
    ours, theirs = pty.openpty()
    environment = {**minirt.env, "TERM": "xterm", "COLUMNS": "100", **env}
    process = subprocess.Popen([*minirt.program, *words], env=environment, stdin=theirs, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    seen = b""
    try:
        while data := os.read(ours, 4096):
            seen += data
    except OSError:  # EIO: it has ended
        pass
    os.close(ours)
    assert process.wait(LIMIT) == 0, seen
    return seen.decode(errors="replace")


def test_bars_on_a_terminal_lines_elsewhere_nothing_if_quiet(own_store: Minirt) -> None:
    with Registry(Content()) as registry:
        names = [f"{registry.host}/{name}:1" for name in "abcd"]
        assert "\x1b[" in on_a_terminal(own_store, "pull", PLAIN, names[0])
        assert "\x1b[3" not in on_a_terminal(own_store, "pull", PLAIN, names[1], NO_COLOR="1"), "no colour"
        lines = own_store("pull", PLAIN, names[2]).stderr.splitlines()
        assert len(lines) == 4 and all("\x1b" not in line for line in lines) and "fetched" in lines[0]
        quiet = own_store("pull", "-q", PLAIN, names[3])
        assert (quiet.returncode, quiet.stderr) == (0, "") and quiet.stdout.startswith("sha256:")


@pytest.mark.parametrize("name", [*SHORT, "login", "logout", "search"])
def test_a_short_name_has_help_with_examples(minirt: Minirt, name: str) -> None:
    done = minirt(name, "--help")
    assert done.returncode == 0 and f"minirt {name} " in done.stdout and "examples:" in done.stdout


def test_a_short_name_takes_what_the_verb_takes(minirt: Minirt) -> None:
    def options(*words: str) -> set[str]:
        return {word.strip("[],") for word in minirt(*words, "--help").stdout.split() if word.startswith(("-", "[-"))}

    assert {name: options(name) - options("image", verb) for name, verb in SHORT.items()} == {name: set() for name in SHORT}


def test_every_verb_has_examples_and_is_completed(minirt: Minirt) -> None:
    text = minirt("image", "--help").stdout
    verbs = [line.split()[0] for line in text.splitlines() if line.startswith("    ") and not line.startswith("     ")]
    assert len(verbs) > 18
    for verb in verbs:
        assert "examples:" in minirt("image", verb, "--help").stdout, verb
    completion = minirt("completion", "bash").stdout
    assert all(f"_{verb}_" in completion.replace("-", "_") for verb in verbs)
