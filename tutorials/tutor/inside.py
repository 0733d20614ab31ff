"""In the lab: answers read from standard input, a JSON object a line; what is being done, and each verdict, written the same way.

    {"lesson": ID, "name": FILE NAME, "text": THE ANSWER, "sandbox": BOOL, "partial": BOOL, "guest": base64, FOR C ALONE}
    {"stage": TEXT} ...  and then  {"verdict": {...}}  or  {"error": TEXT}

lab.py is the other end. What the real functions give is observed once a lesson; the secret is then the same for all answers.
"""

from __future__ import annotations

import json
import sys
import tempfile
from base64 import b64decode
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tutorials.tutor.check import Reference, check, observed
from tutorials.tutor.errors import TutorError
from tutorials.tutor.lessons import find

__all__ = ["serve"]


def tell(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def serve(lines: Iterable[str]) -> None:
    """Answer requests until there are no more."""
    references: dict[tuple[str, bool], Reference] = {}
    tell(stage="the machine is up; programs are slow in it where it is emulated")
    for line in lines:
        request = json.loads(line)
        try:
            tell(verdict=asdict(verdict(request, references)))
        except TutorError as error:
            tell(error=str(error))


def verdict(request: dict[str, Any], references: dict[tuple[str, bool], Reference]) -> Any:
    """Check one answer. Raises: TutorError."""
    lesson, sandbox = find(request["lesson"]), bool(request["sandbox"])
    key = lesson.id, sandbox
    if key not in references:
        tell(stage=f"{lesson.id}: what the kernel says of the real functions")
        references[key] = observed(lesson, sandbox=sandbox)
    tell(stage=f"{lesson.id}: what it says of yours")
    with tempfile.TemporaryDirectory(prefix="answer-", dir="/var/tmp") as name:
        directory = Path(name)
        directory.chmod(0o755)  # a sandbox reads it as somebody else
        path = directory / request["name"]
        path.write_text(request["text"], encoding="utf-8")
        if request.get("guest"):
            path.with_suffix(".elf").write_bytes(b64decode(request["guest"]))
        return check(lesson, path, references[key], bool(request.get("partial")), sandbox, looked=True)


if __name__ == "__main__":
    serve(sys.stdin)
