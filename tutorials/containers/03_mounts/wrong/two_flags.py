"""root_propagation: private first and then shared, in one call: the kernel takes one kind at a time.

The check says: born: EINVAL
"""

from minirt.linux import constants as k
from minirt.oci.options import PROPAGATION
from minirt.oci.rootfs import wanted_propagation
from minirt.oci.step import Context, step
from minirt.plan import Plan


@step("root_propagation", "pivot_root", why="say who hears of what is mounted in the container later")
def root_propagation(p: Plan, c: Context) -> None:
    wanted = wanted_propagation(c)
    if not wanted.endswith("private"):
        p.mount(None, "/", None, k.MS_PRIVATE | getattr(k, PROPAGATION[wanted]))
