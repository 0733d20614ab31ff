"""Write the files that preload.py reads: a command's modules, compiled, and preload.py itself."""

from __future__ import annotations

import marshal
from os import W_OK, access, getpid, rename, stat

from minirt.preload import EXTENSION, HERE, TAG, WORD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, ModuleType
    from typing import Any

    from minirt.preload import Modules

__all__ = ["compiled", "write_modules"]


def write_modules(modules: Modules, more: tuple[ModuleType, ...], reader: str) -> None:
    """Write what a command's file had, and more modules that Python had to look for, where the directory lets us.

    Args:
        modules: of the command.
        more: in the order in which they were done.
        reader: as `Modules.save` has it.
    """
    if not access(modules.path.rpartition("/")[0], W_OK):
        return
    first, second, before = modules.entries, modules.second, modules.before
    if not first:
        *known, code = entry("minirt.preload", f"{HERE}/preload.py", False)
        if reader:
            write(f"{reader}/minirt.{TAG}", marshal.dumps((f"{HERE}/preload.py", code)))
        first = ((*known, None), entry("minirt", f"{HERE}/__init__.py", True))
    if second is None:  # none of this call's modules belongs to it
        second, before = modules.read_second(), len(more)
    one = marshal.dumps((*first, *entries_of(more[:before])))
    other = marshal.dumps((*second, *entries_of(more[before:])))
    write(modules.path, len(one).to_bytes(WORD, "little") + one + other)


def compiled(path: str) -> CodeType:
    """Return a source's code without what nothing here reads: docstrings, assertions, annotations, line numbers.

    Assertions and annotations are for the type checker, where a module does not ask for them by name; lines for traces,
    and with --debug this file is not used (csrc/start/launch.py).
    """
    import __future__

    import ast

    with open(path, encoding="utf-8") as file:
        text = file.read()
    tree = ast.parse(text)
    for node in ast.walk(tree) if "__annotations__" not in text else ():
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.FunctionDef):
            node.returns = None
    flags = 0
    for statement in tree.body[:2]:  # after the docstring; said by a flag it need not be imported
        if isinstance(statement, ast.ImportFrom) and statement.module == "__future__":
            flags = __future__.annotations.compiler_flag
            tree.body.remove(statement)
    return without_lines(compile(tree, path, "exec", flags, dont_inherit=True, optimize=2))


def without_lines(code: CodeType) -> CodeType:
    """Return code without its line numbers, and that of the functions in it."""
    parts = tuple(without_lines(part) if isinstance(part, type(code)) else part for part in code.co_consts)
    return code.replace(co_consts=parts, co_linetable=b"")


def entries_of(modules: tuple[ModuleType, ...]) -> list[tuple[Any, ...]]:
    """Return modules as the file has them."""
    entries = []
    for module in modules:
        spec = module.__spec__
        assert spec is not None and spec.origin is not None and spec.loader is not None
        if module.__name__ not in ("minirt", "__future__"):  # the first is there, the other not wanted any more (`compiled`)
            entries.append(entry(module.__name__, spec.origin, spec.submodule_search_locations is not None))
    return entries


def entry(name: str, source: str, package: bool) -> tuple[Any, ...]:
    """Return a module as the file has it."""
    status = stat(source)
    code = compiled(source) if source.endswith(".py") else EXTENSION
    return name, source, status.st_size, status.st_mtime_ns, package, code


def write(path: str, data: bytes) -> None:
    """Write a file; under its name it is whole. One that cannot be written is none."""
    temporary = f"{path}.{getpid()}"
    try:
        with open(temporary, "wb") as file:
            file.write(data)
        rename(temporary, path)
    except OSError:
        pass
