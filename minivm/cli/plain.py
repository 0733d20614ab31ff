"""Words that need no argparse: it takes longer to load and to be told of fifty flags than all the rest of `minivm run`.

The flags are declared once, by `declare` of a command's module, which tells argparse's parser of them for help and for
errors. Here a Table takes the place of that parser: it notes what it is told, and reads words that are written out in full
and in order. Of anything else (a flag cut short, an error, --help) it says None, and argparse has the last word.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Container, Sequence
    from typing import Any

__all__ = ["Table", "read", "suppress"]

SUPPRESS = "==SUPPRESS=="


def suppress() -> str:
    """Return argparse.SUPPRESS, a default that is none: where argparse is loaded its own, which it knows by identity."""
    loaded: Any = sys.modules.get("argparse")
    return loaded.SUPPRESS if loaded else SUPPRESS


def read(declare: Callable[[Any], None], words: Sequence[str], **known: Any) -> argparse.Namespace | None:
    """Return what argparse would make of a command's words, or None where it has to be asked.

    Args:
        declare: tells a parser, or a Table, what there is.
        known: attributes of the result that are not the command's.
    """
    table = Table()
    declare(table)
    result: argparse.Namespace | None = table.read(words, known)
    return result


class Table:
    """What is declared, by the methods of argparse.ArgumentParser that are used for it."""

    def __init__(self) -> None:
        self.options: dict[str, Option] = {}
        self.positional: list[Option] = []  # each takes one word, or none
        self.defaults: dict[str, Any] = {}

    def add_argument(self, *names: str, **how: Any) -> None:
        """Note a flag, or a word without one."""
        option = Option(names, **how)
        if names[0].startswith("-"):
            self.options.update(dict.fromkeys(names, option))
        else:
            self.positional.append(option)
        if option.default != SUPPRESS:
            self.defaults[option.dest] = option.default

    def add_argument_group(self, title: str) -> Table:
        """Groups are for help alone."""
        return self

    def set_defaults(self, **defaults: Any) -> None:
        """Note what the result has besides."""
        self.defaults |= defaults

    def read(self, words: Sequence[str], known: dict[str, Any]) -> Any:
        """Return the result, or None."""
        values, left, free = known | self.defaults, list(words), list(self.positional)
        while left:
            word = left.pop(0)
            name, equals, value = word.partition("=")
            option: Option | None = None
            taken: str | bool | None = None
            if not word.startswith("-"):
                option, taken = (free.pop(0), word) if free else (None, None)
            elif option := self.options.get(name):
                taken = option.take(equals, value, left)
            if option is None or not option.store(values, taken):
                return None
        return type(sys.implementation)(**values)  # types.SimpleNamespace, without types


class Option:
    """One flag with its value; arguments as those of argparse's add_argument."""

    def __init__(
        self,
        names: tuple[str, ...],
        *,
        action: str = "store",
        nargs: str | None = None,
        const: Any = None,
        default: Any = None,
        type: Callable[[str], Any] = str,
        choices: Container[Any] | None = None,
        dest: str = "",
        metavar: str = "",
        help: str = "",
    ) -> None:
        long = next((name for name in names if name.startswith("--")), names[0])
        self.dest = dest or long.lstrip("-").replace("-", "_")
        self.action, self.const, self.type, self.choices = action, const, type, choices
        self.optional = nargs == "?"
        self.default = False if action == "store_true" else default

    def take(self, equals: str, value: str, left: list[str]) -> str | bool | None:
        """Return the value, from the word itself or the next one, True for none; None where argparse is to be asked."""
        if self.action == "store_true":
            return None if equals else True
        if equals:
            return value if value != "--" else None
        if left and not left[0].startswith("-"):
            return left.pop(0)
        return True if self.optional else None

    def store(self, values: dict[str, Any], taken: str | bool | None) -> bool:
        """Put a value to the others. Returns False where argparse is to be asked."""
        value: Any = taken
        if taken is True:
            value = True if self.action == "store_true" else self.const
        elif isinstance(taken, str):
            try:
                value = self.type(taken)
            except (TypeError, ValueError):
                return False
            if self.choices is not None and value not in self.choices:
                return False
        if value is None:
            return False
        values[self.dest] = [*values[self.dest], value] if self.action == "append" else value
        return True
