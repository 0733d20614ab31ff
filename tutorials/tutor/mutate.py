"""Mechanical mistakes, to try a lesson's check with: constants, flags, order, conditions, arguments of the reference answer.

A mutant that passes the check counts against it where it changes a fact: its run has other effects, as they are seen from outside,
or other failures than the reference's (story.py, `effects`). One that changes nothing is no other answer.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from typing import Any

from tutorials.tutor.exercise import blank
from tutorials.tutor.lessons import Lesson
from tutorials.tutor.mutate_c import c_mutants

__all__ = ["mutants"]

Change = Callable[[], Callable[[], Any]]  # changes the tree, and returns what takes it back

SWAPPED = {ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Lt: ast.GtE, ast.GtE: ast.Lt,
           ast.Gt: ast.LtE, ast.LtE: ast.Gt, ast.Is: ast.IsNot, ast.IsNot: ast.Is}  # fmt: skip
OPERATORS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.LShift: ast.RShift,
             ast.RShift: ast.LShift, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult}  # fmt: skip


def mutants(lesson: Lesson) -> Iterator[tuple[str, str]]:
    """Yield what was changed and the answer's text, for each mutant of a lesson's reference."""
    if lesson.language == "c":
        yield from c_mutants(lesson)
        return
    tree = ast.parse(blank(lesson, solved=True))
    bodies = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    count = 0
    for body in bodies:
        for name, change in changes(body):
            undo = change()
            yield f"{body.name}:{count}:{name}", ast.unparse(ast.fix_missing_locations(copy.deepcopy(tree)))
            undo()
            count += 1


def changes(body: ast.FunctionDef) -> Iterator[tuple[str, Change]]:
    """Yield a name and a function for each way to change a function's body; that returns what takes it back."""
    yield from statements(body)
    first = 1 if ast.get_docstring(body) is not None else 0
    for statement in body.body[first:]:
        for node in ast.walk(statement):
            yield from constants(node)
            yield from operators(node)
            yield from arguments(node)


def statements(body: ast.FunctionDef) -> Iterator[tuple[str, Change]]:
    """Leave one out; exchange two that follow each other."""
    for node in ast.walk(body):
        for field in ("body", "orelse"):
            inner = getattr(node, field, None)
            if not isinstance(inner, list):
                continue
            for at, one in enumerate(inner):
                if isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant):
                    continue  # the docstring
                yield f"without line {one.lineno}", exchange(inner, at, ast.Pass())
                if at + 1 < len(inner) and all(isinstance(pair, ast.Expr) for pair in inner[at : at + 2]):
                    yield f"lines {one.lineno} and {inner[at + 1].lineno} exchanged", swap(inner, at)


def constants(node: ast.AST) -> Iterator[tuple[str, Change]]:
    """Another number, another text, None."""
    if isinstance(node, ast.Constant):
        value = node.value
        if isinstance(value, bool):
            yield f"{value} negated", assign(node, "value", not value)
        elif isinstance(value, int):
            yield f"{value} + 1", assign(node, "value", value + 1)
        elif isinstance(value, str) and value:
            yield f"{value!r} changed", assign(node, "value", value + "x")


def operators(node: ast.AST) -> Iterator[tuple[str, Change]]:
    """Another operator; a flag left out; a condition negated."""
    if isinstance(node, ast.BinOp):
        if isinstance(node.op, ast.BitOr):
            for side in ("left", "right"):
                other = node.right if side == "left" else node.left
                yield f"without {ast.unparse(getattr(node, side))}", becomes(node, other)
        elif type(node.op) in OPERATORS:
            yield f"{ast.unparse(node)}: another operator", assign(node, "op", OPERATORS[type(node.op)]())
    if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPPED:
        yield f"{ast.unparse(node)} negated", assign(node, "ops", [SWAPPED[type(node.ops[0])]()])
    if isinstance(node, ast.BoolOp):
        yield f"{ast.unparse(node)}: and for or", assign(node, "op", ast.Or() if isinstance(node.op, ast.And) else ast.And())
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield f"without {ast.unparse(node)[:3]}", becomes(node, node.operand)


def arguments(node: ast.AST) -> Iterator[tuple[str, Change]]:
    """Two arguments exchanged."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and len(node.args) > 1:
        for at in range(len(node.args) - 1):
            if ast.unparse(node.args[at]) != ast.unparse(node.args[at + 1]):
                yield f"{ast.unparse(node.func)}: arguments {at + 1} and {at + 2} exchanged", swap(node.args, at)


# -- each returns a function that changes the tree, and that one returns what takes it back ----------------------


def assign(node: ast.AST, field: str, value: object) -> Change:
    def change() -> Callable[[], Any]:
        before = getattr(node, field)
        setattr(node, field, value)
        return lambda: setattr(node, field, before)

    return change


def becomes(node: ast.expr, other: ast.expr) -> Change:
    """Let a node be a copy of another, in its place."""

    def change() -> Callable[[], Any]:
        kind, fields = node.__class__, dict(node.__dict__)
        replacement = copy.deepcopy(other)
        node.__class__ = replacement.__class__
        node.__dict__ = dict(replacement.__dict__)

        def undo() -> None:
            node.__class__ = kind
            node.__dict__ = fields

        return undo

    return change


def exchange(items: list[ast.stmt], at: int, value: ast.stmt) -> Change:
    def change() -> Callable[[], Any]:
        before, items[at] = items[at], value

        def undo() -> None:
            items[at] = before

        return undo

    return change


def swap(items: list[Any], at: int) -> Change:
    def change() -> Callable[[], Any]:
        def turn() -> None:
            items[at], items[at + 1] = items[at + 1], items[at]

        turn()
        return turn

    return change
