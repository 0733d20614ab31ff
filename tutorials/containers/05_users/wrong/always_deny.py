"""write_maps: setgroups denied in any case, though a program that changes its user must be able to drop its groups.

The check says: born: EPERM
"""

from collections.abc import Sequence
from typing import Any

from minirt.linux.userns import _write, map_text


def write_maps(pid: int, uids: Sequence[dict[str, int]], gids: Sequence[dict[str, int]], sink: Any = None) -> None:
    _write(pid, "setgroups", "deny", "", sink)
    _write(pid, "gid_map", map_text(gids), "groups", sink)
    _write(pid, "uid_map", map_text(uids), "users", sink)
