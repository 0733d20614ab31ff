"""Flags as runc's callers write them: Go's rules, which argparse does not have.

-flag, --flag, --flag=value, --flag value; a flag that is on or off takes a value only with "=";
the first word that is no flag ends them, and so does "--": what follows is the container's.
"""

from __future__ import annotations

from minirt.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Flag", "help_lines", "parse"]

TRUE, FALSE = ("1", "t", "T", "true", "TRUE", "True"), ("0", "f", "F", "false", "FALSE", "False")


class Flag:
    """One flag.

    Args:
        names: the first is its key; the others are the same.
        help: one line. A word in capitals in front says that it takes a value: "FILE write the pid there".
        default: what it is if not given; False: it is on or off; a list: it may be given often; an int: a number.
    """

    __slots__ = ("default", "help", "names", "value")

    def __init__(self, names: str, help: str, default: Any = False) -> None:
        self.names = names.split()
        self.value, self.help = help.split(" ", 1) if default is not False else ("", help)
        self.default = default


def parse(words: list[str], flags: tuple[Flag, ...]) -> tuple[dict[str, Any], list[str]]:
    """Return the flags' values by their keys (dashes as underscores), and the words after them.

    Raises: UsageError.
    """
    values: dict[str, Any] = {}
    known: dict[str, Flag] = {}
    for flag in flags:
        values[flag.names[0].replace("-", "_")] = list(flag.default) if isinstance(flag.default, list) else flag.default
        for name in flag.names:
            known[name] = flag
    at = 0
    while at < len(words) and words[at].startswith("-") and words[at] != "-":
        word = words[at]
        at += 1
        if word == "--":
            break
        name, equals, value = word.lstrip("-").partition("=")
        found = known.get(name)
        if found is None:
            raise UsageError(f"flag provided but not defined: -{name}")
        if found.default is False:
            if equals and value not in TRUE + FALSE:
                raise UsageError(f"--{name}={value}: say true or false")
            values[found.names[0].replace("-", "_")] = not equals or value in TRUE
            continue
        if not equals:
            if at == len(words):
                raise UsageError(f"flag needs an argument: -{name}")
            value = words[at]
            at += 1
        put(values, found, name, value)
    return values, words[at:]


def put(values: dict[str, Any], flag: Flag, name: str, value: str) -> None:
    """Note a flag's value. Raises: UsageError for what is no number where one is wanted."""
    key = flag.names[0].replace("-", "_")
    if isinstance(flag.default, list):
        values[key].append(value)
    elif isinstance(flag.default, int):
        try:
            values[key] = int(value)
        except ValueError:
            raise UsageError(f"--{name} {value}: not a whole number") from None
    else:
        values[key] = value


def help_lines(flags: tuple[Flag, ...]) -> list[str]:
    """Return a line a flag, for --help."""
    lines = []
    for flag in flags:
        names = ", ".join(f"-{name}" if len(name) == 1 else f"--{name}" for name in flag.names)
        lines.append(f"  {names + (' ' + flag.value if flag.value else ''):<34} {flag.help}")
    return lines
