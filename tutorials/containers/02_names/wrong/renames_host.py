"""hostname: the name is set wherever it is given, also where the UTS namespace is the host's.

The check says: host-name: s
"""

from minirt.oci.step import Context, step
from minirt.plan import Plan


@step("hostname", "namespaces", why="give the container a name of its own")
def hostname(p: Plan, c: Context) -> None:
    if c.config.get("hostname"):
        p.sethostname(c.config["hostname"])
    if c.config.get("domainname"):
        p.setdomainname(c.config["domainname"])
