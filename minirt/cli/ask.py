"""A question before something is removed that cannot be brought back, as docker asks it."""

from __future__ import annotations

import sys

__all__ = ["agreed"]


def agreed(force: bool, warning: str) -> bool:
    """Say whether to go on: with --force, or by a `y` on standard input; an empty one is no."""
    if force:
        return True
    print(f"WARNING! {warning}\nAre you sure you want to continue? [y/N] ", end="", flush=True)
    answer = sys.stdin.readline().strip().lower()
    if not sys.stdin.isatty():
        print()
    return answer == "y"
