"""The learner's functions in the place of the real ones, and then a real command with them.

    python -m tutorials.tutor.organs [--partial] ANSWER SYMBOL,... COMMAND [WORD...]

    COMMAND         minirt, minivm, or script: a Python file of the lesson's, with the words as its arguments
    $TUTOR_CONFIG   what is different in the container's config.json, as JSON: for what `minirt run` has no word for

The code of the real function is exchanged (`__code__`), and nothing else: whoever calls it, calls the learner's, and this finds
around it what the real one would find. An exception that comes out of the learner's lines is told as a JSON object on
stderr, with status 97.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import json
import os
import runpy
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FunctionType
from typing import Any

__all__ = ["RAISED", "main", "transplant"]

RAISED = 97  # exit status: the learner's code raised something


def transplant(answer: Path, symbols: Sequence[str], partial: bool = False) -> None:
    """Put an answer's functions in the place of the real ones, for this process.

    Args:
        answer: a Python file that defines them.
        symbols: MODULE:NAME of each.
        partial: leave those that the answer lacks as they are.
    """
    modules = {symbol: importlib.import_module(symbol.partition(":")[0]) for symbol in symbols}
    space: dict[str, Any] = {}
    for module in modules.values():
        space |= vars(module)
    known = set(space)
    space["__name__"] = "answer"
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(answer.read_text(encoding="utf-8"), str(answer), "exec", dont_inherit=True), space)
    real_classes = {id(value) for module in modules.values() for value in vars(module).values()}
    for symbol, module in modules.items():
        names = symbol.partition(":")[2].split(".")
        first = space.get(names[0])
        lacking = first is None or (len(names) > 1 and (id(first) in real_classes or names[1] not in vars(first)))
        if lacking and partial:
            continue
        if lacking:
            raise LookupError(f"{answer.name} does not define {'.'.join(names)}")
        theirs, real = plain(first, names[1:]), plain(vars(module)[names[0]], names[1:])
        if theirs is not real:
            real.__code__ = theirs.__code__
    for module in modules.values():  # what the answer imports or defines besides is found from the real module, too
        for name in set(space) - known:
            vars(module).setdefault(name, space[name])


def plain(value: Any, rest: Sequence[str]) -> FunctionType:
    """Return the function itself, without decorators; of a class, its method."""
    for name in rest:
        value = vars(value)[name]
    value = inspect.unwrap(getattr(value, "__func__", value))
    if not isinstance(value, FunctionType):
        raise LookupError(f"{value!r} is no function")
    return value


def edit(change: dict[str, Any]) -> None:
    """Let `minirt run` make another config.json than it would."""
    from minirt.engine import spec

    make = spec.make_spec

    def edited(*args: Any, **more: Any) -> dict[str, Any]:
        config: dict[str, Any] = merged(make(*args, **more), change)
        return config

    spec.make_spec = edited


def merged(value: Any, change: Any) -> Any:
    """Return a JSON value with another one's members in it."""
    if not (isinstance(value, dict) and isinstance(change, dict)):
        return change
    return {**value, **{key: merged(value.get(key), new) for key, new in change.items()}}


def minirt(words: list[str]) -> int:
    """Run a minirt command; what is no error of minirt's own comes out as it is, and so with the learner's line."""
    from minirt.cli.main import main
    from minirt.errors import MinirtError

    try:
        return main([*([] if words[:1] == ["oci"] else ["--debug"]), *words])
    except MinirtError as error:
        print(f"minirt: {error}", file=sys.stderr)
        return error.exit_code


def minivm(words: list[str]) -> int:
    """Run a minivm command, likewise."""
    from minivm.cli.main import main
    from minivm.errors import MinivmError

    try:
        return main([*words[:1], "--debug", *words[1:]])
    except MinivmError as error:
        print(f"minivm: {error}", file=sys.stderr)
        return error.status


def main(words: list[str]) -> int:
    """Run a command with an answer's functions in it."""
    partial = words[0] == "--partial"
    answer, symbols, command, *rest = words[partial:]
    try:
        if os.environ.get("TUTOR_CONFIG"):
            edit(json.loads(os.environ["TUTOR_CONFIG"]))
        if answer != "-":
            transplant(Path(answer), symbols.split(","), partial)
        if command == "script":
            sys.argv = rest
            runpy.run_path(rest[0], run_name="__main__")
            return 0
        if command == "minivm":
            return minivm(rest)
        return minirt(rest)
    except BaseException as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == answer]
        if isinstance(error, SystemExit) or not (lines or isinstance(error, (LookupError, SyntaxError))):
            raise
        told = {"raised": f"{type(error).__name__}: {error}", "line": lines[-1] if lines else getattr(error, "lineno", 1)}
        print(json.dumps(told), file=sys.stderr)
        return RAISED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
