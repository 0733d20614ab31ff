"""user: the supplementary groups forgotten; whoever called the runtime passes on his own.

The check says: groups: Groups
"""

from minirt.linux import constants as k
from minirt.oci.process import identity
from minirt.oci.step import Context, step
from minirt.plan import Plan


@step("user", "namespaces", why="become the user that the program runs as")
def user(p: Plan, c: Context) -> None:
    uid, gid, _, _ = identity(p, c)
    p.umask((c.process.get("user") or {}).get("umask", 0o022))
    p.prctl(k.PR_SET_KEEPCAPS, 1)
    p.setresgid(gid, gid, gid)
    p.setresuid(uid, uid, uid)
