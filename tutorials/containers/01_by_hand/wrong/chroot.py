"""pivot_root: chroot instead, which moves this process's idea of / and leaves the host's mounts where they are.

The check says: not-the-root: chroot(
"""

from minirt.oci.step import Context, step
from minirt.plan import Plan


@step("pivot_root", "propagation", "overlay", "rootfs", why="make the new tree the root of this mount namespace")
def pivot_root(p: Plan, c: Context) -> None:
    p.chroot(c.root)


@step("old_root", "pivot_root", why="let go of the host's files")
def old_root(p: Plan, c: Context) -> None:
    p.chdir("/")
