"""How words are read, and how help is laid out: texts as they are written, as wide as the terminal.

argparse asks shutil for the width, for each option that it is told of; shutil loads three compression libraries. And it has
each of its own words translated: eight files are looked for, some fifty times, a fifth of what reading a command line costs.
Our texts are English, so its are too.
"""

from __future__ import annotations

import argparse
import os
import sys

from minirt.errors import nearest, unread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, NoReturn

__all__ = ["Help", "Parser", "UsualParser", "asked", "width"]

WRONG = 125  # docker's exit code for words that are none of its own: 2 could be the container's
QUOTES = "'"  # around argparse's choices, up to Python 3.11


def untranslated(text: str) -> str:
    """Return it, in place of gettext."""
    return text


argparse._ = untranslated  # type: ignore[attr-defined]  # "from gettext import gettext as _", since Python 2.7


def asked(words: list[str]) -> list[str]:
    """Return `help run` as `run --help`, as docker, podman and git have both. What comes after it must not be run."""
    return [*words[1:2], "--help", *words[2:]] if words[:1] == ["help"] else words


def width() -> int:
    """Return the columns of the terminal, as shutil.get_terminal_size does: COLUMNS, or the terminal's, or 80."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) > 0:
        return int(columns)
    try:
        return os.get_terminal_size(1).columns or 80
    except OSError:
        return 80


class Help(argparse.RawDescriptionHelpFormatter):
    """argparse's formatter, told the width."""

    def __init__(self, prog: str, **how: int) -> None:
        how.setdefault("width", width() - 2)
        super().__init__(prog, **how)


class Commands(argparse._SubParsersAction):  # type: ignore[type-arg]
    """argparse's list of commands. What one is for is said in its own help too, if there is nothing longer to say."""

    def add_parser(self, name: str, **how: Any) -> Any:
        """As argparse's."""
        text = how.get("help")
        if text and not how.get("description"):
            how["description"] = f"{text[0].upper()}{text[1:]}."
        return super().add_parser(name, **how)


class Parser(argparse.ArgumentParser):
    """argparse's parser, and of those that it makes for commands: what is wrong is said in one line, with docker's exit code."""

    wrong = WRONG  # exit code
    elsewhere: dict[str, str] = {}  # options that it lacks and that people try -> what does that here

    def __init__(self, *args: Any, **how: Any) -> None:
        super().__init__(*args, **how)
        self.register("action", "parsers", Commands)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """As argparse's, but a command says itself what it does not know, and nothing is left over."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            name, known = unknown[0].partition("=")[0], (option for option in self._option_string_actions if option[:2] == "--")
            there = self.elsewhere.get(name) or self.elsewhere.get(f"-{name}")  # QEMU's have one -
            what = f"no option {name}{f': {there}' if there else _near(name, known)}"
            self.error(what if name.startswith("-") else f"takes no {unknown[0]!r}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the words, and end."""
        argument, _, rest = message.partition(": invalid choice: ")
        if argument in ("argument COMMAND", "argument VERB"):
            word, _, known = rest.partition(" (choose from ")
            message = f"no command {word}{_near(word.strip(QUOTES), known.rstrip(')').replace(QUOTES, '').split(', '))}"
        text = " ".join(message.splitlines())
        self.exit(self.wrong, f"{self.prog}: {text} (see {self.prog} --help)\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        """As argparse's: help, a version, what is wrong. Where nobody reads it, that ends as everywhere."""
        out = file or sys.stderr
        try:
            out.write(message)
            out.flush()
        except BrokenPipeError:
            code = unread()
            if out is sys.stdout:
                sys.exit(code)


class UsualParser(Parser):
    """The same with exit code 2, which programs have for wrong words that need not do as docker does: minivm, tutor."""

    wrong = 2


def _near(word: str, known: Iterable[str]) -> str:
    """Return a question after the known word that is most like it; "" where none is."""
    bare = {name.lstrip("-"): name for name in known}
    near = nearest(word.lstrip("-"), bare)
    return f"; did you mean {bare[near]}?" if near else ""
