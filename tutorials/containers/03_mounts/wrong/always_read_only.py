"""read_only_root: whatever config.json says.

The check says: shared-written: nothing
"""

from minirt.linux import constants as k
from minirt.oci.step import Context, step
from minirt.plan import Plan, Words


@step("readonly_root", "pivot_root", why="make the root file system read-only")
def read_only_root(p: Plan, c: Context) -> None:
    p.mount_setattr(k.AT_FDCWD, "/", 0, Words(k.MOUNT_ATTR_RDONLY, 0, 0, 0), 32)
