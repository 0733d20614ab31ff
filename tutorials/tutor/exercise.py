"""The blank that a learner begins with: the real functions, decorators and docstrings and all, with nothing in them.

It is made of the source by its syntax tree, so that the starting point, the solution and the product cannot drift apart.
"""

from __future__ import annotations

import ast
import builtins
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

from tutorials.tutor.errors import TutorError
from tutorials.tutor.lessons import TOP, Lesson
from tutorials.tutor.source import c_function, c_tree, defined, module_path, python_node, source

__all__ = ["blank", "hollow", "is_blank", "splice"]

EMPTY = "raise NotImplementedError"
YOURS = "...  # the inside is yours to write, in the exercise"
WIDTH = 118


def blank(lesson: Lesson, top: Path = TOP, solved: bool = False) -> str:
    """Return a lesson's exercise.

    Args:
        lesson: whose.
        top: the tree that the source is in.
        solved: with the insides left in: the reference.
    """
    if lesson.language == "c":
        return blank_c(lesson, top, solved)
    modules: dict[str, list[str]] = {}
    for symbol in lesson.symbols:
        module, _, name = symbol.partition(":")
        modules.setdefault(module, []).append(name)
    imports: list[str] = []
    typed: list[str] = []  # what only annotations need, and what may not exist at run time
    bodies: list[str] = []
    for module, names in modules.items():
        text = module_path(module, top).read_text(encoding="utf-8")
        tree = ast.parse(text)
        nodes = [function(tree, module, name) for name in names]
        imports += needed_imports(tree, module, nodes)
        typed += [line for node in tree.body if isinstance(node, ast.If) for line in declared(node.body, names_in(nodes))]
        owner = ""
        for name, node in zip(names, nodes, strict=True):
            classname = name.rpartition(".")[0]
            head = f"class {classname}:\n" if classname and classname != owner else ""
            owner = classname
            bodies.append(head + emptied(text, node, solved))
    head = '"""' + heading(lesson) + '"""\n\nfrom __future__ import annotations\n\n'
    if typed:
        imports.append("from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n" + "\n".join(f"    {line}" for line in typed))
    return head + "\n".join(together(imports)) + "\n\n\n" + "\n\n".join(bodies)


def heading(lesson: Lesson) -> str:
    what = ", ".join(symbol.partition(":")[2] for symbol in lesson.symbols)
    where = ", ".join(dict.fromkeys(symbol.partition(":")[0] for symbol in lesson.symbols))
    return (
        f"Exercise of {lesson.id}: {lesson.title}.\n\nWrite the inside of {what}.\n"
        f"It then runs in the place of the real one in {where}: tutor check {lesson.id}\n"
    )


def function(tree: ast.Module, module: str, name: str) -> ast.FunctionDef:
    node = python_node(tree, name)
    if not isinstance(node, ast.FunctionDef):
        raise TutorError(f"{module}:{name}: no function")
    return node


def hollow(symbol: str, top: Path = TOP) -> str:
    """Return one function of an exercise as its lesson shows it: what it is for, and not how it does it."""
    module, _, name = symbol.partition(":")
    if module.endswith(".c"):
        text = source(symbol, top).text
        body = c_function(text.encode(), name).child_by_field_name("body")
        return text.encode()[: body.start_byte].decode() + f"{{\n    /* {YOURS[6:]} */\n}}\n"
    text = module_path(module, top).read_text(encoding="utf-8")
    return textwrap.dedent(emptied(text, function(ast.parse(text), module, name), False, YOURS))


def emptied(text: str, node: ast.FunctionDef, solved: bool, empty: str = EMPTY) -> str:
    """Return a function's source, with its body replaced, but for the docstring."""
    lines = text.splitlines()
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    if solved:
        return "\n".join(lines[first - 1 : node.end_lineno]) + "\n"
    documented = ast.get_docstring(node) is not None
    body = node.body[0]
    last = (body.end_lineno or 0) if documented else body.lineno - 1
    indent = " " * body.col_offset
    return "\n".join([*lines[first - 1 : last], indent + empty]) + "\n"


def needed_imports(tree: ast.Module, module: str, nodes: Sequence[ast.FunctionDef]) -> list[str]:
    """Return the import lines for the names that some functions of a module use; what it defines itself is imported from it."""
    used = names_in(nodes)
    here = set().union(*(defined(node) for node in tree.body))
    own = sorted((used & here) - {node.name for node in nodes} - set(dir(builtins)))
    return imported(tree.body, used) + wrapped(module, own)


def together(statements: Iterable[str]) -> list[str]:
    """Return import statements, each once, and one for each module that some are from."""
    found: dict[str, set[str]] = {}  # module, or the whole of another statement -> names
    for statement in statements:
        nodes = ast.parse(statement).body
        if len(nodes) == 1 and isinstance(nodes[0], ast.ImportFrom):
            found.setdefault(nodes[0].module or "", set()).update(map(ast.unparse, nodes[0].names))
        else:
            found[statement] = set()
    return [line for what, names in found.items() for line in (wrapped(what, sorted(names)) if names else [what])]


