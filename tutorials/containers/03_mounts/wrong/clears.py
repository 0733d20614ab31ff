"""read_only_root: the flag in the second word of struct mount_attr, which says what to take away.

The check says: read-only: /: rw
"""

from minirt.linux import constants as k
from minirt.oci.step import Context, step
from minirt.plan import Plan, Words


@step("readonly_root", "pivot_root", why="make the root file system read-only")
def read_only_root(p: Plan, c: Context) -> None:
    if (c.config.get("root") or {}).get("readonly"):
        p.mount_setattr(k.AT_FDCWD, "/", 0, Words(0, k.MOUNT_ATTR_RDONLY, 0, 0), 32)
