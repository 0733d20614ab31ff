"""A Dockerfile's text -> instructions, each with its lines (docs.docker.com/reference/dockerfile, "Format").

Only the form is read here: parser directives, comments, continued lines, here-documents, the flags after an instruction's
name. What an instruction means is `instructions.py`'s.

    # escape=`                 a directive: only before anything else
    RUN --network=none a &&\\   continued by the escape character, blanks may follow it
    # a comment between        comments and empty lines inside are left out
      b
    COPY <<one <<-'two' /d/    the lines that follow, up to `one`, then up to `two` (tabs before it are taken away)
"""

from __future__ import annotations

from minirt.build.errors import DockerfileError
from minirt.build.words import heredoc_words
from minirt.image.change import exec_form

__all__ = ["Dockerfile", "Heredoc", "Instruction", "parse", "split_flags"]

DIRECTIVES = ("syntax", "escape", "check")
WITH_HEREDOCS = ("RUN", "COPY", "ADD")
BLANKS = " \t\v\f\r"  # not the line's end; \r: what is left of one in the middle


class Heredoc:
    """A here-document."""

    __slots__ = ("content", "expand", "line", "name", "strip")

    def __init__(self, name: str, expand: bool, strip: bool, line: int) -> None:
        self.name = name  # the word that ends it; for COPY the name of the file, too
        self.expand = expand  # no part of the word was quoted: variables mean something in it
        self.strip = strip  # <<-: tabs at the beginning of lines are taken away
        self.content = ""
        self.line = line  # of its first line


class Instruction:
    """One instruction.

    Attributes: name, in capitals; text, what follows it and its flags, on one line; flags, (name, value) in order, a value
    None without "="; heredocs; line and last, its first and last line's numbers, from 1; escape, the escape character;
    source, as it stands in the file, on one line, for history and progress.
    """

    __slots__ = ("escape", "flags", "heredocs", "last", "line", "name", "source", "text")

    def __init__(self, line: int, text: str, escape: str) -> None:
        self.line = self.last = line
        self.escape = escape
        self.source = text.strip()
        name, _, rest = _partition(self.source)
        self.name = name.upper()
        self.flags, self.text = split_flags(rest, escape, line) if self.name not in ("ONBUILD",) else ([], rest.strip())
        self.heredocs: list[Heredoc] = []

    def error(self, text: str) -> DockerfileError:
        """Return what to raise where this instruction is wrong."""
        return DockerfileError(self.line, text)

    def __repr__(self) -> str:
        return f"<{self.line}: {self.source}>"


class Dockerfile:
    """All of a Dockerfile: its instructions, its directives by name in small letters, its escape character."""

    def __init__(self, instructions: list[Instruction], directives: dict[str, str]) -> None:
        self.instructions = instructions
        self.directives = directives

    @property
    def escape(self) -> str:
        """The character that continues a line and takes a character's meaning away."""
        return self.directives.get("escape", "\\")


def parse(text: str, directives: dict[str, str] | None = None, first: int = 1) -> Dockerfile:
    """Read a Dockerfile.

    Args: text, all of it; directives, those that hold already, where the text is an instruction of ONBUILD; first, the
    number of its first line.
    Raises DockerfileError with the line.
    """
    if "\0" in text:
        raise DockerfileError(text[: text.index("\0")].count("\n") + first, "a NUL character: this is no text")
    lines = [line.removesuffix("\r") for line in text.removeprefix("\ufeff").split("\n")]
    if lines[-1] == "":
        lines.pop()
    known = _directives(lines) if directives is None else directives
    return Dockerfile(_Reader(lines, known.get("escape", "\\"), first).instructions(), known)


def _directives(lines: list[str]) -> dict[str, str]:
    """Read `# name=value` at the top; the first line that is none ends them."""
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        key, equals, value = line.lstrip(BLANKS).removeprefix("#").partition("=")
        name = key.strip(BLANKS).lower()
        if not line.lstrip(BLANKS).startswith("#") or not equals or name not in DIRECTIVES:
            break
        if name in found:
            raise DockerfileError(number, f"the directive {name} is there twice")
        found[name] = value.strip(BLANKS)
        if name == "escape" and found[name] not in ("\\", "`"):
            raise DockerfileError(number, f"escape={found[name]}: the escape character is \\ or `")
    return found


