"""An error of the JSON schema, in words for who wrote the file: where it is, and what is expected there."""

from __future__ import annotations

from minirt.compose.text import Path
from minirt.errors import nearest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = ["NUMBER", "TRUTH", "told"]

# What a text must look like where it stands for a truth or a number; the schema is given these (fields.py).
TRUTH = "^([Tt]rue|[Ff]alse|[Yy]es|[Nn]o|[Oo]n|[Oo]ff|[Yy]|[Nn])$"
NUMBER = r"^-?[0-9]+(\.[0-9]*)?$"

TYPES = {"string": "a text", "integer": "a number", "number": "a number", "boolean": "true or false", "array": "a list",
         "object": "a mapping", "null": "nothing"}  # fmt: skip


def told(error: Any) -> tuple[Path, str]:
    """Return where the trouble is, and what it is. Args: error, jsonschema's ValidationError."""
    path: Path = tuple(error.absolute_path)
    value, wanted = error.instance, error.validator_value
    match error.validator:
        case "oneOf" | "anyOf":
            return closest(error)
        case "type":
            return path, expected([wanted] if isinstance(wanted, str) else wanted, value)
        case "additionalProperties":
            return unknown(error, path)
        case "required":
            missing = next(name for name in wanted if name not in value)
            return path, f"{missing} is missing"
        case "enum":
            return path, f"one of {', '.join(sorted(map(str, wanted)))} is expected, not {value!r}"
        case "pattern":
            return path, patterned(wanted, error.schema, value)
        case "uniqueItems":
            return path, "one thing stands there twice"
        case "minimum" | "maximum":
            return path, f"{value} is {'less' if error.validator == 'minimum' else 'more'} than {wanted}"
    return path, str(error.message).splitlines()[0]


def closest(error: Any) -> tuple[Path, str]:
    """Return what is wrong with the alternative that a value was meant to be: the one of its type."""
    branches: dict[Any, list[Any]] = {}
    for inner in error.context:
        branches.setdefault(inner.relative_schema_path[0], []).append(inner)
    for inners in branches.values():
        if not any(inner.validator == "type" and not inner.relative_path for inner in inners):
            return told(inners[0])
    kinds = [kind for inners in branches.values() for inner in inners if inner.validator == "type" for kind in listed(inner)]
    if not kinds:  # it is several of them at once
        return tuple(error.absolute_path), "it could mean several things"
    return tuple(error.absolute_path), expected(kinds, error.instance)


def listed(error: Any) -> list[str]:
    """Return the types of an error of type at the top of its alternative."""
    wanted = error.validator_value
    return [] if error.relative_path else [wanted] if isinstance(wanted, str) else list(wanted)


def expected(kinds: Iterable[str], value: Any) -> str:
    """Say which types are expected, and what is there."""
    words = dict.fromkeys(TYPES.get(kind, kind) for kind in kinds)
    found = {dict: "a mapping", list: "a list", type(None): "nothing"}.get(type(value)) or repr(value)
    return f"{' or '.join(words)} is expected, not {found}"


def unknown(error: Any, path: Path) -> tuple[Path, str]:
    """Say which field there is not, and which is written most like it."""
    import re

    known = list(error.schema.get("properties", ()))
    patterns = error.schema.get("patternProperties", ())
    key = next(name for name in error.instance if name not in known and not any(re.search(one, name) for one in patterns))
    if not known:
        return (*path, key), "a name is made of letters, digits, . _ -"
    near = nearest(key, known)
    return (*path, key), f"there is no such field{f'; is {near} meant?' if near else ''}"


def patterned(pattern: str, schema: dict[str, Any], value: str) -> str:
    """Say what a text is to look like."""
    if pattern in (NUMBER, TRUTH):
        return f"{'a number' if pattern == NUMBER else 'true or false'} is expected, not {value!r}"
    return f"{value!r} is not written as it must be: {pattern}"
