"""Each flag of docker's own help is one of ours, or is refused with a reason; and no flag that is taken does nothing."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from minirt.cli.main import build_parser
from minirt.cli.refused import REFUSED

pytestmark = [pytest.mark.timeout(60), pytest.mark.skipif(not shutil.which("docker"), reason="there is no command docker")]

FLAG = re.compile(r"^ {2,6}(?:(-\w), )?(--[a-z0-9-]+)", re.MULTILINE)


def theirs(*command: str) -> set[str]:
    """Return the flags that docker tells of, short and long."""
    done = subprocess.run(["docker", *command, "--help"], capture_output=True, text=True, timeout=30, check=True)
    return {flag for pair in FLAG.findall(done.stdout) for flag in pair if flag}


def ours(*command: str) -> set[str]:
    """Return the flags that the parser of a command knows."""
    parser = build_parser(command[0])
    for word in command:
        (commands,) = [action for action in parser._actions if hasattr(action, "choices") and isinstance(action.choices, dict)]
        parser = commands.choices[word]
    return {flag for action in parser._actions for flag in action.option_strings}




@pytest.mark.parametrize("command", ["run", "create"])
def test_each_flag_of_docker_is_ours_or_refused_with_a_reason(command: str) -> None:
    asked = theirs(command)
    assert len(asked) > 100, "docker's help was read"
    assert asked - ours(command) == set()
    assert all(reason.strip() for reason in REFUSED.values())
    assert set(REFUSED) <= asked, "what docker does not have need not be refused"


# command -> flags of docker's that are left out, and why
SWARM = (
    "--availability", "--group", "--limit-bytes", "--required-bytes", "--scope", "--secret", "--sharing", "--topology-preferred",
    "--topology-required", "--type",
)  # fmt: skip
WITHOUT: dict[tuple[str, ...], dict[str, str]] = {
    ("attach",): {},
    ("container", "prune"): {},
    ("cp",): {},
    ("exec",): {},
    ("images",): {"--tree": "minirt image tree has it"},
    ("info",): {},
    ("inspect",): {},
    ("kill",): {},
    ("logs",): {"--details": "attributes of log drivers that are not here"},
    ("ps",): {},
    ("restart",): {},
    ("rm",): {"-l": "links are not here", "--link": "links are not here"},
    ("start",): {"--checkpoint": "of the OCI runtime alone", "--checkpoint-dir": "of the OCI runtime alone"},
    ("stop",): {},
    ("system", "df"): {},
    ("system", "prune"): {},
    ("version",): {},
    ("volume", "create"): dict.fromkeys(SWARM, "swarm"),
    ("volume", "inspect"): {},
    ("volume", "ls"): {"--cluster": "swarm"},
    ("volume", "prune"): {},
    ("volume", "rm"): {},
    ("wait",): {},
}


@pytest.mark.parametrize("command", WITHOUT, ids=" ".join)
def test_other_commands_know_dockers_flags(command: tuple[str, ...]) -> None:
    assert theirs(*command) - ours(*command) - set(WITHOUT[command]) - {"--help"} == set()


def test_a_refused_flag_is_told_in_a_line(minirt) -> None:
    for flag, reason in REFUSED.items():
        done = minirt("run", flag, "1", "busybox", "true")
        assert done.returncode == 125 and reason in done.stderr and done.stderr.count("\n") == 1
