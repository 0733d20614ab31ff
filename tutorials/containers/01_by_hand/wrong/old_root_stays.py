"""old_root: nothing takes the old root off, so that .. at / leads to the host.

The check says: host-files: the container read /var/tmp/
"""

from minirt.oci.step import Context, step
from minirt.plan import Plan


@step("old_root", "pivot_root", why="let go of the host's files")
def old_root(p: Plan, c: Context) -> None:
    p.chdir("/")
