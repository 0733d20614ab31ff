"""Sizes, times and tables as docker prints them."""

from __future__ import annotations

__all__ = ["human", "short", "since", "table"]


def short(digest: str) -> str:
    """Return the twelve digits of a digest that people type."""
    return digest.partition(":")[2][:12]


def human(size: int) -> str:
    """Return a size as docker prints it: three digits, powers of a thousand."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 999.5 or unit == "TB":
            break
        value /= 1000
    return f"{value:.3g}{unit}"


def since(created: str) -> str:
    """Return how long ago a time of RFC 3339 was."""
    import calendar
    import time

    try:
        seconds = int(time.time() - calendar.timegm(time.strptime(created[:19], "%Y-%m-%dT%H:%M:%S")))
    except (TypeError, ValueError):
        return "unknown"
    for unit, length in (("year", 31536000), ("month", 2592000), ("week", 604800), ("day", 86400),
                         ("hour", 3600), ("minute", 60), ("second", 1)):  # fmt: skip
        count = seconds // length
        if count >= (1 if unit == "second" else 2):
            return f"{count} {unit}{'s' * (count > 1)} ago"
    return "just now"


def table(rows: list[list[str]]) -> None:
    """Print rows of cells, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("   ".join(map(str.ljust, row, widths)).rstrip())
