"""The kernel's constants by their own names, from its headers: `from minirt.linux.constants import CLONE_NEWUTS`.

They are compiled in (csrc/plan/constants.txt lists them), not copied. Looking one up costs about 0.1 us.
"""

from __future__ import annotations

from minirt.linux.direct import constant

__all__ = ["names_of"]


def __getattr__(name: str) -> int:
    try:
        value = constant(name)
    except KeyError:
        raise AttributeError(f"no kernel constant {name} in csrc/plan/constants.txt") from None
    globals()[name] = value
    return value


def names_of(prefix: str) -> dict[str, int]:
    """Return every constant whose name starts so, for decoding flags; by name."""
    from minirt.linux._sys import lib

    return {name: getattr(lib, name) for name in dir(lib) if name.startswith(prefix)}
