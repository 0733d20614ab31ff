"""old_root: umount2 without MNT_DETACH, though the host's mounts lie in the old root.

The check says: born: EBUSY
"""

from minirt.oci.step import Context, step
from minirt.plan import Plan


@step("old_root", "pivot_root", why="let go of the host's files")
def old_root(p: Plan, c: Context) -> None:
    p.umount2(".", 0)
    p.chdir("/")
