"""hostname: the host name alone; a UTS namespace has a second name, of the NIS domain.

The check says: domain: (none)
"""

from minirt.oci.step import Context, step
from minirt.plan import Plan


@step("hostname", "namespaces", why="give the container a name of its own")
def hostname(p: Plan, c: Context) -> None:
    if any(namespace["type"] == "uts" for namespace in c.linux["namespaces"]):
        p.sethostname(c.config["hostname"])
