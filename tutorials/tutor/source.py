"""A piece of source by its symbol, never by line number: `minirt.oci.rootfs:pivot_root`, `csrc/guest/uart.c:uart_put`.

Python is read by its syntax tree (ast), C by tree-sitter's. Nothing is imported or run, so that any tree can be read.
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutorials.tutor.errors import TutorError
from tutorials.tutor.lessons import TOP

__all__ = ["Piece", "c_function", "python_function", "source"]


@dataclass(frozen=True)
class Piece:
    """What a symbol stands for."""

    symbol: str
    path: Path
    first: int  # lines of the file, from 1; with the comments directly above
    last: int
    text: str  # without common indentation
    language: str  # python or c


def source(symbol: str, top: Path = TOP) -> Piece:
    """Return the source of a symbol.

    Args:
        symbol: MODULE:NAME[.NAME] for Python, PATH.c:NAME for C.
        top: the tree to look in.

    Raises: TutorError that says what does not exist.
    """
    place, _, name = symbol.partition(":")
    c = place.endswith((".c", ".h"))
    path = top / place if c else module_path(place, top)
    if not path.is_file():
        raise TutorError(f"{symbol}: there is no file {path.relative_to(top)}")
    lines = path.read_text(encoding="utf-8").splitlines()
    span = c_span(path.read_bytes(), name) if c else python_span(ast.parse("\n".join(lines)), name)
    if span is None:
        raise TutorError(f"{symbol}: {path.relative_to(top)} has no {name}")
    first, last = span
    while not c and first > 1 and lines[first - 2].strip().startswith("#"):
        first -= 1
    text = textwrap.dedent("\n".join(lines[first - 1 : last])) + "\n"
    return Piece(symbol, path, first, last, text, "c" if c else "python")


def module_path(module: str, top: Path) -> Path:
    """Return a module's file."""
    path = top.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def python_node(tree: ast.Module, name: str) -> Any:
    """Return the definition of a dotted name: a function, a class, a method, or an assignment; None where there is none."""
    nodes: list[ast.stmt] = tree.body
    found: ast.stmt | None = None
    for part in name.split("."):
        found = next((node for node in nodes if part in defined(node)), None)
        if found is None:
            return None
        nodes = getattr(found, "body", [])
    return found


def defined(node: ast.stmt) -> set[str]:
    """Return the names that a statement defines."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {leaf.id for target in targets for leaf in ast.walk(target) if isinstance(leaf, ast.Name)}


def python_span(tree: ast.Module, name: str) -> tuple[int, int] | None:
    node = python_node(tree, name)
    if node is None:
        return None
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
    return first, node.end_lineno


def python_function(text: str, name: str) -> ast.FunctionDef | None:
    """Return the function of a dotted name in a text, or None. Raises: SyntaxError."""
    node = python_node(ast.parse(text), name)
    return node if isinstance(node, ast.FunctionDef) else None


# -- C -------------------------------------------------------------------------------------------------------


def c_tree(data: bytes) -> Any:
    """Return tree-sitter's root node of a C file. Raises: TutorError where the library is missing."""
    try:
        from tree_sitter import Language, Parser
        from tree_sitter_c import language
    except ImportError:
        raise TutorError("to read C by symbol takes tree-sitter: pip install 'minirt[course]'") from None
    return Parser(Language(language())).parse(data).root_node


def c_span(data: bytes, name: str) -> tuple[int, int] | None:
    """Return first and last line of a function, a struct, an enum or a macro, with the comment directly above it."""
    for node in definitions(c_tree(data)):
        if name in c_defines(node):
            first = node.start_point[0]
            before = node.prev_sibling
            while before is not None and before.type == "comment" and before.end_point[0] == first - 1:
                first, before = before.start_point[0], before.prev_sibling
            last = node.end_point[0] + (node.end_point[1] > 0)
            return first + 1, last
    return None


def definitions(root: Any) -> Iterator[Any]:
    """Yield what stands at the top of a file, and in the #ifndef that a header keeps itself from being read twice by."""
    for node in root.children:
        if node.type == "preproc_ifdef":
            yield from definitions(node)
        else:
            yield node


def c_defines(node: Any) -> set[str]:
    """Return the name that a node at the top of a file defines."""
    if node.type in ("preproc_def", "preproc_function_def"):
        return {node.child_by_field_name("name").text.decode()}
    if node.type == "function_definition":
        return {c_declared(node)}
    kinds = ("struct_specifier", "enum_specifier")
    specifiers = [node] if node.type in kinds else [child for child in node.children if child.type in kinds]
    members = [leaf for child in specifiers for leaf in walk(child) if leaf.type == "enumerator"]
    named = (node.child_by_field_name("name") for node in [*specifiers, *members])
    return {name.text.decode() for name in named if name is not None}


def c_declared(node: Any) -> str:
    while node.type != "identifier":
        node = node.child_by_field_name("declarator")
        if node is None:
            return ""
    return str(node.text.decode())


def walk(node: Any) -> Any:
    """Yield a node and all below it."""
    yield node
    for child in node.children:
        yield from walk(child)


def c_function(data: bytes, name: str) -> Any:
    """Return tree-sitter's node of a function's definition, or None."""
    return next((n for n in c_tree(data).children if n.type == "function_definition" and c_declared(n) == name), None)
