"""What a template may call: Go's own functions (text/template, "Functions"), and those that docker adds."""

from __future__ import annotations

import html
from urllib.parse import quote_plus

from minirt.errors import MinirtError
from minirt.template.show import Map, as_json, formatted, go_type, plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["FUNCTIONS", "IN_HEADS", "Mistake", "truth"]

WIDEST = 10_000


class Mistake(MinirtError):
    """A call that cannot be; the caller adds where it stands."""


def truth(value: Any) -> bool:
    """Say whether a value counts as true: not nothing, zero or empty. A struct always does."""
    return (isinstance(value, dict) and not isinstance(value, Map)) or bool(value)


def index(value: Any, *keys: Any) -> Any:
    """Return an element, and its element, and so on. A map's that is not there is empty."""
    for key in keys:
        if value is None:
            raise Mistake("index of nothing")
        if isinstance(value, dict):
            if not isinstance(key, str):
                raise Mistake(f"a map's key is a text, not {go_type(key)}")
            if not isinstance(value, Map):
                raise Mistake(f"cannot index {plain(value)[:40]}: its fields are asked for as .{key}")
            known = next((one for one in value.values() if one is not None), "")
            value = value.get(key, "" if isinstance(known, str) else [] if isinstance(known, list) else None)
        elif isinstance(value, (list, tuple, str)):
            if isinstance(key, bool) or not isinstance(key, int):
                raise Mistake(f"an index is a number, not {go_type(key)}")
            if not 0 <= key < len(value):
                raise Mistake(f"index out of range: {key}")
            value = value.encode()[key] if isinstance(value, str) else value[key]
        else:
            raise Mistake(f"cannot index {plain(value)[:40]}")
    return value


def part(value: Any, *ends: Any) -> Any:
    """Return part of a text or list."""
    if not isinstance(value, (str, list, tuple)) or len(ends) > 2:
        raise Mistake(f"cannot slice {plain(value)[:40]}")
    first, last = (*ends, 0)[0] if ends else 0, ends[1] if len(ends) > 1 else len(value)
    if not all(isinstance(end, int) and 0 <= end <= len(value) for end in (first, last)) or first > last:
        raise Mistake(f"index out of range: {first}:{last}")
    return value[first:last]


def length(value: Any) -> int:
    """Return how many elements, or bytes of a text."""
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogateescape"))
    if isinstance(value, (list, tuple, Map)):
        return len(value)
    raise Mistake(f"len of type {go_type(value)}")


def equal(first: Any, *others: Any) -> bool:
    """Say whether the first is one of the others; only what is of one kind can be compared."""
    if not others:
        raise Mistake("eq takes two values")
    for other in others:
        kinds = {kind_of(first), kind_of(other)} - {"nil"}
        if len(kinds) > 1:
            raise Mistake("incompatible types for comparison")
        if first == other:
            return True
    return False


def kind_of(value: Any) -> str:
    """Return the kind by which values are compared."""
    if value is None:
        return "nil"
    for kind, name in ((bool, "bool"), (int, "int"), (float, "float"), (str, "string")):
        if isinstance(value, kind):
            return name
    raise Mistake("only numbers, texts, true and false can be compared")


def less(first: Any, second: Any) -> bool:
    """Say whether the first is less."""
    if kind_of(first) != kind_of(second) or kind_of(first) in ("bool", "nil"):
        raise Mistake("incompatible types for comparison")
    return bool(first < second)


def joined(values: Any, sign: Any) -> str:
    """Return texts as one."""
    if not isinstance(values, (list, tuple)) or not isinstance(sign, str):
        raise Mistake("join takes a list and a text")
    return sign.join(plain(value, False) for value in values)


def text(function: Callable[[str], Any]) -> Callable[[Any], Any]:
    """Return a function that takes nothing but a text."""

    def checked(value: Any) -> Any:
        if not isinstance(value, str):
            raise Mistake(f"wrong type: a text is expected, not {go_type(value)}")
        return function(value)

    return checked


def split(value: Any, sign: Any) -> list[str]:
    """Return a text's parts."""
    if not isinstance(value, str) or not isinstance(sign, str):
        raise Mistake("split takes two texts")
    return value.split(sign) if sign else list(value)


def pad(value: Any, before: Any, after: Any) -> str:
    """Return a text with blanks before and after it; nothing stays nothing."""
    if not isinstance(value, str) or not isinstance(before, int) or not isinstance(after, int):
        raise Mistake("pad takes a text and two numbers")
    return " " * min(max(before, 0), WIDEST) + value + " " * min(max(after, 0), WIDEST) if value else value


def truncate(value: Any, most: Any) -> str:
    """Return a text's beginning."""
    if not isinstance(value, str) or not isinstance(most, int) or most < 0:
        raise Mistake("truncate takes a text and a number")
    return value[:most]


def printed(*values: Any) -> str:
    """Return what Go's Sprint makes: a blank between two values that are no texts."""
    made = ""
    for i, value in enumerate(values):
        if i and not isinstance(value, str) and not isinstance(values[i - 1], str):
            made += " "
        made += plain(value, False)
    return made


def printf(form: Any, *values: Any) -> str:
    """Return what Sprintf makes."""
    if not isinstance(form, str):
        raise Mistake("printf's first value is a text")
    return formatted(form, values)


def title(value: str) -> str:
    """Return a text with each word's first letter large (strings.Title)."""
    begins = (not i or not (value[i - 1].isalnum() or value[i - 1] in "_'") for i in range(len(value)))
    return "".join(letter.upper() if first else letter for first, letter in zip(begins, value, strict=True))


def escaped(*values: Any) -> str:
    """Return text for HTML, with the names that Go has for quotes."""
    return html.escape(printed(*values)).replace("&#x27;", "&#39;").replace("&quot;", "&#34;")


def negated(value: Any) -> bool:
    """Say the opposite."""
    return not truth(value)


# name -> (function, least and most arguments); `and` and `or` look at no more than they need, and are in run.py.
FUNCTIONS: dict[str, tuple[Callable[..., Any] | None, int, int]] = {
    "and": (None, 1, 99), "or": (None, 1, 99), "not": (negated, 1, 1),
    "eq": (equal, 1, 99), "ne": (lambda a, b: not equal(a, b), 2, 2),
    "lt": (less, 2, 2), "le": (lambda a, b: less(a, b) or equal(a, b), 2, 2),
    "gt": (lambda a, b: not (less(a, b) or equal(a, b)), 2, 2), "ge": (lambda a, b: not less(a, b), 2, 2),
    "len": (length, 1, 1), "index": (index, 1, 99), "slice": (part, 1, 99),
    "print": (printed, 0, 99), "println": (lambda *values: " ".join(plain(v, False) for v in values) + "\n", 0, 99),
    "printf": (printf, 1, 99), "html": (escaped, 0, 99),
    "urlquery": (lambda *values: quote_plus(printed(*values)), 0, 99),
    "json": (as_json, 1, 1), "join": (joined, 2, 2), "split": (split, 2, 2), "lower": (text(str.lower), 1, 1),
    "upper": (text(str.upper), 1, 1), "title": (text(title), 1, 1), "pad": (pad, 3, 3), "truncate": (truncate, 2, 2),
}  # fmt: skip
# Over a table's column its head is to be read, so there these leave their value as it is (docker's HeaderFunctions).
IN_HEADS = ("json", "join", "split", "lower", "upper", "title", "truncate", "pad")
