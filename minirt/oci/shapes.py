"""What a value of a JSON document must be: the words that schema.py is written in.

A shape is data; `check` compares a value with it. The first thing that is wrong is raised as `Wrong`, which learns its
JSON path on the way up, so that a right value costs no path. null counts as absent: that is how Go's encoders, and so
the engines, say it. What a shape does not know is ignored (runtime-spec config.md#extensibility).
"""

from __future__ import annotations

from minirt.errors import MinirtError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Form = Callable[[str], str]

__all__ = ["List", "Map", "Number", "Object", "Switch", "Text", "Wrong", "shown"]


class Wrong(MinirtError):
    """A value is not as its shape says.

    Args:
        rule: what it must be, and what it is.
        path: of the value below the one that was checked, its last part first.
    """

    def __init__(self, rule: str, *path: str) -> None:
        self.rule = rule
        self.path = list(path)

    def __str__(self) -> str:
        path = "".join(reversed(self.path)).removeprefix(".")
        return f"{path}: {self.rule}" if path else self.rule


def shown(value: object) -> str:
    """Return a value for a message: on one line, and not long."""
    text = repr(value) if not isinstance(value, bool) else str(value).lower()
    return text if len(text) <= 60 else text[:57] + "..."


class Text:
    """A string that the kernel can be told: in UTF-8 and without NUL.

    Args:
        values: those there are; by default any.
        form: returns what is wrong with it, or nothing.
    """

    __slots__ = ("form", "values")
    kind = "a string"

    def __init__(self, *values: str, form: Form | None = None) -> None:
        self.values = values
        self.form = form

    def check(self, value: Any) -> None:
        """Raises: Wrong."""
        if type(value) is not str:
            raise Wrong(f"{shown(value)} is not {self.kind}")
        if "\0" in value or not value.isascii():
            sayable(value)
        if self.values and value not in self.values:
            raise Wrong(f"{shown(value)} is none of {', '.join(self.values)}")
        if self.form is not None:
            rule = self.form(value)
            if rule:
                raise Wrong(f"{shown(value)} {rule}")

    def check_all(self, values: list[Any]) -> bool:
        """Say whether all strings of a list are right, at the cost of one; False: look at each."""
        if self.values or self.form is not None or not all(type(value) is str for value in values):
            return False
        together = "".join(values)
        return together.isascii() and "\0" not in together


def sayable(value: str) -> None:
    """Raise Wrong for a string that no system call can take."""
    if "\0" in value:
        raise Wrong(f"{shown(value)} holds a NUL, which ends a string for the kernel")
    try:
        value.encode()
    except UnicodeEncodeError:  # JSON can write half of a surrogate pair
        raise Wrong(f"{shown(value)} is not Unicode text") from None


class Number:
    """A whole number of a range, both ends included."""

    __slots__ = ("high", "low")
    kind = "a whole number"

    def __init__(self, low: int, high: int) -> None:
        self.low = low
        self.high = high

    def check(self, value: Any) -> None:
        """Raises: Wrong, also for 1.0 and true, as Go's decoder and so runc does."""
        if type(value) is not int or not self.low <= value <= self.high:
            raise Wrong(f"{shown(value)} is not {self.kind} from {self.low} to {self.high}")


class Switch:
    """true or false."""

    __slots__ = ()
    kind = "true or false"

    def check(self, value: Any) -> None:
        """Raises: Wrong."""
        if type(value) is not bool:
            raise Wrong(f"{shown(value)} is not {self.kind}")


class List:
    """An array.

    Args:
        of: what each entry must be.
        least: how many there must be.
    """

    __slots__ = ("least", "of")
    kind = "an array"

    def __init__(self, of: Shape, least: int = 0) -> None:
        self.of = of
        self.least = least

    def check(self, value: Any) -> None:
        """Raises: Wrong."""
        if type(value) is not list:
            raise Wrong(f"{shown(value)} is not {self.kind}")
        if len(value) < self.least:
            raise Wrong(f"is empty, and needs at least {self.least} entry")
        of = self.of
        if type(of) is Text and of.check_all(value):
            return
        i = 0
        try:
            for item in value:
                of.check(item)
                i += 1
        except Wrong as wrong:
            wrong.path.append(f"[{i}]")
            raise


class Map:
    """An object whose keys are the user's.

    Args:
        of: what each value must be.
        key: returns what is wrong with a key, or nothing; in any case none may be empty.
    """

    __slots__ = ("key", "of")
    kind = "an object"

    def __init__(self, of: Shape, key: Form | None = None) -> None:
        self.of = of
        self.key = key

    def check(self, value: Any) -> None:
        """Raises: Wrong."""
        if type(value) is not dict:
            raise Wrong(f"{shown(value)} is not {self.kind}")
        name = ""
        try:
            for name, item in value.items():
                rule = (self.key(name) if self.key else "") if name else "has an empty key"
                if rule:
                    raise Wrong(rule)
                sayable(name)
                self.of.check(item)
        except Wrong as wrong:
            wrong.path.append(f"[{shown(name)}]")
            raise


class Object:
    """An object whose keys are the specification's.

    Args:
        required: keys that must be there, with spaces between.
        fields: all keys, and what their values must be.
    """

    __slots__ = ("fields", "required")
    kind = "an object"

    def __init__(self, required: str = "", **fields: Shape) -> None:
        self.fields = fields
        self.required = required.split()

    def check(self, value: Any) -> None:
        """Raises: Wrong."""
        if type(value) is not dict:
            raise Wrong(f"{shown(value)} is not {self.kind}")
        fields, key = self.fields, ""
        try:
            for key, item in value.items():
                if item is not None and key in fields:
                    fields[key].check(item)
        except Wrong as wrong:
            wrong.path.append(f".{key}")
            raise
        for key in self.required:
            if value.get(key) is None:
                raise Wrong("missing; it is required", f".{key}")


if TYPE_CHECKING:
    Shape = Text | Number | Switch | List | Map | Object
