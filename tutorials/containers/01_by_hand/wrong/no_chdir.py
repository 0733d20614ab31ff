"""pivot_root: without chdir both arguments mean the directory that minirt stands in, which is no mount point.

The check says: born: the new root is the current root
"""

from minirt.oci.step import Context, step
from minirt.plan import Plan


@step("pivot_root", "propagation", "overlay", "rootfs", why="make the new tree the root of this mount namespace")
def pivot_root(p: Plan, c: Context) -> None:
    p.pivot_root(".", ".")
