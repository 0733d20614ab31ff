"""propagation: / is made private, and what is mounted below it is not: taking the old root off unmounts it on the host.

The check says: host-unmounted: /dev/
"""

from minirt.linux import constants as k
from minirt.oci.step import Context, step
from minirt.plan import Plan


@step("propagation", "namespaces", why="keep what is mounted here from appearing on the host")
def propagation(p: Plan, c: Context) -> None:
    p.mount(None, "/", None, k.MS_PRIVATE)
