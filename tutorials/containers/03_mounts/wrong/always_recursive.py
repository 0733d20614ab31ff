"""root_propagation: MS_REC in any case, though `shared` is said of the root alone.

The check says: shared: /proc: shared
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
        p.mount(None, "/", None, k.MS_REC | getattr(k, PROPAGATION[wanted]))
