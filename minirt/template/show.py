"""Go's way to print a value (fmt's %v), and printf."""

from __future__ import annotations

import json
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Map", "as_json", "floating", "formatted", "plain"]

VERB = re.compile(r"%([-+# 0]*)(\*|\d+)?(?:\.(\*|\d+)?)?([a-zA-Z%])")
WIDEST = 10_000  # letters of padding


class Map(dict[str, "Any"]):
    """Keys that are data, as labels are: one that is not there is no mistake. A plain dict has fields as a Go struct."""


def plain(value: Any, top: bool = True) -> str:
    """Return a value as %v prints it; nothing at all is `<no value>` at the top, as text/template has it."""
    if value is None:
        return "<no value>" if top else "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return floating(value)
    if isinstance(value, Map):
        return "map[" + " ".join(f"{key}:{plain(value[key], False)}" for key in sorted(value)) + "]"
    if isinstance(value, dict):
        return "{" + " ".join(plain(one, False) for one in value.values()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(plain(one, False) for one in value) + "]"
    return str(value)


def floating(value: float) -> str:
    """Return a number as %v prints a float64: the shortest form, with an exponent from 1e+06 on."""
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    if value == 0 or 1e-4 <= abs(value) < 1e6:
        return repr(value).removesuffix(".0")
    digits = next(text for text in (format(value, f".{n}e") for n in range(17)) if float(text) == value)
    mantissa, _, exponent = digits.partition("e")
    return f"{mantissa}e{int(exponent):+03d}"


def as_json(value: Any) -> str:
    """Return a value as docker's `json` prints it: in one line, keys of maps in order."""

    def ordered(one: Any) -> Any:
        if isinstance(one, dict):
            keys = sorted(one) if isinstance(one, Map) else one
            return {key: ordered(one[key]) for key in keys}
        return [ordered(item) for item in one] if isinstance(one, (list, tuple)) else one

    return json.dumps(ordered(value), separators=(",", ":"), ensure_ascii=False)


def formatted(text: str, values: tuple[Any, ...]) -> str:
    """Return what Go's Sprintf makes of %s %v %d %q %t %x %X %o %b %c %f %e %g %T, and widths.

    What does not fit is said in the text, in Go's words.
    """
    rest = list(values)

    def one(found: re.Match[str]) -> str:
        flags, width, precision, verb = found.groups()
        if verb == "%":
            return "%"
        if width == "*":
            width = str(rest.pop(0)) if rest else ""
        if not rest:
            return f"%!{verb}(MISSING)"
        value = rest.pop(0)
        shown = shaped(value, verb, int(precision) if precision and precision.isdigit() else None, flags)
        size = min(int(width), WIDEST) if width and width.lstrip("-").isdigit() else 0
        if "-" in flags:
            return shown.ljust(size)
        if "0" in flags and verb in "dxXobeEfFgG":
            return shown.zfill(size)
        return shown.rjust(size)

    made = VERB.sub(one, text)
    if rest:
        made += "%!(EXTRA " + ", ".join(f"{go_type(value)}={plain(value, False)}" for value in rest) + ")"
    return made


def shaped(value: Any, verb: str, precision: int | None, flags: str) -> str:
    """Return one value by one verb."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if verb in "vs":
        shown = plain(value, False)
        if verb == "s" and (whole or isinstance(value, (bool, float))):
            return f"%!s({go_type(value)}={shown})"
        return shown[:precision] if precision is not None and isinstance(value, str) else shown
    if verb == "q" and isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if verb == "t" and isinstance(value, bool):
        return plain(value)
    if verb == "T":
        return go_type(value)
    if verb in "dxXobc" and whole:
        if verb == "c":
            return chr(value) if 0 <= value < 0x110000 else "\ufffd"
        return ("+" if "+" in flags and value >= 0 else "") + format(value, verb)
    if verb in "xX" and isinstance(value, str):
        return value.encode().hex() if verb == "x" else value.encode().hex().upper()
    if verb in "eEfFgG" and isinstance(value, float):
        if verb in "gG" and precision is None:
            return floating(value)
        return format(value, f".{6 if precision is None else min(precision, 100)}{verb}")
    return f"%!{verb}({go_type(value)}={plain(value, False)})"


def go_type(value: Any) -> str:
    """Return what Go calls a value's type."""
    if value is None:
        return "<nil>"
    names = {bool: "bool", int: "int", float: "float64", str: "string", list: "[]interface {}", tuple: "[]interface {}"}
    return names.get(type(value), "map[string]interface {}")
