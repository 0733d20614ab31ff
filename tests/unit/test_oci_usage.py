"""Each command's help has an example that its own flags take."""

import shlex

import pytest

from minirt.runtime.command import COMMANDS, GLOBAL, rare_flags
from minirt.runtime.flags import parse
from minirt.runtime.usage import EXAMPLES, print_command_help


def test_every_command_has_examples() -> None:
    assert EXAMPLES.keys() == COMMANDS.keys()


@pytest.mark.parametrize(("name", "line"), [(name, line) for name, lines in EXAMPLES.items() for line in lines])
def test_an_example_is_a_line_that_the_command_takes(name: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(line)
    words = words[words.index("oci") + 1 :]
    if "<" in "".join(words):
        words = words[: next(i for i, word in enumerate(words) if "<" in word)]
    _, rest = parse(words, GLOBAL)
    assert rest[0] == name
    command = COMMANDS[name]
    flags = (*rare_flags(name), *command.flags)
    _, left = parse(rest[1:], flags)
    assert command.least <= len(left) <= command.most
    print_command_help(name, command, flags)
    assert f"  {line}\n" in capsys.readouterr().out
