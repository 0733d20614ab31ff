"""limits: the two numbers in the order in which config.json has them: the hard one first.

The check says: born: prlimit64
"""

from minirt.linux import constants as k
from minirt.oci.step import Context, step
from minirt.plan import Plan, Words


@step("limits", why="limit what one process may use")
def limits(p: Plan, c: Context) -> None:
    for limit in c.process.get("rlimits") or ():
        p.prlimit64(0, getattr(k, limit["type"]), Words(limit["hard"], limit["soft"]), None)
