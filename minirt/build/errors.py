"""What can go wrong with a build.

    BuildError(MinirtError)     1   a step cannot be done; the text begins with the file and line where it stands
    ├── DockerfileError         1   the Dockerfile itself is wrong: found before anything is run
    ├── BadWord                 1   a word of it cannot be read (words.py)
    ├── StepFailed              1   a step was tried (stage.py)
    └── Cancelled               1   another part of the build has failed (run.py)
"""

from __future__ import annotations

from minirt.errors import MinirtError

__all__ = ["BuildError", "DockerfileError"]


class BuildError(MinirtError):
    """A step of a build cannot be done."""

    exit_code = 1


class DockerfileError(BuildError):
    """A Dockerfile is wrong.

    Args: line, its number, from 1 (0: of the file as a whole); text, what is wrong there; file, its name, filled in by
    who knows it.
    """

    def __init__(self, line: int, text: str, file: str = "Dockerfile") -> None:
        super().__init__(text)
        self.line = line
        self.text = text
        self.file = file

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.text}"
