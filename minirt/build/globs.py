"""Patterns of file names: Go's filepath.Match, which COPY has, and with `**` .dockerignore's.

    *  any characters but /      ?  one of them      [a-z] [^a-z]  one of these, none of these      \\x  x itself
    ** (in .dockerignore)        any directories, or everything below
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re

__all__ = ["Ignored", "has_glob", "regular"]


def has_glob(text: str) -> bool:
    """Say whether a text has a character that makes it a pattern."""
    return any(char in text for char in "*?[\\")


def regular(pattern: str, *, stars: bool = False) -> re.Pattern[str]:
    """Return a pattern as a compiled regular expression for a whole path.

    Args: stars, whether `**` crosses slashes. Raises ValueError for a pattern that is malformed.
    """
    import re

    made, at = "", 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*" and stars and pattern[at : at + 1] == "*":
            at += 1
            if pattern[at : at + 1] == "/":
                at += 1
                made += "(?:.*/)?"
            else:
                made += ".*"
        elif char == "*":
            made += "[^/]*"
        elif char == "?":
            made += "[^/]"
        elif char == "[":
            part, at = _class(pattern, at)
            made += part
        elif char == "\\":
            if at == len(pattern):
                raise ValueError("it ends in a backslash")
            made += re.escape(pattern[at])
            at += 1
        else:
            made += re.escape(char)
    return re.compile(made + r"\Z", re.DOTALL)


def _class(pattern: str, at: int) -> tuple[str, int]:
    """Read the inside of [ ]. Returns it as a regular expression, and the place after it."""
    import re

    negated = pattern[at : at + 1] == "^"
    at += negated
    made = ""
    while pattern[at : at + 1] != "]" or not made:
        if at >= len(pattern) or pattern[at] in "-]":
            raise ValueError("a [ is not closed, or nothing is in it")
        low, at = _one(pattern, at)
        high = low
        if pattern[at : at + 1] == "-":
            high, at = _one(pattern, at + 1)
        if low > high:
            raise ValueError(f"{low}-{high} is backwards")
        made += f"{re.escape(low)}-{re.escape(high)}"
    return f"(?!/)[{'^' if negated else ''}{made}]", at + 1


def _one(pattern: str, at: int) -> tuple[str, int]:
    if pattern[at : at + 1] == "\\":
        at += 1
    if at >= len(pattern):
        raise ValueError("a [ is not closed")
    return pattern[at], at + 1


class Ignored:
    """What a .dockerignore leaves out (docs.docker.com/build/concepts/context, ".dockerignore files").

    Args: text, the file's. Raises ValueError, with the line, for a malformed pattern.
    """

    def __init__(self, text: str) -> None:
        import posixpath

        self._rules: list[tuple[bool, re.Pattern[str]]] = []
        for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
            pattern = line.strip()
            if not pattern or line.startswith("#"):
                continue
            keep = pattern.startswith("!")
            pattern = posixpath.normpath("/" + pattern.removeprefix("!").strip()).lstrip("/")
            if not pattern:
                pattern = "**" if keep else pattern
                if not pattern:
                    continue  # "/" and "." mean nothing to docker either
            try:
                self._rules.append((keep, regular(pattern, stars=True)))
            except ValueError as error:
                raise ValueError(f"line {number}: {pattern}: {error}") from None
        self.excepts = any(keep for keep, _ in self._rules)

    def __bool__(self) -> bool:
        return bool(self._rules)

    def __call__(self, path: str) -> bool:
        """Say whether a path below the context is left out: the last rule counts that it, or a directory above it, meets."""
        out = False
        parts = path.split("/")
        above = ["/".join(parts[: i + 1]) for i in range(len(parts))]
        for keep, pattern in self._rules:
            if out == keep and any(pattern.match(one) for one in above):
                out = not keep
        return out
