"""Every exception is in the tree of minirt/errors.py, drawn there with the exit code that it becomes."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import subprocess
import sys

import pytest

import minirt
from minirt import errors
from minirt.errors import MinirtError, nearest

DRAWN = re.compile(r"^ {4}(?P<in>(?:[│ ]   )*)[├└]── (?P<name>\w+)(?:\((?P<also>\w+)\))? +(?P<code>\d+\S*)  ", re.M)


TYPES_ONLY = {"minirt.plan.kinds"}  # for the type checker; nothing imports it when it runs


def exceptions(package: object) -> dict[str, type[BaseException]]:
    """Return the exception classes that the package's modules define, by name."""
    found: dict[str, type[BaseException]] = {}
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):  # type: ignore[attr-defined]
        if module.name.endswith("__main__") or module.name in TYPES_ONLY:
            continue
        for _, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(kind, BaseException) and kind.__module__ == module.name:
                assert found.setdefault(kind.__name__, kind) is kind, f"two exceptions are named {kind.__name__}"
    return found


def drawing() -> dict[str, tuple[str, str, str]]:
    """Return what the docstring draws: name -> (base, other base, exit code)."""
    above, drawn = ["MinirtError"], {}
    for match in DRAWN.finditer(errors.__doc__ or ""):
        depth = len(match["in"]) // 4
        above[depth + 1 :] = [match["name"]]
        drawn[match["name"]] = (above[depth], match["also"] or "", match["code"])
    return drawn


def test_every_exception_is_a_minirt_error() -> None:
    found = exceptions(minirt)
    assert len(found) > 15 and [name for name, kind in found.items() if not issubclass(kind, MinirtError)] == []


def test_the_docstring_draws_every_exception_below_its_base() -> None:
    found = {name: kind for name, kind in exceptions(minirt).items() if kind is not MinirtError}
    drawn = drawing()
    assert set(drawn) == set(found)
    for name, (base, also, _) in drawn.items():
        bases = {kind.__name__ for kind in found[name].__bases__}
        assert bases == {base, also} - {""}, f"{name} is drawn below {base}"


def test_the_docstring_tells_the_exit_codes() -> None:
    found = exceptions(minirt)
    for name, (_, _, code) in drawing().items():
        if code.isdecimal():  # else "128+n"
            assert found[name].exit_code == int(code), name  # type: ignore[attr-defined]


@pytest.mark.parametrize(("option", "word"), [
    ("--cap-add=SYS_ADMINN", "did you mean CAP_SYS_ADMIN?"),
    ("--security-opt=seccomp=/dev/null", "not JSON"),
])  # fmt: skip
def test_one_line_says_what_is_wrong_with_an_option(option: str, word: str) -> None:
    run = subprocess.run([sys.executable, "-m", "minirt", "run", "--plan", option, "busybox", "true"],
                         capture_output=True, text=True, timeout=60, check=False)  # fmt: skip
    assert run.returncode == 125 and run.stderr.count("\n") == 1 and word in run.stderr, run.stderr
    assert "Error:" not in run.stderr


def test_the_nearest_word_is_one_that_is_much_like_it_or_none() -> None:
    assert nearest("readonly", ["read-only", "size", "queues"]) == "read-only"
    assert nearest("sparse", ["read-only", "size"]) == "" and nearest("x", []) == ""