class _Reader:
    """Goes through the lines, once."""

    def __init__(self, lines: list[str], escape: str, first: int) -> None:
        self._lines = lines
        self._escape = escape
        self._first = first
        self._at = 0

    def instructions(self) -> list[Instruction]:
        found = []
        while self._at < len(self._lines):
            line = self._lines[self._at]
            start = self._first + self._at
            self._at += 1
            if _is_comment(line) or not line.strip(BLANKS):
                continue
            found.append(self._instruction(line.lstrip(BLANKS), start))
        return found

    def _instruction(self, line: str, start: int) -> Instruction:
        text, more = self._cut(line)
        while more and self._at < len(self._lines):
            line = self._lines[self._at]
            self._at += 1
            if _is_comment(line) or not line.strip(BLANKS):
                continue
            part, more = self._cut(line)
            text += part
        if not text.strip(BLANKS):
            raise DockerfileError(start, "a continued line without an instruction")
        made = Instruction(start, text, self._escape)
        nested = made.text.split(None, 1)[0].upper() if made.name == "ONBUILD" and made.text else made.name
        if nested in WITH_HEREDOCS and "<<" in made.text and exec_form(made.text) is None:
            made.heredocs = [self._heredoc(made, *word) for word in heredoc_words(made.text, self._escape)]
        made.last = self._first + self._at - 1
        return made

    def _cut(self, line: str) -> tuple[str, bool]:
        """Take the escape character off the end of a line. Returns the rest, and whether it was there."""
        bare = line.rstrip(" \t")
        if bare.endswith(self._escape) and not bare.endswith(2 * self._escape):
            return bare[:-1], True
        return line, False

    def _heredoc(self, owner: Instruction, name: str, expand: bool, strip: bool) -> Heredoc:
        made = Heredoc(name, expand, strip, self._first + self._at)
        while self._at < len(self._lines):
            line = self._lines[self._at]
            self._at += 1
            bare = line.lstrip("\t") if strip else line
            if bare == name:
                return made
            made.content += bare + "\n"
        raise owner.error(f"the here-document {name!r} has no end: a line with {name} alone")


def split_flags(text: str, escape: str, line: int = 0) -> tuple[list[tuple[str, str | None]], str]:
    """Take `--name=value` words off the beginning of an instruction's text.

    Args: text, after the instruction's name; escape, the escape character; line, for errors.
    Returns the flags in order, None for a value where there is no "=", and the rest. Raises DockerfileError.
    """
    flags: list[tuple[str, str | None]] = []
    rest = text.lstrip()
    while rest.startswith("--"):
        word, rest = _flag_word(rest, escape, line)
        if word == "--":
            break
        name, equals, value = word[2:].partition("=")
        if not name:
            raise DockerfileError(line, f"{word} is no flag: it is written --NAME=VALUE")
        flags.append((name, value if equals else None))
    return flags, rest.strip()


def _flag_word(text: str, escape: str, line: int) -> tuple[str, str]:
    """Return the first word, without its quotes and escapes, and what follows."""
    word, quote, at = "", "", 0
    while at < len(text):
        char = text[at]
        if char == escape and quote != "'" and at + 1 < len(text):
            at += 1
            word += text[at]
        elif quote:
            quote, word = ("", word) if char == quote else (quote, word + char)
        elif char in "'\"":
            quote = char
        elif char in " \t":
            return word, text[at:].lstrip()
        else:
            word += char
        at += 1
    if quote:
        raise DockerfileError(line, f"a flag has a quote without its end: {text[:40]}")
    return word, ""


def _partition(text: str) -> tuple[str, str, str]:
    parts = text.split(None, 1)
    return (parts[0], " ", parts[1]) if len(parts) == 2 else (text, "", "")


def _is_comment(line: str) -> bool:
    return line.lstrip(BLANKS).startswith("#")
