"""Moments and durations as people write them, for --since, --until and filters."""

from __future__ import annotations

import time
from datetime import UTC

from minirt.errors import UsageError

__all__ = ["duration", "moment", "seconds"]

UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def moment(text: str) -> str:
    """Return a time as logs have it (RFC 3339, UTC, to the nanosecond), nothing for nothing. Raises: UsageError.

    Args: text, as for `seconds`.
    """
    from datetime import datetime

    if not text:
        return ""
    whole, dot, rest = text.partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    exact = bool(dot and digits) and duration(text) is None
    try:
        when = datetime.fromtimestamp(seconds(whole + rest[len(digits) :] if exact else text), UTC)
    except (OverflowError, ValueError, OSError):
        raise UsageError(f"time {text!r}: beyond the years that there are") from None
    return f"{when:%Y-%m-%dT%H:%M:%S}.{digits[:9].ljust(9, '0') if exact else f'{when.microsecond:06d}000'}Z"


def seconds(text: str) -> float:
    """Return seconds since 1970; given so, as RFC 3339, or as how long ago it was (10m, 1h30m). Raises: UsageError."""
    from datetime import datetime

    try:
        return float(text)
    except ValueError:
        ago = duration(text)
    if ago is not None:
        return time.time() - ago
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        raise UsageError(f"time {text!r}: write 2026-11-25T12:00:00Z, seconds since 1970, or 10m for so long ago") from None


def duration(text: str) -> float | None:
    """Return the seconds of a duration as Go writes it (1h2m3.5s); None where it is none."""
    total, number, rest = 0.0, "", text
    while rest:
        if rest[0].isdigit() or rest[0] == ".":
            number, rest = number + rest[0], rest[1:]
            continue
        unit = next((unit for unit in ("ns", "us", "ms", "h", "m", "s") if rest.startswith(unit)), "")
        if not unit or not number or number.count(".") > 1 or number == ".":
            return None
        total += float(number) * UNITS[unit]
        number, rest = "", rest[len(unit) :]
    return total if text and not number else None
