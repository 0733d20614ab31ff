"""Exercise of lesson 1: the three steps that give a container its root. Fill them in; `minirt` then runs with yours.

    p   the plan: p.mount(...), p.chdir(...), p.pivot_root(...), p.umount2(...) append one call each
    c   the container: c.root is the directory on which its image is mounted already

Check it, as root:  .venv/bin/python tutorials/containers/01_by_hand/check.py
"""

from minirt.linux import constants as k
from minirt.oci.step import Context, step
from minirt.plan import Plan

__all__ = ["Context", "Plan", "k", "old_root", "pivot_root", "propagation"]


@step("propagation", "namespaces", why="keep what is mounted here from appearing on the host")
def propagation(p: Plan, c: Context) -> None:
    """One call: from here on nothing that is mounted in this namespace is told to the namespace it was copied from."""
    raise NotImplementedError


@step("pivot_root", "propagation", "overlay", "rootfs", why="make the new tree the root of this mount namespace")
def pivot_root(p: Plan, c: Context) -> None:
    """Two calls: go where the new root is, and make it the root; the old one comes to lie over it."""
    raise NotImplementedError


@step("old_root", "pivot_root", why="let go of the host's files")
def old_root(p: Plan, c: Context) -> None:
    """Two calls: take the old root off with all that is mounted in it, and stand in the new one."""
    raise NotImplementedError
