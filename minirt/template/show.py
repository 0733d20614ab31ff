"""Go's way to print a value (fmt's %v), and printf."""

from __future__ import annotations

import json
import math
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Map", "as_json", "floating", "formatted", "plain"]

VERB = re.compile(r"%([-+# 0]*)(\*|\d+)?(?:\.(\*|\d*))?([a-zA-Z%])")
ESCAPES = {"\a": r"\a", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\v": r"\v"}
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
    """Return a value as docker's `json` prints it: in one line, keys of maps in order, without what is called."""

    def ordered(one: Any) -> Any:
        if isinstance(one, dict):
            keys = sorted(one) if isinstance(one, Map) else one
            return {key: ordered(one[key]) for key in keys if not callable(one[key])}
        return [ordered(item) for item in one] if isinstance(one, (list, tuple)) else one

    if callable(value):
        return "{}"
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
        bad, limits = "", [width, precision]
        for place, word in enumerate(("WIDTH", "PREC")):
            if limits[place] == "*":  # the number is the next value
                star: Any = rest.pop(0) if rest else None
                good = is_whole(star) and (star >= 0 or not place)
                flags += "-" if good and star < 0 else ""
                limits[place], bad = (str(abs(star)), bad) if good else (None, f"{bad}%!(BAD{word})")
        if not rest:
            return f"{bad}%!{verb}(MISSING)"
        size, digits = (min(int(limit or 0), WIDEST) for limit in limits)
        return bad + shaped(rest.pop(0), verb, flags, size, None if limits[1] is None else digits)

    made = VERB.sub(one, text)
    if rest:
        made += "%!(EXTRA " + ", ".join(f"{go_type(value)}={plain(value, False)}" for value in rest) + ")"
    return made


def shaped(value: Any, verb: str, flags: str, width: int, precision: int | None) -> str:
    """Return one value by one verb, as wide as it is to be; a value that the verb does not fit as Go tells of it."""
    shown = worded(value, verb, flags, precision)
    if shown is None:
        return f"%!{verb}({go_type(value)}={shaped(value, 'v', flags, width, precision)})"
    if "-" in flags:
        return shown.ljust(width)
    if "0" not in flags or (is_whole(value) and precision is not None):
        return shown.rjust(width)
    return shown.zfill(width) if isinstance(value, (int, float)) else shown.rjust(width, "0")


def worded(value: Any, verb: str, flags: str, precision: int | None) -> str | None:
    """Return one value by one verb, None where they do not fit."""
    if verb == "T":
        return go_type(value)
    if isinstance(value, str):
        return of_text(value if precision is None or verb not in "vsq" else value[:precision], verb)
    if isinstance(value, bool):
        return plain(value) if verb in "vt" else None
    if is_whole(value):
        return of_integer(value, verb, flags, precision)
    if isinstance(value, float):
        shown = of_float(value, verb, precision)
        return f"+{shown}" if shown and "+" in flags and value >= 0 else shown
    return plain(value, False) if verb in "vs" else None


def is_whole(value: Any) -> bool:
    """Return whether Go has it as an int."""
    return isinstance(value, int) and not isinstance(value, bool)


def of_text(text: str, verb: str) -> str | None:
    """Return a string by %v %s %q %x %X."""
    if verb in "xX":
        return text.encode().hex() if verb == "x" else text.encode().hex().upper()
    return text if verb in "vs" else quoted(text, '"') if verb == "q" else None


def of_integer(value: int, verb: str, flags: str, precision: int | None) -> str | None:
    """Return an int by %v %d %x %X %o %b %c %q; the precision is the fewest digits."""
    if verb in "cq":
        sign = chr(value) if 0 <= value < 0x110000 else "\ufffd"
        return sign if verb == "c" else quoted(sign, "'")
    if verb not in "vdxXob":
        return None
    digits = format(abs(value), "d" if verb == "v" else verb).zfill(precision or 0) if value or precision != 0 else ""
    return ("-" if value < 0 else "+" if "+" in flags else "") + digits


def of_float(value: float, verb: str, precision: int | None) -> str | None:
    """Return a float64 by %v %g %G %e %E %f %F, or its bits by %x %X %b."""
    if verb == "b":
        part, power = math.frexp(value)
        return f"{int(part * 2**53)}p{power - 53:+d}"
    if verb in "xX":
        digits, exponent = value.hex().split("p")
        shown = f"{digits.rstrip('0').rstrip('.')}p{exponent[0]}{exponent[1:].zfill(2)}"
        return shown if verb == "x" else shown.upper()
    if verb in "vgG":
        return floating(value) if precision is None else format(value, f".{precision}{'G' if verb == 'G' else 'g'}")
    return format(value, f".{6 if precision is None else min(precision, 100)}{verb}") if verb in "eEfF" else None


def quoted(text: str, mark: str) -> str:
    """Return a text between marks, as Go's source has it (its package strconv: Quote, QuoteRune)."""

    def one(sign: str) -> str:
        if sign in (mark, "\\"):
            return "\\" + sign
        if sign in ESCAPES:
            return ESCAPES[sign]
        if sign.isprintable():
            return sign
        code = ord(sign)
        return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

    return mark + "".join(map(one, text)) + mark


def go_type(value: Any) -> str:
    """Return what Go calls a value's type."""
    if value is None:
        return "<nil>"
    names = {bool: "bool", int: "int", float: "float64", str: "string", list: "[]interface {}", tuple: "[]interface {}"}
    return names.get(type(value), "map[string]interface {}")
