"""propagation: the copy of the mounts is taken to be enough; each mount still tells its original.

The check says: host-mounted: merged
"""

from minirt.oci.step import Context, step
from minirt.plan import Plan


@step("propagation", "namespaces", why="keep what is mounted here from appearing on the host")
def propagation(p: Plan, c: Context) -> None:
    pass