def names_in(nodes: Iterable[ast.FunctionDef]) -> set[str]:
    """Return the names that functions use, in their annotations, too."""
    used = {leaf.id for node in nodes for leaf in ast.walk(node) if isinstance(leaf, ast.Name)}
    return used | {name for node in nodes for name in quoted_names(node)}


def imported(statements: Iterable[ast.stmt], used: set[str]) -> list[str]:
    """Return the import statements among some that bring used names, with those names alone."""
    found = []
    for node in statements:
        if isinstance(node, ast.ImportFrom) and node.module != "__future__":
            names = [n for n in node.names if (n.asname or n.name) in used]
            if names:
                found.append(ast.unparse(ast.ImportFrom(node.module, names, node.level)))
        elif isinstance(node, ast.Import):
            found += [ast.unparse(ast.Import([n])) for n in node.names if (n.asname or n.name).split(".")[0] in used]
    return found


def declared(statements: Sequence[ast.stmt], used: set[str]) -> list[str]:
    """Return what annotations need of a block for them: the imports, and the names that it gives to types."""
    aliases = [node for node in statements if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)]
    wanted = [node for node in aliases if {leaf.id for leaf in ast.walk(node.targets[0]) if isinstance(leaf, ast.Name)} & used]
    needed = {leaf.id for node in wanted for leaf in ast.walk(node.value) if isinstance(leaf, ast.Name)}
    return imported(statements, used | needed) + [ast.unparse(node) for node in wanted]


def quoted_names(node: ast.FunctionDef) -> set[str]:
    """Return the names in annotations that are written as texts."""
    texts = [a.annotation for a in node.args.args if isinstance(a.annotation, ast.Constant)]
    trees = [ast.parse(str(text.value)) for text in texts if isinstance(text.value, str)]
    return {leaf.id for tree in trees for leaf in ast.walk(tree) if isinstance(leaf, ast.Name)}


def wrapped(module: str, names: Sequence[str]) -> list[str]:
    if not names:
        return []
    line = f"from {module} import {', '.join(names)}"
    if len(line) <= WIDTH:
        return [line]
    return [f"from {module} import (\n" + "".join(f"    {name},\n" for name in names) + ")"]


def is_blank(node: ast.FunctionDef) -> bool:
    """Say whether nothing has been written yet."""
    last = node.body[-1]
    return isinstance(last, ast.Raise) and last.exc is not None and "NotImplementedError" in ast.unparse(last.exc)


# -- C -------------------------------------------------------------------------------------------------------


def blank_c(lesson: Lesson, top: Path, solved: bool) -> str:
    """Return the functions of a C file with empty bodies; the file's own declarations are there when they are spliced in."""
    parts = []
    for symbol in lesson.symbols:
        piece = source(symbol, top)
        text = piece.text
        if not solved:
            node = c_function(text.encode(), symbol.partition(":")[2])
            body = node.child_by_field_name("body")
            text = text.encode()[: body.start_byte].decode() + "{\n#error not written yet\n}\n"
        parts.append(text)
    lines = "\n".join(f" * {line}".rstrip() for line in heading(lesson).splitlines())
    return f"/*\n{lines}\n */\n\n{names_in_c(lesson, top)}" + "\n".join(parts)


def names_in_c(lesson: Lesson, top: Path) -> str:
    """Return the constants that the exercise's files have, to be read and not compiled: two files may use a name differently."""
    text = ""
    for place in dict.fromkeys(symbol.partition(":")[0] for symbol in lesson.symbols):
        data = (top / place).read_bytes()
        found = [node.text.decode().strip() for node in c_tree(data).children if node.type in ("preproc_def", "enum_specifier")]
        ended = "\n".join(f"{one};" if one.startswith("enum") else one for one in found)
        text += f"#if 0 /* {place}, which your functions are put into, has */\n{ended}\n#endif\n\n"
    return text


def splice(symbol: str, answer: str, original: str) -> str:
    """Return a C file with the answer's function in the place of its own. Raises: LookupError where the answer has none."""
    name = symbol.partition(":")[2]
    theirs, ours = c_function(answer.encode(), name), c_function(original.encode(), name)
    if theirs is None or ours is None:
        raise LookupError(name)
    data, line = original.encode(), theirs.start_point[0] + 1
    text = f'#line {line} "exercise.c"\n'.encode() + theirs.text + b"\n"
    after = f'\n#line {ours.end_point[0] + 2} "{symbol.partition(":")[0]}"\n'.encode()
    whole: bytes = data[: ours.start_byte] + text + after + data[ours.end_byte :].lstrip(b"\n")
    return whole.decode()
