"""limits: the hard limit for both, as `ulimit -n` sets both.

The check says: limits: cpu time
"""

from minirt.linux import constants as k
from minirt.oci.step import Context, step
from minirt.plan import Plan, Words


@step("limits", why="limit what one process may use")
def limits(p: Plan, c: Context) -> None:
    for limit in c.process.get("rlimits") or ():
        p.prlimit64(0, getattr(k, limit["type"]), Words(limit["hard"], limit["hard"]), None)
