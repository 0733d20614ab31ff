"""What a command lists: as a table for people, or as JSON for programs."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

__all__ = ["add_format", "print_json", "print_rows"]


def add_format(parser: Any) -> None:
    """Add the flag --format."""
    parser.add_argument("--format", choices=("table", "json"), default="table", help="how to print (default: table)")


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    import json

    print(json.dumps(value, indent=2))


def print_rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows below their heads, each column as wide as its widest cell."""
    whole = [head, *rows]
    widths = [max(len(row[i]) for row in whole) for i in range(len(head))]
    for row in whole:
        print("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
