"""JSON without the json module: its C half alone, as its Python half loads `re` and costs as much as a container.

Measured: `import json` 7 ms, `import _json` 0.4; a runc-compatible runtime is started four times in a container's life.
"""

from __future__ import annotations

from minirt.errors import MinirtError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["BadDocument", "dumps", "load_file", "loads", "pretty"]


class BadDocument(MinirtError):
    """A text is not JSON (RFC 8259)."""


class _Decoder:
    """What json.scanner asks a decoder for."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    memo: dict[str, str] = {}

    @staticmethod
    def parse_constant(name: str) -> float:
        """Refuse NaN and Infinity, which JSON does not have."""
        raise ValueError(f"{name} is not JSON")


def loads(text: str, where: str = "document") -> Any:
    """Return what a JSON text says.

    Args:
        text: the whole text.
        where: its name, for messages.

    Raises: BadDocument.
    """
    try:
        from _json import make_scanner
    except ImportError:  # another Python than CPython
        import json

        return json.loads(text)
    start = len(text) - len(text.lstrip(" \t\n\r"))
    try:
        value, end = make_scanner(_Decoder)(text, start)  # type: ignore[arg-type]
    except StopIteration as stop:
        raise BadDocument(f"{where}: not JSON: a value is missing at {place(text, stop.value)}") from None
    except RecursionError:
        raise BadDocument(f"{where}: not JSON that anybody means: nested too deep") from None
    except ValueError as error:
        raise BadDocument(f"{where}: not JSON: {error}") from None
    except SystemError:  # it wants to raise json.JSONDecodeError, and takes that from the module only if that is loaded
        import json

        return loads(text, where)
    if text[end:].strip(" \t\n\r"):
        raise BadDocument(f"{where}: not JSON: more after the end, at {place(text, end)}")
    return value


def place(text: str, at: int) -> str:
    """Return a place in a text as people count."""
    return f"line {text.count(chr(10), 0, at) + 1}"


def load_file(path: str) -> Any:
    """Return what a JSON file says. Raises: BadDocument, OSError."""
    with open(path, "rb", buffering=0) as file:
        data = file.read()
    try:
        return loads(data.decode("utf-8"), path)
    except UnicodeDecodeError:
        raise BadDocument(f"{path}: not UTF-8, which JSON is") from None


def dumps(value: Any) -> str:
    """Return a value as JSON on one line."""
    try:
        from _json import encode_basestring_ascii, make_encoder
    except ImportError:
        import json

        return json.dumps(value)
    return "".join(make_encoder(None, _refuse, encode_basestring_ascii, None, ": ", ", ", False, False, False)(value, 0))


def _refuse(value: object) -> Any:
    raise TypeError(f"{type(value).__name__} has no JSON")


def pretty(value: Any, indent: str = "") -> str:
    """Return a value as JSON on many lines, two spaces a level, as runc prints it."""
    if not value or not isinstance(value, (dict, list, tuple)):
        return dumps(value)
    deeper = indent + "  "
    if isinstance(value, dict):
        items = [f"{deeper}{dumps(str(key))}: {pretty(item, deeper)}" for key, item in value.items()]
        opening, closing = "{", "}"
    else:
        items = [f"{deeper}{pretty(item, deeper)}" for item in value]
        opening, closing = "[", "]"
    return opening + "\n" + ",\n".join(items) + f"\n{indent}{closing}"
