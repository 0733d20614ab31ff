"""read_only_root: with AT_RECURSIVE all that is mounted on the root becomes read-only, too: volumes, /tmp, /dev.

The check says: read-only: /volume: ro
"""

from minirt.linux import constants as k
from minirt.oci.step import Context, step
from minirt.plan import Plan, Words


@step("readonly_root", "pivot_root", why="make the root file system read-only")
def read_only_root(p: Plan, c: Context) -> None:
    if (c.config.get("root") or {}).get("readonly"):
        p.mount_setattr(k.AT_FDCWD, "/", k.AT_RECURSIVE, Words(k.MOUNT_ATTR_RDONLY, 0, 0, 0), 32)
