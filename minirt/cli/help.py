"""How words are read, and how help is laid out: texts as they are written, as wide as the terminal.

argparse asks shutil for the width, for each option that it is told of; shutil loads three compression libraries. And it has
each of its own words translated: eight files are looked for, some fifty times, a fifth of what reading a command line costs.
Our texts are English, so its are too.
"""

from __future__ import annotations

import argparse
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["Help", "Parser", "width"]

WRONG = 125  # docker's exit code for words that are none of its own: 2 could be the container's


def untranslated(text: str) -> str:
    """Return it, in place of gettext."""
    return text


argparse._ = untranslated  # type: ignore[attr-defined]  # "from gettext import gettext as _", since Python 2.7


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


class Parser(argparse.ArgumentParser):
    """argparse's parser, and of those that it makes for commands: what is wrong is said in one line, with docker's exit code."""

    def error(self, message: str) -> NoReturn:
        argument, _, rest = message.partition(": invalid choice: ")
        if argument in ("argument COMMAND", "argument VERB"):
            message = f"no command {rest.partition(' (')[0]}"
        self.exit(WRONG, f"{self.prog}: {message} (see {self.prog} --help)\n")
