"""A new lesson: the files that it is made of, with what has to be written in them."""

from __future__ import annotations

import ast
from pathlib import Path

from minirt.plan import Plan
from tutorials.tutor.errors import TutorError
from tutorials.tutor.exercise import blank
from tutorials.tutor.lessons import COURSE, Lesson
from tutorials.tutor.source import Piece, source

__all__ = ["scaffold"]

LESSON = """# {number}. TITLE

What you will see, in two sentences. Half an hour.
{asks}
## The real lines

```weave {symbol}
```

## Exercise

What the function is to do, and what the check looks at: `tutor start {short}`, `tutor watch`.

```exercise
{symbol}
```

## How a real system differs

Manual pages: `{page}`.
"""
ASK = """
## Section {number}

```predict
What does this print?
```

```sh run
$ {command}
```

```quiz
A question?
* the right answer
- one that sounds right
- another
```
"""
SETTINGS = """minutes = 30
needs = ["{need}"]  # root, kvm, cgroup2: what a machine lacks of them, the lab has

[traces]
birth = "{trace}"
failing = "{failing}"
"""
CHECK = '''"""What the kernel says of lesson {number}'s {thing}."""

from __future__ import annotations

from collections.abc import Iterator

from tutorials.tutor.world import World

STORY = {story}


def observe(world: World) -> Iterator[tuple[str, object]]:
    """Yield facts, a name and a value each: the same for the real functions in each run, another for a wrong answer."""
    {body}
'''
HINTS = """# A table for each fact of check.py: what is expected, a question, a pointer, pseudo-code, the source.

[fact]
says = "what the kernel should say"
question = "What ...?"
pointer = "man 7 namespaces"
pseudo = ""
source = "{symbol}"
"""
WRONG = "What the mistake is.\n\nThe check says: fact: what is observed"


def scaffold(id: str, symbol: str, course: Path = COURSE) -> list[Path]:
    """Write a new lesson's files.

    Args:
        id: containers/08_name or machines/05_name.
        symbol: what the learner is to write.

    Returns the files. Raises: TutorError where the lesson is there, or the symbol is not.
    """
    path = course / id
    track, _, name = id.partition("/")
    if track not in ("containers", "machines") or not name[:2].isdigit():
        raise TutorError(f"{id}: write containers/NN_name or machines/NN_name")
    if path.exists():
        raise TutorError(f"{id} is there already: {path}")
    piece = source(symbol)
    machine, call = track == "machines", first_call(piece)
    run = "minivm run" if machine else "minirt run --rm busybox true"
    traced = run.replace(" run", " run --trace FILE", 1)
    words = {
        "number": int(name[:2]), "symbol": symbol, "need": "kvm" if machine else "root", "thing": track[:-1],
        "short": f"{track[0]}{int(name[:2])}", "page": "ioctl(2)" if machine else f"{call}(2)", "trace": traced,
        "failing": traced.replace("FILE", f"FILE --fail {call}=EPERM"), "story": str(tuple(run.split())).replace("'", '"'),
        "asks": "".join(ASK.format(number=number, command=run) for number in (1, 2, 3)),
        "body": 'yield "fact", world.run("minivm", "run").returncode' if machine
        else 'with world.box() as box:\n        yield "fact", box.namespace("mnt")',
    }  # fmt: skip
    for file, text in {"lesson.md": LESSON, "lesson.toml": SETTINGS, "check.py": CHECK, "hints.toml": HINTS}.items():
        path.mkdir(parents=True, exist_ok=True)
        (path / file).write_text(text.format(**words), encoding="utf-8")
    lesson = Lesson(path)
    assert lesson.symbols == (symbol,)
    wrong = path / f"wrong/first.{lesson.language}"
    wrong.parent.mkdir()
    wrong.write_text(mistaken(lesson), encoding="utf-8")
    return [*(path / file for file in ("lesson.md", "lesson.toml", "check.py", "hints.toml")), wrong]


def first_call(piece: Piece) -> str:
    """Return the first system call of a step, for a trace that fails there; of what makes none, an ioctl or a mount."""
    tree = ast.parse(piece.text) if piece.language == "python" else ast.parse("")
    names = [node.func.attr for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    return next((name for name in names if hasattr(Plan, name)), "KVM_CREATE_VCPU" if "minivm" in piece.symbol else "mount")


def mistaken(lesson: Lesson) -> str:
    """Return the reference with a heading for a mistake, which is still to be made."""
    text = blank(lesson, solved=True)
    if lesson.language == "c":
        return f"/*\n{WRONG}\n */\n" + text.partition("*/\n")[2]
    return f'"""{WRONG}\n"""' + text.split('"""', 2)[2]
