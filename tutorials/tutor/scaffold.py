"""A new lesson: the files that it is made of, with what has to be written in them."""

from __future__ import annotations

from pathlib import Path

from tutorials.tutor.errors import TutorError
from tutorials.tutor.lessons import COURSE, Lesson
from tutorials.tutor.source import source

__all__ = ["scaffold"]

LESSON = """# {number}. TITLE

What you will see, in two sentences. Half an hour.

```predict
What does the first command print?
```

```sh run
$ minirt run --rm busybox true
```

```weave {symbol}
```

```quiz
A question?
* the right answer
- one that sounds right
- another
```

## Exercise

```exercise
{symbol}
```

## How a real system differs

Manual pages: `namespaces(7)`.
"""
SETTINGS = """minutes = 30
needs = ["{need}"]

[traces]
birth = "{trace}"
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
WRONG = '''"""What the mistake is.

The check says: fact: what is observed
"""
'''


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
    source(symbol)
    machine = track == "machines"
    words = {
        "number": int(name[:2]), "symbol": symbol, "need": "kvm" if machine else "root", "thing": track[:-1],
        "trace": "minivm run --trace FILE" if machine else "minirt run --trace FILE --rm busybox true",
        "story": '("minivm", "run")' if machine else '("minirt", "run", "--rm", "busybox", "true")',
        "body": 'yield "fact", world.run("minivm", "run").returncode' if machine
        else 'with world.box() as box:\n        yield "fact", box.namespace("mnt")',
    }  # fmt: skip
    files = {"lesson.md": LESSON, "lesson.toml": SETTINGS, "check.py": CHECK, "hints.toml": HINTS, "wrong/first.py": WRONG}
    for file, text in files.items():
        (path / file).parent.mkdir(parents=True, exist_ok=True)
        (path / file).write_text(text.format(**words), encoding="utf-8")
    assert Lesson(path).symbols == (symbol,)
    return [path / file for file in files]
