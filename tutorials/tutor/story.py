"""The calls of two runs, and where they part. Also how traces are recorded, and compared up to what varies."""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

from minirt.trace import Event, read_trace
from tutorials.tutor.lessons import Lesson
from tutorials.tutor.source import python_node
from tutorials.tutor.world import World

__all__ = ["calls", "effects", "first_difference", "record", "same"]

Call = tuple[str, str, str]  # step, name, text


def calls(world: World, command: tuple[str, ...]) -> list[Call]:
    """Return the calls that a command makes with the world's answer: of minirt its plan, of minivm a trace.

    Raises: Raised where the answer does.
    """
    if command[0] == "minirt":
        done = world.run(command[0], command[1], "--plan", "--format", "json", *command[2:])
        try:
            records = json.loads(done.stdout[done.stdout.find("{\n") :])["records"]
        except ValueError:  # it was refused; or the answer prints what looks like a plan
            return [("", "minirt", done.stderr.strip())]
        return [(r["step"], r["call"], f"{r['call']}({', '.join(r['args'])})") for r in records]
    return [(event.step, event.call, text(event)) for event in traced(world, command)]


def traced(world: World, command: tuple[str, ...]) -> list[Event]:
    """Return the events of a command's run; none where it wrote no trace. Raises: Raised."""
    path = world.directory / "run.jsonl"
    world.run(command[0], command[1], "--trace", str(path), *command[2:])
    try:
        with path.open(encoding="utf-8") as file:
            return list(read_trace(file)[1])
    except (OSError, ValueError):
        return []


def effects(world: World, command: tuple[str, ...]) -> list[tuple[Any, ...]]:
    """Return what a run changed, as it is seen from outside (`change` of its events), and what failed in it."""
    events = traced(world, command)
    return [(re.sub(r"\d+", "N", varies(line)), event.errno) for event in events for line in (event.change or [""])]


def text(event: Event) -> str:
    """Return an event as strace prints a call, without what varies."""
    return varies(f"{event.call}({', '.join(event.args)})")


def varies(shown: str) -> str:
    """Take out what differs from run to run: ids, addresses, descriptors, temporary names, times."""
    shown = re.sub(r"/(?:var|run|tmp|root|home)/[^\s\",:)]*", "/...", shown)
    shown = re.sub(r"(?<![0-9a-z])[0-9a-f]{12,64}(?![0-9a-z])", "ID", shown)
    shown = re.sub(r"\b0x7[0-9a-f]{11}\b", "ADDRESS", shown)  # of this process (man 2 mmap)
    return re.sub(r"\b\d+ <", "FD <", shown)


def first_difference(real: list[Call], theirs: list[Call], answer: Path, symbols: tuple[str, ...]) -> tuple[str, str]:
    """Say at which call an answer's run leaves the real one, and in which line of it that call is; or two empty texts."""
    one, other = ([(step, varies(shown)) for step, _, shown in run] for run in (real, theirs))
    at = next((i for i, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), min(len(one), len(other)))
    if one == other:
        return "", ""
    want = real[at][2] if at < len(real) else "no call"
    got = theirs[at][2] if at < len(theirs) else "no call"
    call = (theirs if at < len(theirs) else real)[at]
    line = line_of(answer, symbols, call, sum(c[:2] == call[:2] for c in theirs[:at]))
    return f"call {at + 1} is `{got}`, and in the reference `{want}`", f"{answer.name}:{line}" if line else ""


def line_of(answer: Path, symbols: tuple[str, ...], call: Call, before: int) -> int:
    """Return the line of an answer that makes the call; else that of the step's function, or of the first one."""
    if answer.suffix != ".py":
        return 0
    tree = ast.parse(answer.read_text(encoding="utf-8"))
    found = [python_node(tree, symbol.partition(":")[2]) for symbol in symbols]
    functions = [node for node in found if node is not None]
    mine = [node for node in functions if call[0] in (node.name, step_name(node))]
    for node in mine:
        lines = [leaf.lineno for leaf in ast.walk(node)
                 if isinstance(leaf, ast.Call) and isinstance(leaf.func, ast.Attribute) and leaf.func.attr == call[1]]  # fmt: skip
        if lines:
            return sorted(lines)[min(before, len(lines) - 1)]
    chosen = mine or functions
    return int(chosen[0].lineno) if chosen else 0


def step_name(node: ast.FunctionDef) -> str:
    """Return the name that `@step("name", ...)` gives a function."""
    calls = [d for d in node.decorator_list if isinstance(d, ast.Call) and d.args and isinstance(d.args[0], ast.Constant)]
    return str(calls[0].args[0].value) if calls and isinstance(calls[0].args[0], ast.Constant) else ""


# -- recorded traces -----------------------------------------------------------------------------------------


def record(lesson: Lesson, name: str, out: Path) -> None:
    """Record one of a lesson's traces anew; whether the command succeeds is not looked at, as some are to fail."""
    command = lesson.traces[name].replace("FILE", shlex.quote(str(out)))
    with World("", (), "") as world:
        words = world.words(*shlex.split(command))
        subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, env=world.env, timeout=120, check=False)


def same(one: Path, other: Path) -> list[str]:
    """Return what two traces differ in up to what varies; empty: they tell the same."""
    told = []
    for path in (one, other):
        with path.open(encoding="utf-8") as file:
            told.append([shape(event) for event in read_trace(file)[1]])
    if told[0] == told[1]:
        return []
    at = next((i for i, pair in enumerate(zip(*told, strict=False)) if pair[0] != pair[1]), min(map(len, told)))
    return [str(run[at]) if at < len(run) else "the trace has ended" for run in told]


def shape(event: Event) -> tuple[Any, ...]:
    """Return what of an event is the same in each run."""
    return event.side, event.step, event.call, event.errno, len(event.args), event.why and event.why.split(" ")[0]
