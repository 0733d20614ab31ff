"""A template's text, cut into words.

Outside of {{ and }} all is text. Inside there are fields (.Name), variables ($x), names (range, json), numbers, texts in
quotes, and a few signs. `{{-` and `-}}` take the white space beside them away.
"""

from __future__ import annotations

import re

from minirt.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["TemplateError", "Word", "cut"]

WORD = re.compile(
    r"""(?P<space>[ \t\r\n]+)
      | (?P<text>"(?:\\.|[^"\\\n])*"|`[^`]*`)
      | (?P<char>'(?:\\.[^']*|[^'\\])')
      | (?P<number>[+-]?(?:0[xX][0-9a-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+|(?:[0-9][0-9_]*)?\.?[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+\.))
      | (?P<field>\.[A-Za-z_][A-Za-z_0-9]*)
      | (?P<variable>\$[A-Za-z_0-9]*)
      | (?P<name>[A-Za-z_][A-Za-z_0-9]*)
      | (?P<sign>:=|[.|()=,])""",
    re.VERBOSE | re.ASCII,
)
ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", "'": "'", '"': '"'}
LONGEST = 100_000  # bytes of a template


class TemplateError(UsageError):
    """A --format that is no template, or that asks for what is not there."""

    exit_code = 1


class Word:
    """One word. `kind` is literal, begin, end, or a group's name in WORD; `spaced`: white space stands before it."""

    __slots__ = ("at", "kind", "spaced", "text", "value")

    def __init__(self, kind: str, text: str, at: int, spaced: bool = False, value: Any = None) -> None:
        self.kind = kind
        self.text = text
        self.at = at  # its place in the template, from 1
        self.spaced = spaced
        self.value = value


def cut(text: str) -> list[Word]:
    """Return a template's words. Raises: TemplateError."""
    if len(text) > LONGEST:
        raise TemplateError("--format: a template of more than 100,000 letters")
    words: list[Word] = []
    at, trim = 0, False
    while at < len(text):
        begin = text.find("{{", at)
        literal = text[at : begin if begin >= 0 else len(text)]
        if trim:
            literal = literal.lstrip(" \t\r\n")
        if begin < 0:
            words += [Word("literal", literal, at + 1)] if literal else []
            return words
        inner = begin + 2
        if text[inner : inner + 1] == "-" and text[inner + 1 : inner + 2] in (" ", "\t", "\r", "\n"):
            literal, inner = literal.rstrip(" \t\r\n"), inner + 1
        words += [Word("literal", literal, at + 1)] if literal else []
        at, trim = action(text, inner, begin, words)
    return words


def action(text: str, at: int, begin: int, words: list[Word]) -> tuple[int, bool]:
    """Append an action's words. Returns where it ends, and whether white space after it goes."""
    comment = re.compile(r"[ \t\r\n]*/\*").match(text, at)
    if comment:
        end = text.find("*/", comment.end())
        closing = re.compile(r"(?:\s+-)?\}\}").match(text, end + 2) if end >= 0 else None
        if closing is None:
            raise TemplateError(f"--format: column {begin + 1}: a comment ends with */ and }}}}")
        return closing.end(), "-" in closing.group()
    words.append(Word("begin", "{{", begin + 1))
    spaced, depth = False, 0
    while True:
        closing = re.compile(r"-?\}\}").match(text, at)
        if closing and (closing.group() == "}}" or spaced):
            if depth:
                raise TemplateError(f"--format: column {at + 1}: a ( is not closed")
            words.append(Word("end", "}}", at + 1, spaced))
            return closing.end(), closing.group()[0] == "-"
        found = WORD.match(text, at)
        if found is None:
            rest = text[at : at + 10]
            wrong = f"{rest!r} is no word" if rest else "}} is missing"
            raise TemplateError(f"--format: column {at + 1}: {wrong} in {text!r}")
        kind = str(found.lastgroup)
        depth += {"(": 1, ")": -1}.get(found.group(), 0)
        if depth < 0:
            raise TemplateError(f"--format: column {at + 1}: a ) without its (")
        if kind != "space":
            words.append(Word(kind, found.group(), at + 1, spaced, value_of(kind, found.group(), at + 1)))
        spaced, at = kind == "space", found.end()


def value_of(kind: str, text: str, at: int) -> Any:
    """Return what a constant means. Raises: TemplateError."""
    if kind == "text":
        return text[1:-1] if text[0] == "`" else unescape(text[1:-1], at)
    if kind == "char":
        inner = unescape(text[1:-1], at)
        if len(inner) != 1:
            raise TemplateError(f"--format: column {at}: {text} is not one letter")
        return ord(inner)
    if kind == "number":
        plain = text.replace("_", "")
        try:
            return int(plain, 0 if plain.lstrip("+-")[:2].lower() in ("0x", "0o", "0b") else 10)
        except ValueError:
            pass
        try:
            return float(plain)
        except ValueError:
            raise TemplateError(f"--format: column {at}: {text!r} is no number") from None
    return None


def unescape(text: str, at: int) -> str:
    """Return a quoted text's meaning (Go spec, "String literals"). Raises: TemplateError."""

    def one(found: re.Match[str]) -> str:
        sign = found.group(1)
        if sign in ESCAPES:
            return ESCAPES[sign]
        if sign[0] in "xuU" and len(sign) > 1 and int(sign[1:], 16) < 0x110000:
            return chr(int(sign[1:], 16))
        if sign[0] in "01234567":
            return chr(int(sign, 8))
        raise TemplateError(f"--format: column {at}: \\{sign} means nothing in a text")

    return re.sub(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{3}|.)", one, text, flags=re.DOTALL)
