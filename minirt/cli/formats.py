"""How lists and objects are printed: docker's --format with a table, JSON, or a template; and how a person reads a size or a time.

A list's rows are objects of texts, with docker's names for their fields. `json` prints one object a line, as docker does.
"""

from __future__ import annotations

import json
import sys
import time

from minirt.engine.spans import span
from minirt.errors import MinirtError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

__all__ = ["HELP", "Column", "ago", "scaled", "show", "show_objects", "size", "span", "table"]

HELP = "table, json, or a template as '{{.Name}}', 'table {{.Name}}\\t{{.ID}}'"
GAP = 3  # blanks between two columns
NARROWEST = 10  # letters of a column, as docker's tables have


class Column:
    """A column of a table: its head, and the field that it shows."""

    __slots__ = ("field", "head")

    def __init__(self, head: str, field: str) -> None:
        self.head = head
        self.field = field


def show(how: str, rows: Sequence[dict[str, Any]], columns: Sequence[Column], others: dict[str, str] | None = None) -> None:
    """Print a list.

    Args:
        how: --format: table, json, a template for each row, or `table TEMPLATE`.
        rows: what there is; a value may be a function of one text, as .Label is.
        columns: of the plain table.
        others: heads of fields that have no column in it.

    Raises: TemplateError.
    """
    how = how or "table"
    if how == "json":
        for row in rows:
            print(json.dumps({key: value for key, value in row.items() if not callable(value)}, ensure_ascii=False))
        return
    if how == "table":
        lines = [[column.head for column in columns]] + [[str(row[column.field]) for column in columns] for row in rows]
        print(table(lines), end="")
        return
    from minirt.template import Template

    text, is_table = how.removeprefix("table").lstrip(), how.startswith("table ")
    template = Template((text if is_table else how).replace("\\t", "\t").replace("\\n", "\n"))
    made = [template.run(row) for row in rows]
    if not is_table:
        print("".join(f"{line}\n" for line in made), end="")
        return
    heads = {key: key.upper() for row in rows[:1] for key in row}
    heads |= {**(others or {}), **{column.field: column.head for column in columns}}
    named = {key: (lambda name: name) if key == "Label" else head for key, head in heads.items()}
    print(table([line.split("\t") for line in [template.run(named, head=True), *made]]), end="")


def table(lines: Sequence[Sequence[str]]) -> str:
    """Return lines of cells as text in columns; the last cell of a line is as long as it is."""
    widths: list[int] = []
    for line in lines:
        for i, cell in enumerate(line[:-1]):
            widths += [NARROWEST] * (i + 1 - len(widths))
            widths[i] = max(widths[i], len(cell) + GAP)
    padded = ([cell.ljust(width) for cell, width in zip(line[:-1], widths, strict=False)] + [line[-1]] for line in lines)
    return "".join("".join(cells).rstrip() + "\n" for cells in padded)


def show_objects(how: str, names: Iterable[str], look: Callable[[str], dict[str, Any]]) -> int:
    """Print what is known of each: one JSON list, or a template for each.

    Args:
        how: --format: nothing or json, or a template.
        names: of what.
        look: returns the object; raises MinirtError for one that is not there, and the others are printed.

    Returns: the exit code. Raises: TemplateError.
    """
    found, failed = [], 0
    for name in names:
        try:
            found.append(look(name))
        except MinirtError as error:
            print(f"minirt: {error}", file=sys.stderr)
            failed = 1
    if not how:
        print(json.dumps(found, indent=4, ensure_ascii=False))
        return failed
    from minirt.template import Template

    template = Template("{{json .}}" if how == "json" else how)
    for one in found:
        print(template.run(one))
    return failed


def size(number: float | None) -> str:
    """Return bytes as docker writes them: units of a thousand, four digits (12.3MB)."""
    return "-" if number is None else scaled(number, 1000, ("B", "kB", "MB", "GB", "TB", "PB"))


def scaled(number: float, step: int, units: tuple[str, ...]) -> str:
    """Return a number in the largest of the units, each `step` of the one before, that leaves it at least 1."""
    value, unit = float(number), 0
    while value >= step and unit < len(units) - 1:
        value, unit = value / step, unit + 1
    return f"{value:.4g}{units[unit]}"


def ago(moment: float) -> str:
    """Return how long ago a moment was (s since 1970)."""
    return f"{span(max(time.time() - moment, 0))} ago"
