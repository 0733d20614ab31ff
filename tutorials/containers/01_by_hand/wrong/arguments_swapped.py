"""propagation: the arguments of mount(2) in the order of mount(8), the flags where the type is.

The check says: born: EFAULT
"""

from minirt.linux import constants as k
from minirt.oci.step import Context, step
from minirt.plan import Plan


@step("propagation", "namespaces", why="keep what is mounted here from appearing on the host")
def propagation(p: Plan, c: Context) -> None:
    p.mount("/", None, k.MS_REC | k.MS_PRIVATE, 0)
