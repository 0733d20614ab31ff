"""`--chmod`: a mode in octal, or letters that change the one a file has (POSIX.1-2017 chmod, "symbolic mode").

    0755      u=rwX,go=rX      a+r      g-w,+x      u+s,+t

X is x for a directory and for what somebody may execute already. Without u, g, o or a it is everybody, whatever the umask.
"""

from __future__ import annotations

import stat

from minirt.build.errors import BuildError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Mode = Callable[[int], int]  # from st_mode to permission bits

__all__ = ["parse_mode"]

CLASSES = {"u": 0o4700, "g": 0o2070, "o": 0o1007, "a": 0o7777}
BITS = {"r": 0o444, "w": 0o222, "x": 0o111, "s": 0o6000, "t": 0o1000}


def parse_mode(text: str) -> Mode | None:
    """Return what --chmod=TEXT does to a mode, or None for nothing. Raises BuildError."""
    if not text:
        return None
    if not text.strip("01234567"):
        if len(text) > 5 or int(text, 8) > 0o7777:
            raise BuildError(f"--chmod={text}: more than 7777")
        fixed = int(text, 8)
        return lambda mode: fixed
    clauses = [_clause(part, text) for part in text.split(",")]

    def change(mode: int) -> int:
        for clause in clauses:
            mode = clause(mode)
        return stat.S_IMODE(mode)

    return change


def _clause(part: str, text: str) -> Mode:
    """Return what one clause does: who, then operators with letters."""
    who = part[: len(part) - len(part.lstrip("ugoa"))]
    rest = part[len(who) :]
    mask = 0
    for letter in who or "a":
        mask |= CLASSES[letter]
    actions: list[tuple[str, str]] = []
    for char in rest:
        if char in "+-=":
            actions.append((char, ""))
        elif actions and char in "rwxXst":
            actions[-1] = (actions[-1][0], actions[-1][1] + char)
        else:
            raise BuildError(f"--chmod={text}: a mode is written as 0755 or u=rwX,go=rX")
    if not actions:
        raise BuildError(f"--chmod={text}: a mode is written as 0755 or u=rwX,go=rX")

    def change(mode: int) -> int:
        for operator, letters in actions:
            bits = 0
            for letter in letters:
                if letter != "X":
                    bits |= BITS[letter]
                elif stat.S_ISDIR(mode) or mode & 0o111:
                    bits |= 0o111
            bits &= mask
            if operator == "=":
                mode &= ~(mask & (0o1777 if stat.S_ISDIR(mode) else 0o7777))  # a directory keeps set-ID bits, as GNU chmod has it
            mode = mode & ~bits if operator == "-" else mode | bits
        return mode

    return change
