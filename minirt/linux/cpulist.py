"""Lists of processors and of memory nodes, as the kernel writes and takes them: 0-3,7 (man 7 cpuset, List format)."""

from __future__ import annotations

__all__ = ["mask", "numbers"]

MOST = 1 << 16  # more than any machine has (CONFIG_NR_CPUS is at most 8192)


def numbers(text: str) -> list[int]:
    """Return the numbers of a list, in its order; none for a blank one. Raises: ValueError, which says what is wrong with it."""
    found: list[int] = []
    for part in map(str.strip, text.split(",") if text.strip() else ()):
        first, dash, last = part.partition("-")
        if not (first.isascii() and first.isdigit()) or (dash and not (last.isascii() and last.isdigit())):
            raise ValueError("is not a list of numbers and ranges, as 0-3,7")
        begin, end = int(first), int(last or first)
        if end >= MOST:
            raise ValueError(f"names a number that no machine has: {part}")
        if end < begin:
            raise ValueError(f"has a range that ends before it begins: {part}")
        found += range(begin, end + 1)
    return found


def mask(text: str) -> int:
    """Return a list as a bit mask, bit N for number N. Raises: ValueError."""
    bits = 0
    for number in numbers(text):
        bits |= 1 << number
    return bits
