"""user: nothing said of capabilities, which are another step's; and that has none any more.

The check says: born: capset
"""

from errno import EPERM

from minirt.oci.process import identity
from minirt.oci.step import Context, step
from minirt.plan import Plan


@step("user", "namespaces", why="become the user that the program runs as")
def user(p: Plan, c: Context) -> None:
    uid, gid, count, groups = identity(p, c)
    p.setgroups(count, groups, tolerate=(EPERM,) if c.rootless else ())
    p.umask((c.process.get("user") or {}).get("umask", 0o022))
    p.setresgid(gid, gid, gid)
    p.setresuid(uid, uid, uid)
