"""Mechanical mistakes in C, as mutate.py's in Python: constants, flags, operators, conditions, statements, calls, arguments.

A mutant that does not compile, or whose object code is the same, is none (`another`). Unlike those in Python, each that passes the
check counts against it.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from tutorials.tutor.exercise import blank, splice
from tutorials.tutor.lessons import TOP, Lesson
from tutorials.tutor.source import c_function, walk

__all__ = ["another", "c_mutants"]

Change = tuple[str, int, int, bytes]  # what it is; from which byte to which; what stands there instead

SWAPPED = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">", "&&": "||", "||": "&&", "&": "|", "+": "-", "-": "+",
           "<<": ">>", ">>": "<<", "*": "/", "/": "*"}  # fmt: skip
ASSIGNED = {"+=": "-=", "-=": "+=", "|=": "&=", "&=": "|=", "=": "|="}
STATEMENTS = {"expression_statement", "return_statement", "if_statement", "while_statement", "for_statement", "break_statement"}


def c_mutants(lesson: Lesson) -> Iterator[tuple[str, str]]:
    """Yield what was changed and the answer's text, for each mutant of a lesson's reference; see `another`."""
    text = blank(lesson, solved=True).encode()
    count = 0
    for symbol in lesson.symbols:
        name = symbol.partition(":")[2]
        for what, start, end, other in changes(c_function(text, name)):
            yield f"{name}:{count}:{what}", (text[:start] + other + text[end:]).decode()
            count += 1


def another(lesson: Lesson, mutant: str) -> bool:
    """Say whether a mutant compiles, and is another program than the reference."""
    return compiled(lesson.symbols, mutant) not in (None, compiled(lesson.symbols, blank(lesson, solved=True)))


@cache
def compiled(symbols: tuple[str, ...], answer: str) -> tuple[bytes, ...] | None:
    """Return the object code of the files that some functions are in, with an answer's put in; None where it does not compile."""
    found = []
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
        copy = Path(place) / "guest"
        shutil.copytree(TOP / "csrc/guest", copy, ignore=shutil.ignore_patterns("build"))
        for name in dict.fromkeys(map(file_of, symbols)):
            text = (copy / name).read_text(encoding="utf-8")
            for symbol in symbols:
                text = splice(symbol, answer, text) if file_of(symbol) == name else text
            (copy / name).write_text(text, encoding="utf-8")
            words = ["make", "-s", "-C", str(copy), "DEBUG=", f"build/{Path(name).stem}.o"]
            if subprocess.run(words, capture_output=True, timeout=60, check=False).returncode:
                return None
            found.append((copy / "build" / f"{Path(name).stem}.o").read_bytes())
    return tuple(found)


def file_of(symbol: str) -> str:
    return Path(symbol.partition(":")[0]).name


def changes(function: Any) -> Iterator[Change]:
    """Yield each way to change a function's body by one thing. Args: function, tree-sitter's node."""
    body = function.child_by_field_name("body")
    for node in walk(body):
        if node.type in STATEMENTS:
            yield f"without line {node.start_point[0] + 1}", node.start_byte, node.end_byte, b";"
        yield from exchanged(node)
        yield from values(node)
        yield from operators(node)
        yield from conditions(node)


def exchanged(node: Any) -> Iterator[Change]:
    """Two statements, or two arguments, that follow each other change places."""
    if node.type == "compound_statement":
        pairs = [child for child in node.children if child.type in STATEMENTS]
        for one, other in pairwise(pairs):
            if "return_statement" not in (one.type, other.type):
                yield swapped(f"lines {one.start_point[0] + 1} and {other.start_point[0] + 1} exchanged", one, other)
    if node.type == "argument_list":
        given = [child for child in node.children if child.is_named]
        for one, other in pairwise(given):
            yield swapped(f"{node.parent.text.decode()}: arguments exchanged", one, other)


def swapped(what: str, one: Any, other: Any) -> Change:
    whole = one.parent.text
    first = one.parent.start_byte
    between = whole[one.end_byte - first : other.start_byte - first]
    return what, one.start_byte, other.end_byte, other.text + between + one.text


def values(node: Any) -> Iterator[Change]:
    """Another number; another than the named constant."""
    text = node.text.decode()
    if node.type == "number_literal" or (node.type == "identifier" and text.isupper()):
        yield f"{text} + 1", node.start_byte, node.end_byte, f"({text} + 1)".encode()
    if node.type == "identifier" and text.isupper():
        yield f"{text} * 2", node.start_byte, node.end_byte, f"({text} * 2)".encode()


def operators(node: Any) -> Iterator[Change]:
    """Another operator; one side of it alone; no `!` or `~`."""
    sign = node.child_by_field_name("operator")
    if sign is None:
        return
    text = sign.text.decode()
    if node.type == "binary_expression":
        other = SWAPPED.get(text)
        if other:
            yield f"{other} for {text}", sign.start_byte, sign.end_byte, other.encode()
        if text in ("|", "&", "+"):
            for side in ("left", "right"):
                kept = node.child_by_field_name("right" if side == "left" else "left")
                yield f"without the {side} of {node.text.decode()}", node.start_byte, node.end_byte, kept.text
    if node.type == "assignment_expression" and text in ASSIGNED:
        yield f"{ASSIGNED[text]} for {text}", sign.start_byte, sign.end_byte, ASSIGNED[text].encode()
    if node.type == "unary_expression" and text in ("!", "~"):
        yield f"without {text}", sign.start_byte, sign.end_byte, b""


def conditions(node: Any) -> Iterator[Change]:
    """A condition turned round."""
    condition = node.child_by_field_name("condition")
    if node.type in ("if_statement", "while_statement") and condition is not None:
        yield f"line {node.start_point[0] + 1} negated", condition.start_byte, condition.end_byte, b"(!" + condition.text + b")"
