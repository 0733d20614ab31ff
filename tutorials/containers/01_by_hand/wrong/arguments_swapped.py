"""propagation: the arguments of mount(2) in the order of mount(8), the flags where the type is.

The check says: not-born: EFAULT
"""

from minirt.linux import constants as k
from minirt.oci.step import Context, step
from minirt.plan import Plan

__all__ = ["Context", "Plan", "k", "old_root", "pivot_root", "propagation"]


@step("propagation", "namespaces", why="keep what is mounted here from appearing on the host")
def propagation(p: Plan, c: Context) -> None:
    p.mount("/", None, k.MS_REC | k.MS_PRIVATE, 0)


@step("pivot_root", "propagation", "overlay", "rootfs", why="make the new tree the root of this mount namespace")
def pivot_root(p: Plan, c: Context) -> None:
    p.chdir(c.root)
    p.pivot_root(".", ".")


@step("old_root", "pivot_root", why="let go of the host's files")
def old_root(p: Plan, c: Context) -> None:
    p.umount2(".", k.MNT_DETACH)
    p.chdir("/")
