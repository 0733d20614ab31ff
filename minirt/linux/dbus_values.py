"""D-Bus's values as bytes. A value has a type that is known from a signature, a letter a basic type:

    y u8   b bool   n q i u x t  i16 u16 i32 u32 i64 u64   d double   s text   o object path   g signature
    a...   array    (...) struct   {..} entry of a dictionary   v a variant: signature and value

Everything stands at a multiple of its own size, counted from the message's beginning. In Python a struct is a tuple,
an array a list, a variant a pair (signature, value).

    marshal("su", ("x", 7))     # 01 00 00 00 'x' 00, 2 bytes of padding, 07 00 00 00

Source: D-Bus specification 0.43, https://dbus.freedesktop.org/doc/dbus-specification.html#message-protocol-marshaling
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

__all__ = ["marshal", "split", "unmarshal"]

FIXED = {"y": "B", "b": "I", "n": "h", "q": "H", "i": "i", "u": "I", "x": "q", "t": "Q", "d": "d"}
ALIGN = {"y": 1, "n": 2, "q": 2, "x": 8, "t": 8, "d": 8, "(": 8, "{": 8, "g": 1, "v": 1}  # the others: 4


def split(signature: str) -> list[str]:
    """Return the complete types that a signature is made of. Raises: ValueError."""
    types, at = [], 0
    while at < len(signature):
        end = _end(signature, at)
        types.append(signature[at:end])
        at = end
    return types


def _end(signature: str, at: int) -> int:
    """Return where the type that begins at a place ends."""
    while signature[at : at + 1] == "a":
        at += 1
    letter = signature[at : at + 1]
    if letter and (letter in FIXED or letter in "sogv"):
        return at + 1
    if letter not in ("(", "{"):
        raise ValueError(f"{signature!r} is no D-Bus signature")
    at += 1
    while signature[at : at + 1] not in (")", "}"):
        at = _end(signature, at)
    return at + 1


def marshal(signature: str, values: Sequence[Any], out: bytearray | None = None) -> bytearray:
    """Return values as bytes, appended to what there is already. Raises: ValueError, struct.error, TypeError."""
    out = bytearray() if out is None else out
    for kind, value in zip(split(signature), values, strict=True):
        _put(out, kind, value)
    return out


def _pad(out: bytearray, kind: str) -> None:
    out += bytes(-len(out) % ALIGN.get(kind[0], 4))


def _put(out: bytearray, kind: str, value: Any) -> None:
    _pad(out, kind)
    letter = kind[0]
    if letter in FIXED:
        out += struct.pack("<" + FIXED[letter], value)
    elif letter in "so":
        data = value.encode()
        out += struct.pack("<I", len(data)) + data + b"\0"
    elif letter == "g":
        data = value.encode("ascii")
        out += struct.pack("<B", len(data)) + data + b"\0"
    elif letter == "v":
        marshal("g" + value[0], value, out)
    elif letter == "a":
        length = len(out)
        out += bytes(4)
        _pad(out, kind[1:])
        start = len(out)  # the length does not count the padding before the first element
        for item in value:
            _put(out, kind[1:], item)
        struct.pack_into("<I", out, length, len(out) - start)
    else:
        marshal(kind[1:-1], value, out)


def unmarshal(signature: str, data: bytes | bytearray, at: int = 0) -> tuple[list[Any], int]:
    """Return the values that bytes mean, and where they end. Raises: ValueError, struct.error."""
    values = []
    for kind in split(signature):
        value, at = _take(kind, data, at)
        values.append(value)
    return values, at


def _take(kind: str, data: bytes | bytearray, at: int) -> tuple[Any, int]:
    letter = kind[0]
    at += -at % ALIGN.get(letter, 4)
    if letter in FIXED:
        (value,) = struct.unpack_from("<" + FIXED[letter], data, at)
        return bool(value) if letter == "b" else value, at + struct.calcsize("<" + FIXED[letter])
    if letter in "sog":
        size, at = _take("y" if letter == "g" else "u", data, at)
        return bytes(data[at : at + size]).decode(), at + size + 1
    if letter == "v":
        inner, at = _take("g", data, at)
        value, at = _take(inner, data, at)
        return (inner, value), at
    if letter == "a":
        size, at = _take("u", data, at)
        at += -at % ALIGN.get(kind[1], 4)
        items, end = [], at + size
        while at < end:
            item, at = _take(kind[1:], data, at)
            items.append(item)
        return items, at
    values, at = unmarshal(kind[1:-1], data, at)
    return tuple(values), at
