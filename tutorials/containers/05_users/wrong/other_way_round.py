"""map_text: outside first, as one thinks of it from outside.

The check says: born: EINVAL
"""

from collections.abc import Sequence


def map_text(mappings: Sequence[dict[str, int]]) -> str:
    return "".join(f"{m['hostID']} {m['containerID']} {m['size']}\n" for m in mappings)
