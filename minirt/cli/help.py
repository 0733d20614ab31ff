"""How help is laid out: texts as they are written, as wide as the terminal.

argparse asks shutil for the width, for each option that it is told of; shutil loads three compression libraries.
"""

from __future__ import annotations

import argparse
import os

__all__ = ["Help", "width"]


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
