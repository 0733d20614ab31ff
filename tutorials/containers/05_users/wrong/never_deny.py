"""write_maps: setgroups stays allowed, which without privilege lets no group be mapped.

The check says: without-root: Operation not permitted
"""

from collections.abc import Sequence
from typing import Any

from minirt.linux.userns import _write, map_text


def write_maps(pid: int, uids: Sequence[dict[str, int]], gids: Sequence[dict[str, int]], sink: Any = None) -> None:
    _write(pid, "gid_map", map_text(gids), "groups", sink)
    _write(pid, "uid_map", map_text(uids), "users", sink)
