"""user: the user first, as it is what matters most.

The check says: born: setresgid
"""

from errno import EPERM

from minirt.linux import constants as k
from minirt.oci.process import identity
from minirt.oci.step import Context, step
from minirt.plan import Plan


@step("user", "namespaces", why="become the user that the program runs as")
def user(p: Plan, c: Context) -> None:
    uid, gid, count, groups = identity(p, c)
    p.setgroups(count, groups, tolerate=(EPERM,) if c.rootless else ())
    p.umask((c.process.get("user") or {}).get("umask", 0o022))
    p.prctl(k.PR_SET_KEEPCAPS, 1)
    p.setresuid(uid, uid, uid)
    p.setresgid(gid, gid, gid)
